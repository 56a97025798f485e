"""Cameras that came with the photos as numbers: one lens and one pose per photo, whatever the file they were in."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NUM_PARAMETERS = {
    "PINHOLE": 4,
    "OPENCV": 8,
    "FULL_OPENCV": 12,
    "OPENCV_FISHEYE": 8,
}
"""COLMAP's camera models that are written here; parameters begin with fx, fy, cx, cy in pixels."""

# From axes +x right, +y up, -z forward (OpenGL) to +x right, +y down, +z forward.
_FLIP = np.diag([1.0, -1.0, -1.0, 1.0])


class NoRigidPoseError(ValueError):
    """A matrix that is no pose; the text says why."""


@dataclass(frozen=True)
class GivenView:
    """COLMAP camera `model` with `params` for an image of width x height pixels (0: that of the image itself), and
    camera_from_world [4,4] with OpenCV axes."""

    model: str
    width: int
    height: int
    params: tuple[float, ...]
    camera_from_world: NDArray[np.float64]

    def as_json(self, width: int, height: int) -> dict[str, object]:
        """For an image whose real size is width x height; see `views_json`."""
        return {
            "model": self.model,
            "width": self.width or width,
            "height": self.height or height,
            "params": list(self.params),
            "camera_from_world": self.camera_from_world.tolist(),
        }


def views_json(views: Mapping[str, GivenView], sizes: Mapping[str, tuple[int, int]]) -> dict[str, object]:
    """The second format of `given_poses.json`: {"views": {frame name: model, width, height, params,
    camera_from_world}}. sizes: (width, height) of the frames by name."""
    return {"views": {name: view.as_json(*sizes[name]) for name, view in views.items()}}


def from_opengl(world_from_camera: object) -> NDArray[np.float64]:
    """camera_from_world [4,4] in OpenCV axes from a 3x4 or 4x4 camera-to-world matrix in OpenGL axes.

    Raises NoRigidPoseError for NaN, a wrong shape, or a matrix that is scaled, mirrored or singular.
    """
    try:
        matrix = np.array(world_from_camera, dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise NoRigidPoseError("it is no matrix of numbers") from error
    if matrix.shape == (3, 4):
        matrix = np.vstack([matrix, [0.0, 0.0, 0.0, 1.0]])
    if matrix.shape != (4, 4):
        raise NoRigidPoseError(f"its shape is {list(matrix.shape)}, not 3x4 or 4x4")
    if not np.isfinite(matrix).all():
        raise NoRigidPoseError("it contains numbers that are not finite")
    rotation = matrix[:3, :3]
    if np.abs(rotation.T @ rotation - np.eye(3)).max() > 1e-2 or np.linalg.det(rotation) < 0:
        raise NoRigidPoseError("it holds no rotation (scaled, mirrored or singular matrix)")
    u, _, vt = np.linalg.svd(rotation)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = u @ vt, matrix[:3, 3]
    pose = pose @ _FLIP
    inverse = np.eye(4)
    inverse[:3, :3] = pose[:3, :3].T
    inverse[:3, 3] = -pose[:3, :3].T @ pose[:3, 3]
    return inverse
