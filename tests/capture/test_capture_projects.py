"""COLMAP projects, Deblur-NeRF folders and twins: what is recorded, and that held-out views stay out of frames/."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from capture_media import moving, save_photos
from PIL import Image

from deblurgs.capture.image import read_pixels
from deblurgs.capture.source import Capture, ingest
from deblurgs.errors import CaptureError, UsageError
from deblurgs.log import Log


def digests(folder: Path) -> set[str]:
    return {
        hashlib.sha256(read_pixels(p).tobytes()).hexdigest() for p in folder.iterdir() if p.suffix == ".png"
    }


def assert_held_out(capture: Capture, out: Path) -> None:
    """No held-out pixel and no held-out name is among the training frames."""
    assert capture.test_frames and all(f.split == "test" for f in capture.test_frames)
    assert all(f.split == "train" for f in capture.frames)
    assert all(f.path.parent == out / "frames" for f in capture.frames)
    assert all(f.path.parent == out / "test" for f in capture.test_frames)
    assert {f.path for f in capture.frames} == set((out / "frames").iterdir())
    assert not digests(out / "frames") & digests(out / "test")
    assert not {f.name for f in capture.frames} & {f.name for f in capture.test_frames}
    assert not set(capture.twins) & {f.name for f in capture.test_frames}


def add_model(root: Path, place: str = "sparse/0") -> None:
    folder = root / place
    folder.mkdir(parents=True)
    for part in ("cameras", "images", "points3D"):
        (folder / f"{part}.bin").write_bytes(part.encode())
    (folder / "project.ini").write_text("not part of the model")


@pytest.mark.parametrize("place", ["sparse/0", "sparse", "colmap/sparse/0"])
def test_colmap_project(tmp_path: Path, log: Log, place: str) -> None:
    save_photos(tmp_path / "in" / "images", moving(4))
    add_model(tmp_path / "in", place)
    capture = ingest(tmp_path / "in", tmp_path / "out", log=log)
    assert capture.kind == "colmap" and len(capture.frames) == 4
    model = capture.given_model
    assert model is not None and model.is_relative_to(tmp_path / "out")
    assert {p.name for p in model.iterdir()} == {"cameras.bin", "images.bin", "points3D.bin"}
    assert capture.source_names["img2.png"] == "img2.png"


def test_colmap_project_keeps_unrotated_pixels(tmp_path: Path, log: Log) -> None:
    """COLMAP ignores EXIF orientation: turning the photo would break its cameras."""
    (tmp_path / "in" / "images").mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    for index, picture in enumerate(moving(3)):
        Image.fromarray(picture).save(tmp_path / "in" / "images" / f"{index}.jpg", exif=exif)
    add_model(tmp_path / "in")
    capture = ingest(tmp_path / "in", tmp_path / "out", log=log)
    assert {(f.width, f.height) for f in capture.frames} == {(128, 96)}
    assert any("EXIF rotation" in text for text in capture.warnings)


def llff_rows(camera_from_world: np.ndarray, size: tuple[int, int], focal: float) -> np.ndarray:
    """Written from LLFF's definition: columns down, right, back of the camera in the world, then its centre."""
    rows = []
    for matrix in camera_from_world:
        right, down, forward = matrix[:3, :3]  # rows of camera_from_world are the camera's axes in the world
        centre = -matrix[:3, :3].T @ matrix[:3, 3]
        block = np.stack([down, right, -forward, centre, [size[1], size[0], focal]], axis=1)
        rows.append([*block.ravel(), 0.1, 9.0])
    return np.array(rows)


def random_poses(count: int) -> np.ndarray:
    rng = np.random.default_rng(5)
    poses = np.tile(np.eye(4), (count, 1, 1))
    for pose in poses:
        q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        pose[:3, :3] = q * np.sign(np.linalg.det(q))
        pose[:3, 3] = rng.normal(size=3)
    return poses


def deblurnerf(root: Path, count: int = 9, hold: int | None = 4) -> np.ndarray:
    save_photos(root / "images_2", moving(count, size=(48, 64)), "{:03d}.png")
    save_photos(root / "images_4", moving(count, size=(24, 32), seed=1), "{:03d}.png")
    if hold:
        (root / f"hold={hold}").touch()
    poses = random_poses(count)
    np.save(root / "poses_bounds.npy", llff_rows(poses, (128, 96), 100.0))
    return poses


def test_deblurnerf_with_poses(tmp_path: Path, log: Log) -> None:
    poses = deblurnerf(tmp_path / "in")
    out = tmp_path / "out"
    capture = ingest(tmp_path / "in", out, log=log)
    assert capture.kind == "deblurnerf" and capture.given_model is None
    assert [f.name for f in capture.test_frames] == ["001.png", "005.png", "009.png"]
    assert len(capture.frames) == 6
    assert {(f.width, f.height) for f in capture.frames} == {(64, 48)}, "the least reduced folder"
    assert_held_out(capture, out)
    assert capture.given_poses == out / "given_poses.json"
    given = json.loads(capture.given_poses.read_text())
    assert {k: given[k] for k in ("width", "height", "fx", "fy", "cx", "cy")} == {
        "width": 64, "height": 48, "fx": 50.0, "fy": 50.0, "cx": 32.0, "cy": 24.0,
    }  # fmt: skip
    assert set(given["frames"]) == {f"{i:03d}.png" for i in range(1, 10)}
    for index, pose in enumerate(poses):
        np.testing.assert_allclose(given["frames"][f"{index + 1:03d}.png"], pose, atol=1e-12)


def test_image_folder_by_name(tmp_path: Path, log: Log) -> None:
    deblurnerf(tmp_path / "in")
    capture = ingest(tmp_path / "in", tmp_path / "out", images="images_4", log=log)
    assert {(f.width, f.height) for f in capture.frames} == {(32, 24)}
    with pytest.raises(UsageError, match="images_8"):
        ingest(tmp_path / "in", tmp_path / "out", images="images_8", log=log)


def test_model_is_preferred_to_llff(tmp_path: Path, log: Log) -> None:
    deblurnerf(tmp_path / "in")
    add_model(tmp_path / "in")
    capture = ingest(tmp_path / "in", tmp_path / "out", log=log)
    assert capture.kind == "deblurnerf" and capture.given_model and capture.given_poses is None


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda rows: rows[:-1], "8 poses for 9 images"),
        (lambda rows: rows[:, :16], r"shape \[N,17\]"),
        (lambda rows: np.where(rows == rows[2, 3], np.nan, rows), "not finite"),
        (lambda rows: rows * np.r_[np.full(15, 2.0), 1, 1], "no rotation"),
        (lambda rows: rows * np.r_[np.tile([1, 1, 1, 1, -1.0], 3), 1, 1], "must be positive"),
        (lambda rows: np.array([{"a": 1}] * 9, object), "cannot read the poses"),
    ],
)
def test_bad_poses(tmp_path: Path, log: Log, break_it, message: str) -> None:
    deblurnerf(tmp_path / "in")
    path = tmp_path / "in" / "poses_bounds.npy"
    np.save(path, break_it(np.load(path)), allow_pickle=True)
    with pytest.raises(CaptureError, match=message):
        ingest(tmp_path / "in", tmp_path / "out", log=log)


def test_hold_one_is_refused(tmp_path: Path, log: Log) -> None:
    deblurnerf(tmp_path / "in", hold=1)
    with pytest.raises(CaptureError, match="hold=1"):
        ingest(tmp_path / "in", tmp_path / "out", log=log)


def twins_folder(root: Path) -> list[np.ndarray]:
    pictures = moving(8)
    sharp = [255 - p for p in pictures]
    save_photos(root / "images", [p for i, p in enumerate(pictures) if i % 4 != 1], "a{}.png")
    save_photos(root / "sharp", [p for i, p in enumerate(sharp) if i % 4 != 1], "a{}.png")
    save_photos(root / "test", [sharp[1], sharp[5]], "t{}.png")
    (root / "cameras.json").write_text('{"fl_x": 1.0}')
    return sharp


def test_twins_folder(tmp_path: Path, log: Log) -> None:
    sharp = twins_folder(tmp_path / "in")
    out = tmp_path / "out"
    capture = ingest(tmp_path / "in", out, log=log)
    assert capture.kind == "twins"
    assert_held_out(capture, out)
    assert [f.name for f in capture.test_frames] == ["t1.png", "t2.png"]
    assert set(capture.twins) == {f.name for f in capture.frames}
    np.testing.assert_array_equal(read_pixels(capture.twins["a1.png"]), sharp[0])
    assert not digests(out / "frames") & digests(out / "sharp")
    # Known cameras are for evaluation: nothing that training or SfM reads points at them.
    assert capture.truth is not None and json.loads(capture.truth.read_text()) == {"fl_x": 1.0}
    assert capture.given_model is None and capture.given_poses is None


def test_training_photo_that_equals_a_held_out_view_is_left_out(tmp_path: Path, log: Log) -> None:
    sharp = twins_folder(tmp_path / "in")
    Image.fromarray(sharp[1]).save(tmp_path / "in" / "images" / "a9.png")
    capture = ingest(tmp_path / "in", tmp_path / "out", log=log)
    assert_held_out(capture, tmp_path / "out")
    assert dict(capture.dropped) == {"a9.png": "duplicate of the held-out view t1.png"}


def test_twin_of_another_size_is_left_out(tmp_path: Path, log: Log) -> None:
    twins_folder(tmp_path / "in")
    Image.new("RGB", (20, 20)).save(tmp_path / "in" / "sharp" / "a2.png")
    capture = ingest(tmp_path / "in", tmp_path / "out", log=log)
    assert "a2.png" not in capture.twins and len(capture.twins) == 5
    assert any("another size" in text for text in capture.warnings)


@pytest.mark.parametrize(
    ("name", "kind", "train", "test"),
    [("deblurnerf_blurball", "deblurnerf", 23, 4), ("synth_desk", "twins", 28, 4), ("bic_video", "twins", 31, 4),
     ("fox", "images", 50, 0)],
)  # fmt: skip
def test_real_folders(
    tmp_path: Path, log: Log, shared_data: Path, name: str, kind: str, train: int, test: int
) -> None:
    out = tmp_path / "out"
    capture = ingest(shared_data / name, out, log=log)
    assert (capture.kind, len(capture.frames), len(capture.test_frames)) == (kind, train, test)
    assert not capture.dropped and not capture.warnings
    if test:
        assert_held_out(capture, out)
    if name == "deblurnerf_blurball":
        assert [f.name for f in capture.test_frames] == ["000.png", "007.png", "014.png", "021.png"]
        assert capture.given_model is not None
    if kind == "twins":
        assert len(capture.twins) == train
