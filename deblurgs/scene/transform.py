"""Similarities between world frames, and how to find one from matched points or camera poses.

A `Similarity` named `b_from_a` maps x_b = scale * rotation @ x_a + translation. Its numbers are float64
numpy; the `apply_*` methods take numpy arrays or torch tensors and return the same kind, dtype and device
(gradients flow to the tensors, not to the similarity). Cameras stay rigid: their own units are scaled along
with the world.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from deblurgs.math import quaternion

Array = TypeVar("Array", NDArray[np.floating], torch.Tensor)
Float64 = NDArray[np.float64]

# Camera centres count as one point, and leave the scale unknown, when they spread by less than this share of
# their distance from the origin: only rounding is left.
_COINCIDENT = 1e-9


@dataclass(frozen=True, eq=False)
class Similarity:
    """x_new = scale * rotation @ x_old + translation. scale > 0; rotation [3,3] proper; translation [3], new
    units.

    Raises ValueError for anything else.
    """

    scale: float
    rotation: Float64
    translation: Float64

    def __post_init__(self) -> None:
        rotation = np.array(self.rotation, dtype=np.float64)
        translation = np.array(self.translation, dtype=np.float64)
        if rotation.shape != (3, 3) or translation.shape != (3,):
            raise ValueError(
                f"rotation [3,3] and translation [3] expected, got {rotation.shape}, {translation.shape}"
            )
        if not (np.isfinite(self.scale) and self.scale > 0 and np.isfinite(translation).all()):
            raise ValueError(
                f"positive scale and finite translation expected, got {self.scale}, {translation}"
            )
        if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-6) or np.linalg.det(rotation) < 0:
            raise ValueError(f"rotation must be a proper rotation matrix, got {rotation.tolist()}")
        rotation.flags.writeable = translation.flags.writeable = False
        object.__setattr__(self, "scale", float(self.scale))
        object.__setattr__(self, "rotation", rotation)
        object.__setattr__(self, "translation", translation)

    @classmethod
    def identity(cls) -> "Similarity":
        return cls(1.0, np.eye(3), np.zeros(3))

    def inverse(self) -> "Similarity":
        """old_from_new."""
        rotation = self.rotation.T
        return Similarity(1.0 / self.scale, rotation, -(rotation @ self.translation) / self.scale)

    def compose(self, first: "Similarity") -> "Similarity":
        """Apply `first`, then this one: c_from_b.compose(b_from_a) = c_from_a."""
        return Similarity(
            self.scale * first.scale,
            self.rotation @ first.rotation,
            self.scale * (self.rotation @ first.translation) + self.translation,
        )

    def __matmul__(self, first: "Similarity") -> "Similarity":
        return self.compose(first)

    def apply_points(self, points: Array) -> Array:
        """[...,3] in old coordinates -> [...,3] in new ones."""
        return self.scale * (points @ _like(self.rotation.T, points)) + _like(self.translation, points)

    def apply_camera_from_world(self, camera_from_world: Array) -> Array:
        """camera_from_old [...,4,4] -> camera_from_new [...,4,4], rigid again: every image stays the same."""
        inverse = self.inverse()
        old_from_new = np.eye(4)
        old_from_new[:3, :3] = inverse.scale * inverse.rotation
        old_from_new[:3, 3] = inverse.translation
        # The camera's own coordinates grow with the world, which cancels the scale in the rotation part.
        units = np.diag([self.scale, self.scale, self.scale, 1.0])
        return _like(units, camera_from_world) @ camera_from_world @ _like(old_from_new, camera_from_world)

    def apply_gaussians(self, quats: torch.Tensor, scales: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Orientations [N,4] wxyz (any non-zero length; unit on return) and standard deviations [N,3] of
        Gaussians.

        Their means are `apply_points`; their view-dependent colour has to be turned by `rotation` separately.
        """
        turn = quaternion.from_matrix(_like(self.rotation, quats))
        return quaternion.multiply(turn.expand_as(quats), quaternion.normalize(quats)), scales * self.scale


def umeyama(
    src: NDArray[np.floating], dst: NDArray[np.floating], weights: NDArray | None = None
) -> Similarity:
    """dst_from_src, the least-squares similarity between matched points [P,3]; optional weights [P] >= 0.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns", 1991, eq.
    39-43. Collinear points leave the turn about their line undetermined (some proper rotation is returned).
    Raises ValueError for mismatched shapes, no points, non-finite numbers, or sources that all coincide.
    """
    src, dst, weights = _checked(src, dst, weights)
    src_centre, dst_centre, src_local, dst_local = _centred(src, dst, weights)
    spread = float((weights * (src_local**2).sum(-1)).sum())
    if spread <= (_COINCIDENT * np.abs(src).max()) ** 2:
        raise ValueError("all source points coincide, so the scale of the similarity is undetermined")
    covariance = (weights[:, None] * dst_local).T @ src_local
    rotation = _nearest_rotation(covariance)
    scale = float(np.trace(rotation.T @ covariance)) / spread
    if scale <= 0:
        raise ValueError("no similarity with positive scale relates the points (targets coincide?)")
    return Similarity(scale, rotation, dst_centre - scale * rotation @ src_centre)


def align_poses(
    camera_from_world_src: NDArray[np.floating], camera_from_world_dst: NDArray[np.floating]
) -> Similarity:
    """dst_from_src between the worlds of matched camera poses [F,4,4] (numpy, or torch on the CPU).

    The rotation is the one that best maps both the camera centres (in units of their spread) and the cameras'
    axes, one Procrustes problem: centres on a line or in a point, where `umeyama` is blind, are then settled
    by the axes. Scale and translation come from the centres by least squares; coincident centres give scale
    1. Raises ValueError for mismatched shapes, no poses or non-finite numbers.
    """
    src_poses = np.asarray(camera_from_world_src, dtype=np.float64)
    dst_poses = np.asarray(camera_from_world_dst, dtype=np.float64)
    if src_poses.ndim != 3 or src_poses.shape[1:] != (4, 4) or src_poses.shape != dst_poses.shape:
        raise ValueError(f"two pose lists [F,4,4] expected, got {src_poses.shape} and {dst_poses.shape}")
    src_axes, dst_axes = src_poses[:, :3, :3], dst_poses[:, :3, :3]  # rows: camera axes in the world
    src, dst, weights = _checked(_centres(src_poses), _centres(dst_poses), None)
    src_centre, dst_centre, src_local, dst_local = _centred(src, dst, weights)
    src_spread = np.sqrt((weights * (src_local**2).sum(-1)).sum())
    dst_spread = np.sqrt((weights * (dst_local**2).sum(-1)).sum())
    # Mean over the cameras of R_dst^T R_src, which is dst_from_src for each of them if the poses agree
    # exactly.
    votes = np.einsum("f,fij,fik->jk", weights, dst_axes, src_axes)
    coincident = (
        src_spread <= _COINCIDENT * (1e-300 + np.abs(src).max())
        or dst_spread <= _COINCIDENT * (1e-300 + np.abs(dst).max())
    )  # fmt: skip
    if coincident:
        rotation, scale = _nearest_rotation(votes), 1.0
    else:
        covariance = (weights[:, None] * dst_local).T @ src_local
        rotation = _nearest_rotation(votes + covariance / (src_spread * dst_spread))
        scale = float(np.trace(rotation.T @ covariance)) / float(src_spread) ** 2
        if scale <= 0:
            # The centres contradict the axes; the ratio of the spreads is then the only sane estimate.
            scale = float(dst_spread / src_spread)
    return Similarity(scale, rotation, dst_centre - scale * rotation @ src_centre)


def _like(values: Float64, like: Array) -> Array:
    """`values` as the same kind of array as `like`."""
    if isinstance(like, torch.Tensor):
        return torch.tensor(values, dtype=like.dtype, device=like.device)
    return values.astype(like.dtype)


def _centres(camera_from_world: Float64) -> Float64:
    """Camera centres in the world, [F,4,4] -> [F,3]: -R^T t."""
    return -np.einsum("fij,fi->fj", camera_from_world[:, :3, :3], camera_from_world[:, :3, 3])


def _checked(src: NDArray, dst: NDArray, weights: NDArray | None) -> tuple[Float64, Float64, Float64]:
    """Points as float64 [P,3] and weights [P] that sum to one."""
    src, dst = np.asarray(src, dtype=np.float64), np.asarray(dst, dtype=np.float64)
    weights = np.ones(len(src)) if weights is None else np.asarray(weights, dtype=np.float64)
    if src.ndim != 2 or src.shape[1] != 3 or dst.shape != src.shape or weights.shape != src.shape[:1]:
        raise ValueError(
            f"matched [P,3] and weights [P] expected, got {src.shape}, {dst.shape}, {weights.shape}"
        )
    if not all(np.isfinite(values).all() for values in (src, dst, weights)):
        raise ValueError("points, poses and weights must be finite")
    if (weights < 0).any() or weights.sum() <= 0:
        raise ValueError("at least one point or pose of positive weight is needed, and no negative weight")
    return src, dst, weights / weights.sum()


def _centred(src: Float64, dst: Float64, weights: Float64) -> tuple[Float64, Float64, Float64, Float64]:
    src_centre, dst_centre = weights @ src, weights @ dst
    return src_centre, dst_centre, src - src_centre, dst - dst_centre


def _nearest_rotation(matrix: Float64) -> Float64:
    """The proper rotation R that maximises trace(R^T matrix) (orthogonal Procrustes with positive
    determinant)."""
    u, _, vt = np.linalg.svd(matrix)
    sign = np.ones(3)
    sign[2] = np.sign(np.linalg.det(u @ vt))
    return (u * sign) @ vt
