"""The frames in the scene: a frustum with a thumbnail each, and the path that the camera took during each exposure."""

from collections.abc import Callable

import numpy as np
import torch
import viser
from PIL import Image

from deblurgs.scene.camera import Camera
from deblurgs.train.data import scaled
from deblurgs.view.compose import as_pixels
from deblurgs.view.content import Frames
from deblurgs.view.pose import Array, fov_y, view_of

PATH_SAMPLES = 17
_THUMBNAIL_PX = 96
_FRUSTUM_RGB = (120, 160, 255)
# From the opening of the shutter to its closing.
_PATH_RGB = np.array([[255, 220, 90], [230, 70, 90]], np.float64)


def exposure_pose(frames: Frames, frame: int, u: float) -> Array:
    """camera_from_world [4,4] of a frame at an instant of its exposure."""
    with torch.no_grad():
        return frames.scene.trajectory(torch.tensor([frame]), torch.tensor([u]))[0, 0].double().numpy()


def add_frames(
    client: viser.ClientHandle, frames: Frames, on_click: Callable[[int], None]
) -> viser.FrameHandle:
    """Frustums and exposure paths under /frames, for one browser; returns the node that hides them all.

    on_click(frame) hears of clicks on a frustum.
    """
    scene = client.scene
    root = scene.add_frame("/frames", show_axes=False)
    with torch.no_grad():
        poses = frames.scene.trajectory.all_at(0.5).double().numpy()
        u = torch.linspace(0.0, 1.0, PATH_SAMPLES)
        paths = frames.scene.trajectory(torch.arange(len(frames.names)), u).double().numpy()  # [F,U,4,4]
    centres = np.array([view_of(p, c).position for p, c in zip(poses, frames.cameras, strict=True)])
    size = frustum_size(centres, float(frames.scene.depths.median()))
    for f, (pose, camera) in enumerate(zip(poses, frames.cameras, strict=True)):
        view = view_of(pose, camera)
        handle = scene.add_camera_frustum(
            f"/frames/{f:04d}", fov=fov_y(camera), aspect=view.aspect, scale=size, thickness=1.5,
            thickness_units="screen", color=_FRUSTUM_RGB, image=thumbnail(frames, f), wxyz=view.wxyz,
            position=view.position, cast_shadow=False, receive_shadow=False,
        )  # fmt: skip
        handle.on_click(lambda _, f=f: on_click(f))
    add_paths(client, paths)
    return root


def add_paths(client: viser.ClientHandle, paths: Array) -> None:
    """The curves camera_from_world [F,U,4,4] as one object: yellow when the shutter opens, red when it closes."""
    centres = -np.einsum("fuji,fuj->fui", paths[..., :3, :3], paths[..., :3, 3])  # [F,U,3]
    segments = np.stack([centres[:, :-1], centres[:, 1:]], axis=2).reshape(-1, 2, 3)
    share = np.linspace(0.0, 1.0, centres.shape[1])[:, None]
    colors = (1.0 - share) * _PATH_RGB[0] + share * _PATH_RGB[1]  # [U,3]
    ends = np.stack([colors[:-1], colors[1:]], axis=1)
    client.scene.add_line_segments(
        "/frames/trajectories", points=segments.astype(np.float32), thickness=3.0, thickness_units="screen",
        colors=np.tile(ends, (len(centres), 1, 1)).astype(np.uint8),
    )  # fmt: skip


def thumbnail(frames: Frames, frame: int) -> np.ndarray:
    """The observed photo, small."""
    photo = as_pixels(frames.observed(frame))
    camera = scaled(
        Camera(photo.shape[1], photo.shape[0], 1, 1, 0, 0), min(1.0, _THUMBNAIL_PX / max(photo.shape[:2]))
    )
    return np.asarray(Image.fromarray(photo).resize((camera.width, camera.height), Image.Resampling.BOX))


def frustum_size(centres: Array, depth: float) -> float:
    """Small enough that neighbours along the path do not cover one another, never a speck. Scene units."""
    steps = np.linalg.norm(np.diff(centres, axis=0), axis=1) if len(centres) > 1 else np.zeros(1)
    return float(np.clip(0.8 * np.median(steps), 0.008 * depth, 0.025 * depth))
