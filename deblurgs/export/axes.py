"""The border to tools with OpenGL camera axes (+x right, +y up, +z back) and camera-to-world matrices."""

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

_FLIP = np.diag([1.0, -1.0, -1.0, 1.0])


def opengl_world_from_camera(camera_from_world: Doubles) -> Doubles:
    """OpenCV camera_from_world [...,4,4] -> OpenGL world_from_camera [...,4,4]. The world stays as it is."""
    rotation = np.swapaxes(camera_from_world[..., :3, :3], -1, -2)
    out = np.broadcast_to(np.eye(4), camera_from_world.shape).copy()
    out[..., :3, :3] = rotation
    out[..., :3, 3] = -(rotation @ camera_from_world[..., :3, 3:])[..., 0]
    return out @ _FLIP


def camera_from_opengl(world_from_camera: Doubles) -> Doubles:
    """OpenGL world_from_camera [4,4] or [3,4] -> OpenCV camera_from_world [4,4].

    A rotation that is a little off is replaced by the nearest one. Raises ValueError when it is none at all or when a
    number is not finite.
    """
    full = np.eye(4)
    full[:3] = np.asarray(world_from_camera, np.float64)[:3]
    if not np.isfinite(full).all():
        raise ValueError("the pose has numbers that are not finite")
    full = full @ _FLIP
    u, s, vt = np.linalg.svd(full[:3, :3])
    rotation = u @ vt
    if np.abs(s - 1).max() > 1e-2 or np.linalg.det(rotation) < 0:
        raise ValueError("the pose is not a rotation and a translation")
    out = np.eye(4)
    out[:3, :3] = rotation.T
    out[:3, 3] = -rotation.T @ full[:3, 3]
    return out
