"""Reprojection under a rolling shutter: residuals and their derivatives.

A point seen in row share s (-1/2 top, 1/2 bottom) of frame i was seen from T_i exp(path_i(readout * s)), where path_i
is the spline through the neighbouring poses (path.py). What a shake shorter than the frame interval adds is not
modelled: a free velocity per frame, however small its prior, lets scene and focal length collapse (Albl, Sugimoto,
Pajdla, "Degeneracies in Rolling Shutter SfM", ECCV 2016), while the readout, a regression of what the rows show on the
motion between the frames, is right without it.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

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

    @property
    def counts(self) -> list[int]:
        return [b - a for a, b in pairwise(self.starts)]


@dataclass(frozen=True)
class Estimate:
    """poses [F,4,4] world_from_camera at the middle row; points [P,3]; shared [3]. All float64."""

    poses: Tensor
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
        """A step: frames [F,6] (tangents of the poses), shared [3], points [P,3]."""
        return replace(
            self,
            poses=self.poses @ se3_exp(frames),
            points=self.points + points,
            shared=self.shared + shared,
        )


@dataclass(frozen=True)
class Rows:
    """All sightings, linearised. residual [N,2]; by_point [N,2,3]; by_frame [N,2,K] with respect to the columns of
    their frame, columns [F,K] of the vector (frames [F,6] flattened, shared [3])."""

    residual: Tensor
    by_point: Tensor
    by_frame: Tensor
    columns: Tensor


def residuals(at: Estimate, windows: list[Window], seen: Sightings) -> Tensor:
    """Projected minus observed pixels [N,2]. A point behind a camera is treated as if it were very near."""
    _, xi, _, _ = _paths(at, windows, seen)
    x, _ = _in_camera(at, seen, xi)
    return _project(x, at.shared) - seen.pixel


def linearised(at: Estimate, windows: list[Window], seen: Sightings) -> Rows:
    """Residuals and derivatives of all sightings; the windows of all frames have one width W, K = 6 W + 3."""
    between, xi, values, by_time = _paths(at, windows, seen)
    x, rotation = _in_camera(at, seen, xi)
    by_camera = _projection_derivative(x, at.shared)  # [N,2,3]
    # A pose that is moved by eta in its own axes moves the point by -(v + omega x x).
    by_twist = torch.cat([-by_camera, by_camera @ hat(x)], dim=-1)  # [N,2,6]
    by_xi = by_twist @ se3_left_jacobian(-xi)
    by_own = by_twist @ se3_adjoint(se3_exp(-xi))
    to_right = torch.linalg.inv(se3_left_jacobian(-between))  # d xi_ij / d T_j, [F,W,6,6]
    to_left = torch.linalg.inv(se3_left_jacobian(between))  # - d xi_ij / d T_i
    width = between.shape[1]
    by_poses = by_xi.new_empty(len(x), 2, width, 6)
    for frame, window in enumerate(windows):
        own = seen.of(frame)
        weight = values[own][:, None, :, None]  # [n,1,W,1]
        right, left = (
            (by_xi[own] @ m[frame].transpose(0, 1).flatten(1)).unflatten(-1, (width, 6)) * weight
            for m in (to_right, to_left)
        )
        right[:, :, frame - int(window.frames[0])] += by_own[own] - left.sum(dim=2)
        by_poses[own] = right
    by_readout = (by_xi @ (seen.row[:, None] * by_time)[..., None])[..., 0]
    by_focal, by_distortion = _lens_derivative(x, at.shared)
    by_frame = torch.cat(
        [
            by_poses.flatten(2),
            torch.stack([by_focal, by_distortion, by_readout], dim=-1),
        ],
        dim=-1,
    )
    count = len(at.poses)
    frames = torch.stack([w.frames for w in windows])
    columns = torch.cat(
        [
            (6 * frames[..., None] + torch.arange(6)).flatten(1),
            (6 * count + torch.arange(SHARED)).expand(count, SHARED),
        ],
        dim=1,
    )
    return Rows(_project(x, at.shared) - seen.pixel, by_camera @ rotation.mT, by_frame, columns)


def _paths(at: Estimate, windows: list[Window], seen: Sightings) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(xi_ij [F,W,6], xi [N,6], weights of the windows [N,W], d path / d time [N,6])."""
    frames = torch.stack([w.frames for w in windows])
    between = se3_log(se3_inverse(at.poses)[:, None] @ at.poses[frames])
    pieces = []
    for frame, window in enumerate(windows):
        value, slope = window.weights(at.shared[2] * seen.row[seen.of(frame)])
        pieces.append((value, value @ between[frame], slope @ between[frame]))
    values, path, by_time = (torch.cat(parts) for parts in zip(*pieces, strict=True))
    return between, path, values, by_time


def _in_camera(at: Estimate, seen: Sightings, xi: Tensor) -> tuple[Tensor, Tensor]:
    """(points in the cameras of their rows [N,3], rotations world_from_camera [N,3,3])."""
    pose = torch.repeat_interleave(at.poses, torch.tensor(seen.counts), dim=0) @ se3_exp(xi)
    rotation, centre = pose[:, :3, :3], pose[:, :3, 3]
    return ((at.points[seen.point] - centre)[:, None] @ rotation)[:, 0], rotation


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
