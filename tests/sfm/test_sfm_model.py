"""The SparseModel file, and removal of lens distortion."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sfm_rendered as rendered

from deblurgs.errors import SfmError
from deblurgs.scene.camera import Camera
from deblurgs.sfm import undistort
from deblurgs.sfm.colmap import Lens
from deblurgs.sfm.model import SparseModel, load_model, save_model
from deblurgs.sfm.undistort import resample, resample_mask


def model(folder: Path) -> SparseModel:
    rng = np.random.default_rng(0)
    return SparseModel(
        names=["a b.png", "ü.jpg"],
        cameras=[Camera(640, 480, 500.25, 501.5, 320.0, 240.0), Camera(320, 240, 250.0, 250.0, 160.0, 121.0)],
        image_paths=[folder / "images" / "a b.png", folder.parent / "frames" / "ü.jpg"],
        camera_from_world=np.array(rendered.arc(2)),
        points=rng.normal(size=(5, 3)),
        colors=rng.integers(0, 255, (5, 3)).astype(np.uint8),
        errors=rng.uniform(0, 1, 5).astype(np.float32),
        observations=[np.array([0, 3, 4]), np.array([], dtype=np.int64)],
        failed=[("c.png", "no features (0 keypoints)")],
        masks={"ü.jpg": folder.parent / "masks" / "000001.png"},
        readout=0.5,
    )


def test_round_trip_and_moving_the_run(tmp_path: Path) -> None:
    (tmp_path / "run" / "sfm").mkdir(parents=True)
    written = model(tmp_path / "run" / "sfm")
    save_model(written, tmp_path / "run" / "sfm")
    read = load_model(tmp_path / "run" / "sfm")
    assert (read.names, read.cameras, read.image_paths, read.failed) == (
        written.names, written.cameras, written.image_paths, written.failed,
    )  # fmt: skip
    for key in ("camera_from_world", "points", "colors", "errors"):
        assert (getattr(read, key) == getattr(written, key)).all()
        assert getattr(read, key).dtype == getattr(written, key).dtype
    assert [o.tolist() for o in read.observations] == [[0, 3, 4], []]
    assert read.readout == 0.5
    (tmp_path / "run").rename(tmp_path / "moved")
    assert (
        load_model(tmp_path / "moved" / "sfm").image_paths[0]
        == tmp_path / "moved" / "sfm" / "images" / "a b.png"
    )
    assert load_model(tmp_path / "moved" / "sfm").masks == {
        "ü.jpg": tmp_path / "moved" / "masks" / "000001.png"
    }


def test_no_failed_frames_round_trip(tmp_path: Path) -> None:
    save_model(replace(model(tmp_path), failed=[], readout=None), tmp_path)
    assert load_model(tmp_path).failed == [] and load_model(tmp_path).readout is None


@pytest.mark.parametrize("damage", ["missing", "truncated", "text", "index", "nan", "shape", "pickle"])
def test_damaged_files_are_refused(damage: str, tmp_path: Path) -> None:
    good = model(tmp_path)
    path = tmp_path / "model.npz"
    if damage == "index":
        save_model(replace(good, observations=[np.array([5]), np.array([0])]), tmp_path)
    elif damage == "nan":
        save_model(replace(good, points=np.full((5, 3), np.nan)), tmp_path)
    elif damage == "shape":
        save_model(replace(good, colors=good.colors[:3]), tmp_path)
    elif damage != "missing":
        save_model(good, tmp_path)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:500])
    if damage == "text":
        path.write_text("not an archive")
    if damage == "pickle":
        path.write_bytes(pickle.dumps({"format": 1}))
    with pytest.raises(SfmError) as caught:
        load_model(tmp_path)
    assert str(path) in str(caught.value)


def test_resampling_in_place_is_exact_and_cubics_are_reproduced() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (37, 53, 3)).astype(np.uint8)
    x, y = np.meshgrid(np.arange(53) + 0.5, np.arange(37) + 0.5)
    places = np.stack([x, y], -1).astype(np.float32)
    assert (undistort.resample(image, places) == image).all()
    # Catmull-Rom interpolation is exact for quadratics; rounding leaves half a grey level.
    surface = 20 + 0.05 * (x - 20) ** 2 + 0.07 * (y - 15) ** 2 + 0.5 * x
    shift = np.array([0.37, -0.21], dtype=np.float32)
    found = undistort.resample(np.rint(surface).astype(np.uint8)[..., None], places + shift)[4:-4, 4:-4, 0]
    expected = 20 + 0.05 * (x + 0.37 - 20) ** 2 + 0.07 * (y - 0.21 - 15) ** 2 + 0.5 * (x + 0.37)
    assert np.abs(found - expected[4:-4, 4:-4]).max() < 1.3


@pytest.mark.parametrize(
    "lens",
    [
        Lens("SIMPLE_RADIAL", 640, 480, (500.0, 320.0, 240.0, 0.1)),
        Lens("OPENCV", 640, 480, (500.0, 510.0, 330.0, 236.0, 0.08, -0.02, 0.002, -0.001)),
        Lens("RADIAL", 640, 480, (450.0, 320.0, 240.0, -0.12, 0.02)),
        Lens("OPENCV_FISHEYE", 640, 480, (400.0, 400.0, 320.0, 240.0, 0.01, 0.0, 0.0, 0.0)),
    ],
    ids=lambda lens: lens.model,
)
def test_any_lens_is_undistorted_without_blanks_or_needless_zoom(lens: Lens) -> None:
    assert undistort.max_displacement_px(lens.pinhole, lens.img_from_cam) > 1
    camera = undistort.pinhole_without_blanks(lens.pinhole, lens.img_from_cam)
    places = undistort.sampling_map(camera, lens.img_from_cam)
    assert places.shape == (480, 640, 2)
    assert places.min() >= -0.01 and (places.max(axis=(0, 1)) <= [640.01, 480.01]).all()
    zoom = camera.fx / lens.pinhole.fx
    low, high = places.min(axis=(0, 1)), [640, 480] - places.max(axis=(0, 1))
    assert zoom == 1.0 or (zoom < 1.3 and min(*low, *high) < 0.1)
    # The map is the lens: the ray through a pinhole pixel meets the distorted image where the map says.
    ray = np.array([[(100.5 - camera.cx) / camera.fx, (50.5 - camera.cy) / camera.fy, 1.0]])
    assert places[50, 100] == pytest.approx(lens.img_from_cam(ray)[0], abs=1e-3)


def test_a_plain_camera_needs_no_undistortion() -> None:
    lens = Lens("PINHOLE", 640, 480, (500.0, 505.0, 320.0, 240.0))
    assert undistort.max_displacement_px(lens.pinhole, lens.img_from_cam) < 1e-6
    assert lens.resized(320, 240).pinhole == Camera(320, 240, 250.0, 252.5, 160.0, 120.0)


def test_a_resampled_mask_covers_every_pixel_that_masked_ones_reach() -> None:
    rng = np.random.default_rng(4)
    opaque = np.ones((30, 40), dtype=bool)
    opaque[8:14, 20:29] = False
    x, y = np.meshgrid(np.arange(38) + 0.9, np.arange(29) + 0.7)
    places = np.stack([x + 0.6 * np.sin(y), y + 0.4 * np.cos(x)], axis=-1).astype(np.float32)
    kept = resample_mask(opaque, places)
    images = [rng.integers(0, 255, (30, 40, 3), np.uint8) for _ in range(2)]
    images[1][opaque] = images[0][opaque]
    first, second = (resample(image, places) for image in images)
    assert (first[kept] == second[kept]).all()
    assert 0.8 < kept.mean() < 0.97, "no more is lost than the reach of the kernel"
    assert not resample_mask(opaque, places + np.float32(100.0)).any(), "nothing is known beyond the border"
