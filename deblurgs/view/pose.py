"""The browser's camera and ours: same axes (+x right, +y down, +z forward), other words."""

import math
from dataclasses import dataclass

import numpy as np
import viser
from numpy.typing import NDArray
from viser.transforms import SO3

from deblurgs.scene.camera import Camera

Array = NDArray[np.float64]


@dataclass(frozen=True)
class View:
    """wxyz and position [3] of the camera in the world; fov_y: vertical field of view in radians; aspect: width over
    height."""

    wxyz: Array
    position: Array
    fov_y: float
    aspect: float

    def camera(self, max_side: int) -> Camera:
        """A centred pinhole camera whose longer side has `max_side` pixels; both sides even, as video wants them."""
        width = max_side if self.aspect >= 1 else max_side * self.aspect
        height = width / self.aspect
        w, h = (max(2 * round(side / 2), 2) for side in (width, height))
        focal = 0.5 * h / math.tan(0.5 * self.fov_y)
        return Camera(w, h, focal, focal, 0.5 * w, 0.5 * h)

    def camera_from_world(self) -> Array:
        rotation = SO3(self.wxyz).as_matrix()
        out = np.eye(4)
        out[:3, :3], out[:3, 3] = rotation.T, -rotation.T @ self.position
        return out


def view_of(camera_from_world: Array, camera: Camera) -> View:
    """The view through a frame's camera."""
    rotation = camera_from_world[:3, :3].T
    return View(
        np.asarray(SO3.from_matrix(rotation).wxyz, np.float64), -rotation @ camera_from_world[:3, 3],
        fov_y(camera), camera.width / camera.height,
    )  # fmt: skip


def fov_y(camera: Camera) -> float:
    """Vertical field of view in radians."""
    return 2.0 * math.atan(0.5 * camera.height / camera.fy)


def client_view(client: viser.ClientHandle) -> View:
    """Where a browser looks from."""
    c = client.camera
    return View(np.asarray(c.wxyz), np.asarray(c.position), float(c.fov), float(c.aspect))


def up_direction(camera_from_world: Array) -> Array:
    """Up in the world as the cameras [F,4,4] suggest: people hold them upright."""
    up = -camera_from_world[:, 1, :3].mean(axis=0)
    length = float(np.linalg.norm(up))
    return up / length if length > 1e-6 else np.array([0.0, -1.0, 0.0])
