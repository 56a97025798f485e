"""What the cameras are told about a shutter that the training is told to roll."""

from pathlib import Path

import pytest

from deblurgs.config import TrajectoryConfig
from deblurgs.stages.process import ProcessConfig, with_shutter


@pytest.mark.parametrize(
    ("trajectory", "source", "rolling", "readout"),
    [
        (TrajectoryConfig(rolling_shutter=True), "clip.MP4", True, None),
        (TrajectoryConfig(rolling_shutter=True), "photos", False, None),
        (TrajectoryConfig(kind="continuous", rolling_shutter=True), "photos", True, None),
        (TrajectoryConfig(kind="continuous", readout=0.4), "photos", True, 0.4),
        (TrajectoryConfig(readout=1.5), "clip.mp4", True, None),  # in exposures, whose length is unknown
        (TrajectoryConfig(kind="continuous"), "clip.mp4", False, None),
        (TrajectoryConfig(kind="continuous", readout=0.0), "clip.mp4", False, None),
    ],
)
def test_cameras_of_a_video_are_refined_where_its_shutter_rolls(
    trajectory: TrajectoryConfig, source: str, rolling: bool, readout: float | None
) -> None:
    asked = with_shutter(ProcessConfig(max_frames=9), trajectory, Path(source))
    assert asked == ProcessConfig(max_frames=9, rolling_shutter=rolling, readout=readout)


def test_an_impossible_readout_is_refused() -> None:
    with pytest.raises(ValueError, match="between -4 and 4"):
        ProcessConfig(readout=float("nan"))
