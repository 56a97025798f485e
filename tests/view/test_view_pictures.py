"""Poses, pictures and paths of the viewer, without a browser."""

import dataclasses
import io

import numpy as np
import pytest
import torch
from view_scene import NUM_FRAMES, content

from deblurgs.config import TrainConfig
from deblurgs.render.render import sharp_view
from deblurgs.view.compose import as_pixels, depth_picture, letterboxed, wiped
from deblurgs.view.frames import exposure_pose
from deblurgs.view.path import path_through, path_video
from deblurgs.view.pictures import FRAME_KINDS, Painter
from deblurgs.view.pose import View, up_direction, view_of
from deblurgs.view.trust import gaussian_trust


def test_a_frame_seen_through_its_view_is_the_frame() -> None:
    """There and back: the browser's camera at a frame's place draws what the frame's own camera draws."""
    shown = content()
    assert shown.frames is not None
    camera = shown.frames.cameras[1]
    pose = exposure_pose(shown.frames, 1, 0.5)
    view = view_of(pose, camera)
    assert np.allclose(view.camera_from_world(), pose, atol=1e-6)
    assert view.camera(96) == camera
    painter = Painter(shown)
    true = painter.true_render(view, max_side=96).image.astype(int)
    sharp = painter.frame_picture("sharp", 1).astype(int)
    assert np.abs(true - sharp).max() <= 1
    assert true.std() > 20


def test_a_scene_trained_with_finer_pixels_is_drawn_with_them() -> None:
    plain = content()
    assert plain.frames is not None
    scene = dataclasses.replace(plain.frames.scene, config=TrainConfig(train_scale=2))
    fine = dataclasses.replace(plain, frames=dataclasses.replace(plain.frames, scene=scene))
    camera, pose = plain.frames.cameras[1], exposure_pose(plain.frames, 1, 0.5)
    drawn = Painter(fine).true_render(view_of(pose, camera), max_side=96)
    handed_out = sharp_view(scene, torch.from_numpy(pose).float(), camera)
    assert np.array_equal(drawn.image, as_pixels(handed_out.numpy()))
    assert drawn.depth.shape == (64, 96)
    once = Painter(plain).true_render(view_of(pose, camera), max_side=96)
    assert not np.array_equal(drawn.image, once.image)


def test_every_kind_of_picture_of_every_frame() -> None:
    painter = Painter(content())
    for frame in range(NUM_FRAMES):
        for kind in FRAME_KINDS:
            if kind == "support map":
                with pytest.raises(ValueError, match="deblurgs render"):
                    painter.frame_picture(kind, frame)
            else:
                assert painter.frame_picture(kind, frame).shape == (64, 96, 3)


def test_scrubbing_moves_the_sharp_picture_only() -> None:
    painter = Painter(content())
    start, end = (painter.frame_picture("sharp", 0, u).astype(int) for u in (0.0, 1.0))
    assert np.abs(start - end).mean() > 5
    assert np.array_equal(*(painter.frame_picture("re-blurred", 0, u) for u in (0.0, 1.0)))


def test_overlays_show_depth_and_trust() -> None:
    shown = content()
    assert shown.frames is not None
    view = view_of(exposure_pose(shown.frames, 0, 0.5), shown.frames.cameras[0])
    painter = Painter(shown)
    plain, depth, trust = (painter.true_render(view, kind, 96).image for kind in ("none", "depth", "trust"))
    assert np.abs(plain.astype(int) - depth).mean() > 10
    assert np.abs(plain.astype(int) - trust).mean() > 10


def test_trust_of_gaussians_follows_the_frames() -> None:
    """Photos that contradict the model earn no trust; its own renders do."""
    from dataclasses import replace

    still = content()
    frames = still.frames
    assert frames is not None
    with torch.no_grad():
        frames.scene.trajectory.knots.zero_()  # exposures without motion record all detail
    painter = Painter(still)
    agreeing = replace(
        frames, observed=lambda f: painter.frame_picture("re-blurred", f).astype(np.float32) / 255
    )
    low, high = gaussian_trust(frames), gaussian_trust(agreeing)
    assert float(high.mean()) > float(low.mean()) + 0.2
    assert torch.all((high >= 0) & (high <= 1))


def test_wipe_and_bars() -> None:
    black, white = np.zeros((8, 10, 3), np.uint8), np.full((8, 10, 3), 200, np.uint8)
    half = wiped(black, white, 0.5)
    assert half[0, 0, 0] == 0 and half[0, 9, 0] == 200 and half[0, 5, 0] == 255
    assert np.array_equal(wiped(black, white, 0.0), white) and np.array_equal(wiped(black, white, 1.0), black)
    wide, tall = letterboxed(white, 4.0), letterboxed(white, 0.5)
    assert wide.shape == (8, 32, 3) and tall.shape == (20, 10, 3)
    assert (wide == 200).all(axis=2).sum() == 80 == (tall == 200).all(axis=2).sum()


def test_depth_colours_grow_darker_with_distance() -> None:
    depth = np.array([[1.0, 2.0, 3.0, np.inf]])
    brightness = depth_picture(depth).astype(int).sum(axis=2)[0]
    assert brightness[0] > brightness[1] > brightness[2]
    assert depth_picture(np.full((2, 2), np.inf)).std() == 0


def test_up_is_where_the_cameras_say() -> None:
    assert np.allclose(up_direction(np.eye(4)[None]), [0, -1, 0])


def test_a_path_meets_its_views_at_even_times() -> None:
    poses = [View(np.array([1.0, 0, 0, 0]), np.array([float(i), 0, 0]), 0.8, 1.5) for i in range(3)]
    path = path_through(poses, 9)
    assert np.allclose([v.position[0] for v in path], np.linspace(0, 2, 9))
    with pytest.raises(ValueError, match="two views"):
        path_through(poses[:1], 9)


def test_a_recorded_path_becomes_a_video() -> None:
    import av

    painter, shares = Painter(content()), []
    views = [View(np.array([1.0, 0, 0, 0]), np.array([x, 0.0, 0.0]), 0.7, 1.5) for x in (-0.1, 0.1)]
    video = path_video(views, 0.5, lambda v: painter.true_render(v, "none", 64).image, shares.append)
    with av.open(io.BytesIO(video)) as container:
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    assert len(frames) == 15 == len(shares) and shares[-1] == 1.0
    assert np.abs(frames[0].astype(int) - frames[-1]).mean() > 3
