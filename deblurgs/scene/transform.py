"""Similarities between world frames; scene/alignment.py finds them.

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


def _like(values: Float64, like: Array) -> Array:
    """`values` as the same kind of array as `like`."""
    if isinstance(like, torch.Tensor):
        return torch.tensor(values, dtype=like.dtype, device=like.device)
    return values.astype(like.dtype)
