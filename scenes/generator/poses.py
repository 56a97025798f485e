"""Camera poses as 4x4 `world_from_camera` (float64; OpenCV axes: x right, y down, z forward), world z up."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def look_at(eye: Array, target: Array, roll_rad: float = 0.0) -> Array:
    """The pose [4,4] of a camera at `eye` [3] that has `target` [3] in its centre; roll turns it about its axis."""
    forward = np.asarray(target, float) - np.asarray(eye, float)
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2] = right, np.cross(forward, right), forward
    pose[:3, 3] = eye
    return pose @ exp(np.array([0, 0, 0, 0, 0, roll_rad]))


def on_sphere(focus: Array, distance: float, azimuth_rad: float, elevation_rad: float) -> Array:
    """The point [3] at `distance` from `focus`; azimuth 0 is the side of negative y, elevation is upwards."""
    direction = [
        np.sin(azimuth_rad) * np.cos(elevation_rad),
        -np.cos(azimuth_rad) * np.cos(elevation_rad),
        np.sin(elevation_rad),
    ]
    return np.asarray(focus, float) + distance * np.array(direction)


def exp(xi: Array) -> Array:
    """[...,6] (translation, rotation vector) -> [...,4,4] with exactly that translation and rotation.

    This is not the exponential of SE(3): translation and rotation are independent, as in cubic paths of both.
    """
    xi = np.asarray(xi, float)
    omega = xi[..., 3:]
    angle = np.linalg.norm(omega, axis=-1)[..., None, None]
    skew = np.zeros((*xi.shape[:-1], 3, 3))
    skew[..., 0, 1], skew[..., 0, 2], skew[..., 1, 2] = -omega[..., 2], omega[..., 1], -omega[..., 0]
    skew -= np.swapaxes(skew, -1, -2)
    first = np.sinc(angle / np.pi)  # sin(angle) / angle
    second = 0.5 * np.sinc(angle / (2 * np.pi)) ** 2  # (1 - cos(angle)) / angle^2
    pose = np.zeros((*xi.shape[:-1], 4, 4))
    pose[..., :3, :3] = np.eye(3) + first * skew + second * (skew @ skew)
    pose[..., :3, 3] = xi[..., :3]
    pose[..., 3, 3] = 1.0
    return pose


def project(poses: Array, points: Array, focal_px: float) -> Array:
    """Image coordinates [V,P,2] relative to the principal point, in px, of world points [P,3] in V poses [V,4,4]."""
    offset = points[None] - poses[:, None, :3, 3]
    in_camera = np.einsum("vji,vpj->vpi", poses[:, :3, :3], offset)
    return focal_px * in_camera[..., :2] / in_camera[..., 2:]


def path_length_px(poses: Array, points: Array, focal_px: float) -> float:
    """Median over the points [P,3] of the length that they travel in the image along V poses [V,4,4]."""
    steps = np.linalg.norm(np.diff(project(poses, points, focal_px), axis=0), axis=-1)  # [V-1,P]
    return float(np.median(steps.sum(axis=0)))
