"""Frames found by sharp renders: geometry of depth, and what the extended model holds."""

from pathlib import Path

import numpy as np
import pytest
import sfm_rendered as rendered

from deblurgs.scene.camera import Camera
from deblurgs.sfm.extend import Found, extended
from deblurgs.sfm.model import SparseModel
from deblurgs.sfm.renders import Render, apart, lift
from deblurgs.sfm.staging import FrameFile

CAMERA = Camera(320, 240, 300.0, 300.0, 160.0, 120.0)


def test_a_pixel_with_depth_is_lifted_to_the_point_that_it_shows() -> None:
    pose = rendered.arc(3)[0]
    x_camera = np.array([[0.3, -0.2, 4.0], [-0.5, 0.1, 2.0]])
    world = (x_camera - pose[:3, 3]) @ pose[:3, :3]
    pixels = x_camera[:, :2] / x_camera[:, 2:] * 300.0 + [160.0, 120.0]
    depth = np.full((240, 320), np.nan, np.float32)
    depth[int(pixels[0, 1]), int(pixels[0, 0])] = 4.0
    found = lift(Render(FrameFile("r0.png", "r0.png", Path(), 320, 240), depth, CAMERA, pose), pixels)
    assert found[0] == pytest.approx(world[0]) and np.isnan(found[1]).all()


def test_how_far_two_poses_lie_apart() -> None:
    pose = np.eye(4)
    moved = np.eye(4)
    moved[:3, :3] = [[np.cos(0.1), 0, np.sin(0.1)], [0, 1, 0], [-np.sin(0.1), 0, np.cos(0.1)]]
    points = np.array([[0.0, 0, 5], [1, 0, 5], [0, 1, 5]])
    assert apart(pose, moved, points) == pytest.approx((np.degrees(0.1), 0.0))
    moved = np.eye(4)
    moved[0, 3] = 0.5
    assert apart(pose, moved, points) == pytest.approx((0.0, 0.1))


def test_an_extended_model_keeps_capture_order_and_lists_what_is_still_lost() -> None:
    poses = np.array(rendered.arc(4))
    points = np.random.default_rng(0).uniform([-1, -1, 3], [1, 1, 6], (50, 3))
    model = SparseModel(
        ["a", "b", "d"], [CAMERA] * 3, [Path(n) for n in "abd"], poses[[0, 1, 3]], points,
        np.zeros((50, 3), np.uint8), np.zeros(50, np.float32), [np.arange(50)] * 3, [("c", "blur"), ("e", "blur")],
    )  # fmt: skip
    result = extended(model, Found("abcde", {"c": (CAMERA, Path("c.png"), poses[2])}, [("e", "still lost")]))
    assert result.names == ["a", "b", "c", "d"] and result.failed == [("e", "still lost")]
    assert np.array_equal(result.camera_from_world, poses) and result.image_paths[2] == Path("c.png")
    x = points @ poses[2, :3, :3].T + poses[2, :3, 3]
    u = x[:, :2] / x[:, 2:] * 300 + [160, 120]
    assert result.observations[2].tolist() == np.flatnonzero(((u >= 0) & (u <= [320, 240])).all(1)).tolist()
