"""Exact poses of rendered captures: read on request, for every frame, in our axes."""

import json
from pathlib import Path

import numpy as np
import pytest

from deblurgs.capture.dataset import Capture
from deblurgs.capture.truth import write_true_poses
from deblurgs.errors import CaptureError
from deblurgs.scene.frame import Frame
from deblurgs.sfm.given import read_poses


def rendered(folder: Path, width: int = 40) -> tuple[Capture, dict]:
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    poses = {}
    for i, key in enumerate((("train", "000"), ("train", "001"), ("test", "001"))):
        poses[key] = np.eye(4)
        poses[key][:3, :3], poses[key][:3, 3] = turn, [i, 2.0, 3.0]
    truth = {
        "w": 40, "h": 30, "fl_x": 42.0, "fl_y": 43.0, "cx": 20.0, "cy": 15.0,
        "frames": [{"name": f"{n}.png", "split": s, "c2w": m.tolist()} for (s, n), m in poses.items()],
    }  # fmt: skip
    (folder / "cameras.json").write_text(json.dumps(truth))
    frames = [Frame(f"{n}.jpg", folder / f"{n}.png", width, 30) for n in ("000", "001")]
    tests = [Frame("001_2.png", folder / "t.png", width, 30, split="test")]
    names = {"000.jpg": "000.jpg", "001.jpg": "001.jpg", "001_2.png": "001.png"}
    capture = Capture("twins", frames, tests, [], source_names=names, truth=folder / "cameras.json")
    return capture, poses


def test_every_frame_gets_its_own_pose(tmp_path: Path) -> None:
    capture, poses = rendered(tmp_path)
    read = read_poses(write_true_poses(capture, tmp_path / "poses.json"))
    for name, key in {
        "000.jpg": ("train", "000"),
        "001.jpg": ("train", "001"),
        "001_2.png": ("test", "001"),
    }.items():
        assert np.allclose(read.camera_from_world[name] @ poses[key], np.eye(4)), name
        assert read.lenses[name].params == (42.0, 43.0, 20.0, 15.0)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"fl_x"', '"focal"', "fl_x"),
        ('"001.png", "split": "train"', '"007.png", "split": "train"', "no pose for 001.jpg"),
        ("[0.0, 0.0, 0.0, 1.0]", "[0.0, 0.0, 0.0, 0.0]", "000.jpg"),
        ("{", "", "cannot be read"),
    ],
)
def test_poses_that_do_not_fit_are_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    capture, _ = rendered(tmp_path)
    path = tmp_path / "cameras.json"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(CaptureError, match=said):
        write_true_poses(capture, tmp_path / "poses.json")


def test_poses_of_another_image_size_are_refused(tmp_path: Path) -> None:
    capture, _ = rendered(tmp_path, width=80)
    with pytest.raises(CaptureError, match="40x30"):
        write_true_poses(capture, tmp_path / "poses.json")
