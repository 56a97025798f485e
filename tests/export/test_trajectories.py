"""trajectories.json and the TUM file: exact round trip, conventions, and named errors for bad files."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import roma
import torch

from deblurgs.errors import CaptureError
from deblurgs.export.trajectories import (
    FrameTrajectory,
    ShutterEstimate,
    quat_xyzw_from_rotation,
    read_shutter,
    read_trajectories,
    read_tum,
    write_trajectories,
    write_tum,
)


def poses(*shape: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    matrices = np.zeros((*shape, 4, 4))
    vectors = torch.from_numpy(rng.standard_normal((*shape, 3)))
    matrices[..., :3, :3] = roma.rotvec_to_rotmat(vectors).numpy()
    matrices[..., :3, 3] = rng.standard_normal((*shape, 3))
    matrices[..., 3, 3] = 1
    return matrices


def frame(seed: int = 0, *, name: str = "a.png", time_s: float | None = 0.25) -> FrameTrajectory:
    return FrameTrajectory(
        name=name, kind="bezier", knots=poses(4, seed=seed), u=np.linspace(0, 1, 5), weights=np.full(5, 0.2),
        camera_from_world=poses(5, seed=seed + 1), mid_camera_from_world=poses(seed=seed + 2), time_s=time_s,
    )  # fmt: skip


def test_round_trip_is_exact(tmp_path: Path) -> None:
    frames = [frame(0), frame(9, name='we"ird \u00e9\n.png', time_s=None)]
    write_trajectories(tmp_path / "t.json", frames)
    for read, written in zip(read_trajectories(tmp_path / "t.json"), frames, strict=True):
        for field in dataclasses.fields(FrameTrajectory):
            np.testing.assert_array_equal(getattr(read, field.name), getattr(written, field.name))


def test_the_file_explains_itself_and_has_one_line_per_frame(tmp_path: Path) -> None:
    write_trajectories(tmp_path / "t.json", [frame(0), frame(1)])
    text = (tmp_path / "t.json").read_text()
    data = json.loads(text)
    assert set(data["conventions"]) >= {"camera_from_world", "camera_axes", "u", "weights", "knots", "world"}
    assert sum(line.startswith('{"name"') for line in text.splitlines()) == 2


def test_nested_lists_are_taken(tmp_path: Path) -> None:
    original = frame()
    lists = {
        field.name: value.tolist()
        if isinstance(value := getattr(original, field.name), np.ndarray)
        else value
        for field in dataclasses.fields(FrameTrajectory)
    }
    write_trajectories(tmp_path / "t.json", [FrameTrajectory(**lists)])
    np.testing.assert_array_equal(read_trajectories(tmp_path / "t.json")[0].knots, original.knots)


def test_no_frames_are_a_valid_file(tmp_path: Path) -> None:
    write_trajectories(tmp_path / "t.json", [])
    assert read_trajectories(tmp_path / "t.json") == []


def _set(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda entry: entry.__setitem__(key, value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda entry: entry.pop("u"), "has no 'u'"),
        (_set("u", [0, 0.5, 0.4, 0.9, 1]), "increase"),
        (_set("u", [0, 0.2, 0.4, 0.9, 2]), "increase"),
        (_set("weights", [1, 1, 1, 1, 1]), "sum 1"),
        (_set("weights", [0.5, 0.5]), "weights.*shape"),
        (_set("knots", [[1, 2], [3]]), "frame 1"),
        (_set("knots", 3), "knots"),
        (_set("mid_camera_from_world", (2 * np.eye(4)).tolist()), "not a rotation"),
        (_set("mid_camera_from_world", np.diag([1, 1, -1, 1]).tolist()), "not a rotation"),
        (_set("mid_camera_from_world", np.full((4, 4), None).tolist()), "frame 1"),
        (_set("time_s", "noon"), "frame 1"),
    ],
)
def test_bad_frames_are_named(tmp_path: Path, change: Callable[[Any], object], words: str) -> None:
    write_trajectories(tmp_path / "t.json", [frame(0), frame(1)])
    data = json.loads((tmp_path / "t.json").read_text())
    change(data["frames"][1])
    (tmp_path / "t.json").write_text(json.dumps(data))
    with pytest.raises(CaptureError, match=words) as caught:
        read_trajectories(tmp_path / "t.json")
    assert "t.json, frame 1" in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"format": "deblurgs-trajectories", "version": 2, "frames": []}', '{"frames": []}']
)
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(CaptureError, match=r"t\.json"):
        read_trajectories(tmp_path / "t.json")


def test_invalid_frames_are_not_written(tmp_path: Path) -> None:
    bad = dataclasses.replace(frame(), mid_camera_from_world=np.full((4, 4), np.nan))
    with pytest.raises(ValueError, match="not finite"):
        write_trajectories(tmp_path / "t.json", [bad])
    assert not list(tmp_path.iterdir())


def test_tum_lines_are_the_camera_in_the_world(tmp_path: Path) -> None:
    frames = [frame(i, time_s=None if i == 2 else 0.5 * i) for i in range(3)]
    write_tum(tmp_path / "t.txt", frames)
    rows = np.loadtxt(tmp_path / "t.txt")
    np.testing.assert_allclose(rows[:, 0], [0, 0.5, 2])
    for row, item in zip(rows, frames, strict=True):
        world_from_camera = np.linalg.inv(item.mid_camera_from_world)
        np.testing.assert_allclose(row[1:4], world_from_camera[:3, 3], atol=1e-8)
        rotation = roma.unitquat_to_rotmat(torch.from_numpy(row[4:8].copy())).numpy()
        np.testing.assert_allclose(rotation, world_from_camera[:3, :3], atol=1e-7)


def test_tum_comes_back(tmp_path: Path) -> None:
    frames = [frame(i, time_s=0.5 * i) for i in range(4)]
    write_tum(tmp_path / "t.tum", frames)
    times, poses = read_tum(tmp_path / "t.tum")
    np.testing.assert_allclose(times, [0, 0.5, 1, 1.5])
    np.testing.assert_allclose(poses, [f.mid_camera_from_world for f in frames], atol=1e-7)
    write_tum(tmp_path / "none.tum", [])
    assert read_tum(tmp_path / "none.tum")[1].shape == (0, 4, 4)


@pytest.mark.parametrize("line", ["1 2 3", "0 0 0 0 0 0 0 x", "0 0 0 0 0 0 0 2", "nan 0 0 0 0 0 0 1", "\0"])
def test_a_damaged_tum_line_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "t.tum").write_text(f"# poses\n0 0 0 0 0 0 0 1\n{line}\n")
    with pytest.raises(CaptureError, match=r"t\.tum, line 3"):
        read_tum(tmp_path / "t.tum")
    with pytest.raises(CaptureError, match=r"gone\.tum"):
        read_tum(tmp_path / "gone.tum")


@pytest.mark.parametrize(
    "vector", [(0, 0, 0), (1e-9, 0, 0), (np.pi, 0, 0), (0, np.pi, 0), (0, 0, np.pi), (2, -1, 0.5)]
)
def test_quaternions_are_right_at_the_identity_and_at_half_turns(vector: tuple[float, ...]) -> None:
    rotation = roma.rotvec_to_rotmat(torch.tensor(vector, dtype=torch.float64)).numpy()
    xyzw = quat_xyzw_from_rotation(rotation)
    assert abs(np.linalg.norm(xyzw) - 1) < 1e-12 and xyzw[3] >= 0
    np.testing.assert_allclose(roma.unitquat_to_rotmat(torch.from_numpy(xyzw)).numpy(), rotation, atol=1e-12)


def test_the_shutter_is_written_and_read(tmp_path: Path) -> None:
    shutter = ShutterEstimate(duty=0.4, interval_s=0.05, readout=-0.2)
    write_trajectories(tmp_path / "t.json", [frame()], shutter=shutter)
    assert read_shutter(tmp_path / "t.json") == shutter
    written = json.loads((tmp_path / "t.json").read_text())["shutter"]
    assert written["exposure_s"] == pytest.approx(0.02) and written["readout_s"] == pytest.approx(-0.01)
    write_trajectories(tmp_path / "t.json", [frame()])
    assert read_shutter(tmp_path / "t.json") == ShutterEstimate()


@pytest.mark.parametrize("value", [{"duty": 2}, {"duty": "x"}, {"interval_s": -1}, {"readout": [1]}, 3])
def test_a_damaged_shutter_is_named(tmp_path: Path, value: Any) -> None:
    write_trajectories(tmp_path / "t.json", [frame()])
    data = json.loads((tmp_path / "t.json").read_text())
    data["shutter"] = value
    (tmp_path / "t.json").write_text(json.dumps(data))
    with pytest.raises(CaptureError, match=r"t\.json"):
        read_shutter(tmp_path / "t.json")
