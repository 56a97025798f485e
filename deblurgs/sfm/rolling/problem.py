"""Reprojection under a rolling shutter: residuals and their derivatives.

A point seen in row share s (-1/2 top, 1/2 bottom) of frame i was seen from T_i exp(xi), where

    xi = path_i(readout * s) + s * excess_i

and path_i is the spline through the neighbouring poses (path.py). The excess is what a shake shorter than the frame
interval adds; it is held small by a prior, counted in pixels over the whole readout. It stands beside the path and not
inside it, so that the readout is the regression of what the rows show on the motion between the frames: unbiased as
long as both the quick shakes and the slow ones do not depend on each other.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from deblurgs.math.lie import hat, se3_adjoint, se3_exp, se3_inverse, se3_left_jacobian, se3_log
from deblurgs.sfm.rolling.path import Window

SHARED = 3
"""log(focal), radial distortion, readout."""


@dataclass(frozen=True)
class Sightings:
    """What was seen of F frames, sorted by frame: point index [N], pixel relative to the principal point [N,2], row
    share [N] in [-1/2, 1/2], and where each frame's sightings begin [F+1]. No frame sees a point twice."""

    point: Tensor
    pixel: Tensor
    row: Tensor
    starts: list[int]

    def of(self, frame: int) -> slice:
        return slice(self.starts[frame], self.starts[frame + 1])


@dataclass(frozen=True)
class Estimate:
    """poses [F,4,4] world_from_camera at the middle row; excess [F,6]; points [P,3]; shared [3]. All float64."""

    poses: Tensor
    excess: Tensor
    points: Tensor
    shared: Tensor

    @property
    def focal(self) -> float:
        return float(self.shared[0].exp())

    @property
    def distortion(self) -> float:
        return float(self.shared[1])

    @property
    def readout(self) -> float:
        return float(self.shared[2])

    def moved(self, frames: Tensor, shared: Tensor, points: Tensor) -> "Estimate":
        """A step: frames [F,12] (tangents of the poses, then changes of the excess), shared [3], points [P,3]."""
        return replace(
            self,
            poses=self.poses @ se3_exp(frames[:, :6]),
            excess=self.excess + frames[:, 6:],
            points=self.points + points,
            shared=self.shared + shared,
        )


@dataclass(frozen=True)
class Rows:
    """One frame's sightings, linearised. residual [n,2]; by_point [n,2,3]; by_frame [n,2,K] with respect to the columns
    [K] of the vector (frames [F,12] flattened, shared [3])."""

    residual: Tensor
    by_point: Tensor
    by_frame: Tensor
    columns: Tensor


def residuals(at: Estimate, windows: list[Window], seen: Sightings) -> Tensor:
    """Projected minus observed pixels [N,2]. Points behind the camera get a large residual."""
    return torch.cat([_frame(at, w, seen, i)[0] for i, w in enumerate(windows)])


def linearised(at: Estimate, window: Window, seen: Sightings, frame: int) -> Rows:
    """Residuals and derivatives of one frame's sightings."""
    residual, between, xi, x, rotation = _frame(at, window, seen, frame)
    own, row = seen.of(frame), seen.row[seen.of(frame)]
    by_camera = _projection_derivative(x, at.shared)  # [n,2,3]
    by_point = by_camera @ rotation.mT
    # A pose that is moved by eta in its own axes moves the point by -(v + omega x x).
    by_twist = by_camera @ torch.cat([-torch.eye(3, dtype=x.dtype).expand(len(x), 3, 3), hat(x)], dim=-1)
    by_xi = by_twist @ se3_left_jacobian(-xi)  # [n,2,6]
    value, slope = window.weights(at.shared[2] * row)
    to_right = torch.linalg.inv(se3_left_jacobian(-between))  # d xi_ij / d T_j, [W,6,6]
    to_left = torch.linalg.inv(se3_left_jacobian(between))  # - d xi_ij / d T_i
    by_poses = torch.einsum("nak,wkb,nw->nwab", by_xi, to_right, value)  # [n,W,2,6]
    centre = int((window.frames == frame).nonzero()[0, 0])
    by_own = by_twist @ se3_adjoint(se3_exp(-xi)) - torch.einsum("nak,wkb,nw->nab", by_xi, to_left, value)
    by_poses[:, centre] += by_own
    by_readout = (by_xi @ (row[:, None] * (slope @ between))[..., None])[..., 0]  # [n,2]
    by_focal, by_distortion = _lens_derivative(x, at.shared)
    by_excess = by_xi * row[:, None, None]
    count = len(at.poses)
    columns = torch.cat(
        [
            (12 * window.frames[:, None] + torch.arange(6)).flatten(),
            12 * frame + torch.arange(6, 12),
            12 * count + torch.arange(SHARED),
        ]
    )
    by_frame = torch.cat(
        [
            by_poses.transpose(1, 2).flatten(2),
            by_excess,
            torch.stack([by_focal, by_distortion, by_readout], dim=-1),
        ],
        dim=-1,
    )
    assert len(residual) == own.stop - own.start
    return Rows(residual, by_point, by_frame, columns)


def _frame(
    at: Estimate, window: Window, seen: Sightings, frame: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(residual [n,2], xi_ij [W,6], xi [n,6], points in the camera [n,3], rotation world_from_camera [n,3,3])."""
    own = seen.of(frame)
    row = seen.row[own]
    between = se3_log(se3_inverse(at.poses[frame]) @ at.poses[window.frames])
    value, _ = window.weights(at.shared[2] * row)
    xi = value @ between + row[:, None] * at.excess[frame]
    pose = at.poses[frame] @ se3_exp(xi)
    rotation, centre = pose[:, :3, :3], pose[:, :3, 3]
    x = ((at.points[seen.point[own]] - centre)[:, None] @ rotation)[:, 0]
    return _project(x, at.shared) - seen.pixel[own], between, xi, x, rotation


_NEAR = 1e-3
"""Smallest depth, in units in which the cameras span about 1."""


def _project(x: Tensor, shared: Tensor) -> Tensor:
    place = x[:, :2] / x[:, 2:].clamp_min(_NEAR)
    return shared[0].exp() * place * (1 + shared[1] * place.square().sum(dim=1, keepdim=True))


def _projection_derivative(x: Tensor, shared: Tensor) -> Tensor:
    """d pixel / d point in the camera, [n,3] -> [n,2,3]."""
    z = x[:, 2:].clamp_min(_NEAR)
    place = x[:, :2] / z
    squared = place.square().sum(dim=1)[:, None, None]
    by_place = (1 + shared[1] * squared) * torch.eye(2, dtype=x.dtype) + 2 * shared[1] * (
        place[:, :, None] * place[:, None]
    )
    of_place = torch.cat([torch.eye(2, dtype=x.dtype).expand(len(x), 2, 2), -place[..., None]], dim=-1)
    return shared[0].exp() * by_place @ of_place / z[..., None]


def _lens_derivative(x: Tensor, shared: Tensor) -> tuple[Tensor, Tensor]:
    """d pixel / d log(focal) and / d distortion, [n,2] each."""
    place = x[:, :2] / x[:, 2:].clamp_min(_NEAR)
    squared = place.square().sum(dim=1, keepdim=True)
    focal = shared[0].exp()
    return focal * place * (1 + shared[1] * squared), focal * place * squared
