"""Cameras for other tools: camera paths, transforms.json and the COLMAP model come back and mean the same elsewhere."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from deblurgs.errors import CaptureError
from deblurgs.export.camera_path import CameraPath, read_camera_path, write_camera_path
from deblurgs.export.colmap import ColmapModel, read_colmap, write_colmap
from deblurgs.export.transforms import PosedImage, read_transforms, write_transforms
from deblurgs.scene.camera import Camera

CAMERA = Camera(97, 63, 80.5, 80.5, 48.5, 31.5)


def poses(n: int) -> np.ndarray:
    rng = np.random.default_rng(n)
    out = np.tile(np.eye(4), (n, 1, 1))
    q, _ = np.linalg.qr(rng.normal(size=(n, 3, 3)))
    out[:, :3, :3] = q * np.linalg.det(q)[:, None, None]
    out[:, :3, 3] = rng.normal(size=(n, 3))
    return out


def project_opengl(matrix: np.ndarray, fov_deg: float, x_world: np.ndarray) -> np.ndarray:
    """Where a tool with OpenGL axes draws a point, in pixels of CAMERA; written down apart from the code under test."""
    local = np.linalg.inv(matrix) @ [*x_world, 1.0]
    focal = CAMERA.height / 2 / math.tan(math.radians(fov_deg) / 2)
    return np.array(
        [CAMERA.width / 2 + focal * local[0] / -local[2], CAMERA.height / 2 - focal * local[1] / -local[2]]
    )


def test_camera_path_comes_back_and_shows_the_same(tmp_path: Path) -> None:
    given = CameraPath(poses(4), [CAMERA] * 4, 24.0)
    write_camera_path(tmp_path / "p.json", given)
    read = read_camera_path(tmp_path / "p.json")
    np.testing.assert_allclose(read.camera_from_world, given.camera_from_world, atol=1e-12)
    assert read.fps == 24 and (read.cameras[0].width, read.cameras[0].height) == (97, 63)
    assert read.cameras[0].fx == pytest.approx(CAMERA.fx)
    item = json.loads((tmp_path / "p.json").read_text())["camera_path"][1]
    local = np.array([0.3, -0.2, 2.0])
    world = given.camera_from_world[1, :3, :3].T @ (local - given.camera_from_world[1, :3, 3])
    ours = np.array([48.5 + 80.5 * 0.3 / 2, 31.5 + 80.5 * -0.2 / 2])
    theirs = project_opengl(np.array(item["camera_to_world"]).reshape(4, 4), item["fov"], world)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.pop("camera_path"), "camera_path"),
        (lambda d: d.update(camera_path=[]), "camera_path"),
        (lambda d: d.update(render_width=1e9), "render_width"),
        (lambda d: d.update(camera_type="equirectangular"), "camera_type"),
        (lambda d: d["camera_path"][0].pop("fov"), "fov"),
        (lambda d: d["camera_path"][0].update(fov=0), "fov"),
        (lambda d: d["camera_path"][0].pop("camera_to_world"), "camera_to_world"),
        (lambda d: d["camera_path"][0].update(camera_to_world=[1] * 16), "camera_to_world"),
        (lambda d: d["camera_path"][0].update(camera_to_world=["a"] * 16), "camera_to_world"),
        (lambda d: d["camera_path"].__setitem__(0, 3), "entry 0"),
    ],
)
def test_a_malformed_camera_path_names_the_field(tmp_path: Path, change, words: str) -> None:
    write_camera_path(tmp_path / "p.json", CameraPath(poses(2), [CAMERA] * 2, 24.0))
    data = json.loads((tmp_path / "p.json").read_text())
    change(data)
    (tmp_path / "p.json").write_text(json.dumps(data))
    with pytest.raises(CaptureError, match=words):
        read_camera_path(tmp_path / "p.json")


def test_transforms_come_back_and_show_the_same(tmp_path: Path) -> None:
    images = [PosedImage(f"images/{i}.png", CAMERA, pose) for i, pose in enumerate(poses(3))]
    write_transforms(tmp_path / "transforms.json", images, ply_file_path="points.ply")
    for read, given in zip(read_transforms(tmp_path / "transforms.json"), images, strict=True):
        assert read.file_path == given.file_path and read.camera == given.camera
        np.testing.assert_allclose(read.camera_from_world, given.camera_from_world, atol=1e-12)
    matrix = np.array(json.loads((tmp_path / "transforms.json").read_text())["frames"][0]["transform_matrix"])
    # The camera looks along its own -z there.
    np.testing.assert_allclose(-matrix[:3, 2], images[0].camera_from_world[2, :3], atol=1e-12)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(frames=[]), "frames"),
        (lambda d: d.update(k1=0.1), "distortion"),
        (lambda d: d["frames"][0].update(file_path="../../secret.png"), "leaves"),
        (lambda d: d["frames"][0].update(file_path="/etc/passwd"), "leaves"),
        (lambda d: d["frames"][0].update(transform_matrix=[[1, 2], [3, 4]]), "shape"),
        (lambda d: d["frames"][0].update(w=-4), "positive"),
        (lambda d: d["frames"][0].pop("transform_matrix"), "transform_matrix"),
        (lambda d: d["frames"].__setitem__(0, "x"), "frame 0"),
    ],
)
def test_malformed_transforms_are_named(tmp_path: Path, change, words: str) -> None:
    write_transforms(tmp_path / "t.json", [PosedImage("a.png", CAMERA, poses(1)[0])])
    data = json.loads((tmp_path / "t.json").read_text())
    change(data)
    (tmp_path / "t.json").write_text(json.dumps(data))
    with pytest.raises(CaptureError, match=words):
        read_transforms(tmp_path / "t.json")


def model() -> ColmapModel:
    rng = np.random.default_rng(3)
    other = Camera(64, 48, 50.25, 50.25, 32.0, 24.0)
    return ColmapModel(
        ["a b.png", "<ü>.png", "c.png"], [CAMERA, other, CAMERA], poses(3), rng.normal(size=(7, 3)),
        rng.integers(0, 255, (7, 3)).astype(np.uint8), rng.random(7).astype(np.float32),
    )  # fmt: skip


def test_colmap_comes_back(tmp_path: Path) -> None:
    given = model()
    write_colmap(tmp_path, given)
    read = read_colmap(tmp_path)
    assert read.names == given.names and read.cameras == given.cameras
    np.testing.assert_allclose(read.camera_from_world, given.camera_from_world, atol=1e-9)
    np.testing.assert_array_equal(read.points, given.points)
    np.testing.assert_array_equal(read.colors, given.colors)
    np.testing.assert_allclose(read.errors, given.errors)


def test_pycolmap_reads_the_same_cameras(tmp_path: Path) -> None:
    import zlib  # noqa: F401  (pycolmap damages the heap unless zlib is loaded before it)

    import pycolmap

    given = model()
    write_colmap(tmp_path, given)
    read = pycolmap.Reconstruction(str(tmp_path))
    assert len(read.points3D) == 7 and len(read.images) == 3
    by_name = {image.name: image for image in read.images.values()}
    for name, pose, camera in zip(given.names, given.camera_from_world, given.cameras, strict=True):
        image = by_name[name]
        np.testing.assert_allclose(image.cam_from_world().matrix(), pose[:3], atol=1e-9)
        local = np.array([[0.2, -0.1, 1.5]])
        expected = [camera.cx + camera.fx * 0.2 / 1.5, camera.cy - camera.fy * 0.1 / 1.5]
        np.testing.assert_allclose(image.camera.img_from_cam(local)[0], expected, atol=1e-9)


def test_a_broken_colmap_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="COLMAP"):
        read_colmap(tmp_path)
    write_colmap(tmp_path, model())
    data = (tmp_path / "images.bin").read_bytes()
    for broken in (data[:50], b"\xff" * 8 + data[8:], b""):
        (tmp_path / "images.bin").write_bytes(broken)
        with pytest.raises(CaptureError, match="COLMAP"):
            read_colmap(tmp_path)
    with pytest.raises(ValueError, match="zero byte"):
        write_colmap(tmp_path, ColmapModel(["a\0b"], [CAMERA], poses(1), *model_points(0)))


def model_points(n: int):
    return np.zeros((n, 3)), np.zeros((n, 3), np.uint8), np.zeros(n, np.float32)
