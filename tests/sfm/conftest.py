"""One good capture with known cameras, reconstructed once for all tests of the room."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import sfm_rendered as rendered

from deblurgs.log import Log
from deblurgs.scene.frame import Frame
from deblurgs.sfm.model import SparseModel
from deblurgs.sfm.stage import run_sfm


@dataclass(frozen=True)
class Capture:
    """frames: 12, of which two are held out. true: camera_from_world [12, 4, 4]."""

    frames: list[Frame]
    true: np.ndarray
    folder: Path

    @property
    def train(self) -> list[int]:
        return [i for i, f in enumerate(self.frames) if f.split == "train"]


@pytest.fixture(scope="session")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Capture:
    folder = tmp_path_factory.mktemp("capture")
    poses = rendered.arc(12)
    frames = rendered.save([rendered.render(p, rendered.pinhole_rays()) for p in poses], folder)
    frames = [replace(f, split="test") if i in (3, 8) else f for i, f in enumerate(frames)]
    return Capture(frames, np.array(poses), folder)


@pytest.fixture(scope="session")
def reconstructed(capture: Capture, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SparseModel]:
    work_dir = tmp_path_factory.mktemp("run") / "sfm"
    return work_dir, run_sfm(capture.frames, work_dir, log=Log(quiet=True))
