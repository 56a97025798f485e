"""The model that structure from motion found for a global shutter, refined for a rolling one. In the SfM child."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from deblurgs.scene.times import video_times
from deblurgs.sfm import colmap
from deblurgs.sfm.rolling.refine import refine
from deblurgs.sfm.staging import FrameFile

# A sighting farther from its point is a wrong match; blur hides the place of a feature.
_MAX_ERROR_PX = 4.0


@dataclass(frozen=True)
class Rolled:
    """readout: in frame intervals. report: for sfm.json. distortion: its entry about the lens."""

    model: colmap.Model
    readout: float
    report: dict[str, Any]
    distortion: dict[str, Any]


def refine_model(
    model: colmap.Model,
    frames: Sequence[FrameFile],
    readout: float | None,
    warnings: list[str],
    say: Callable[[str], None],
) -> Rolled | None:
    """The model of a rolling shutter; a given `readout` is kept. None with a warning where the frames cannot tell.

    frames: in capture order; images are found by their staged names.
    """
    ids = {model.image(i).name: i for i in model.reg_image_ids()}
    seen = [f for f in frames if f.staged in ids]
    order = [ids[f.staged] for f in seen]
    try:
        if len({model.image(i).camera_id for i in order}) != 1:
            raise ValueError("the frames come from several cameras")
        times = video_times([f.name for f in seen], [f.time_s for f in seen])
        # Without distortion: a global shutter's model bends the lens to explain the rows.
        plain = colmap.simplified(model)
        tracks, start = colmap.read_tracks(plain, order, times)
        found = refine(tracks, start, readout=readout, say=say)
    except ValueError as error:
        warnings.append(f"The cameras are those of a global shutter: {error}.")
        return None
    limit = _MAX_ERROR_PX * max(1.0, max(tracks.size) / 1000.0)
    report = {
        "readout": round(found.cameras.readout, 4),
        "readout_given": readout is not None,
        "focal_px": [round(start.focal, 2), round(found.cameras.focal, 2)],
        "cost": [round(found.global_cost, 1), round(found.cost, 1)],
        "cost_sightings": found.sightings,
        "starts": found.starts,
    }
    lens = {
        "evidence": round(found.distortion_evidence, 2),
        "kept": found.cameras.distortion != 0.0,
        "k": [round(found.cameras.distortion, 5)],
    }
    return Rolled(colmap.with_cameras(plain, order, found, limit), found.cameras.readout, report, lens)
