"""Did the camera move at all? Measured on matched keypoints, before and independently of any reconstruction.

With unknown focal length a camera that only turns on the spot can be "reconstructed" with invented depths, small
reprojection errors and large triangulation angles. What gives it away is that one focal length and a rotation per
pair explain all matches.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MIN_MATCHES = 8
_FOCAL_RATIOS = np.geomspace(0.4, 4.0, 25)
# The widest pairs show the parallax; neighbours in a good video have hardly any.
_WIDE_PAIRS = 0.75
_ROUNDS = 4


@dataclass(frozen=True)
class MatchedPair:
    """Verified matches of two images, px relative to the principal point: first, second [n, 2]. longer_side in px."""

    first: NDArray[np.float64]
    second: NDArray[np.float64]
    longer_side: int


def motion_px(pairs: Sequence[MatchedPair]) -> float:
    """Median over pairs of the median motion of matched keypoints; NaN without pairs."""
    moved = [np.median(np.linalg.norm(p.first - p.second, axis=1)) for p in pairs if len(p.first)]
    return float(np.median(moved)) if moved else float("nan")


def rotation_residual_px(pairs: Sequence[MatchedPair]) -> float:
    """What remains of the motion of matched keypoints when the camera only turned, in pixels.

    For each of several focal lengths every pair gets its best rotation (Kabsch on the viewing rays, refitted to the
    better half of the matches); the residual is the median distance between the turned and the matched keypoint.
    Returned is, for the best focal length, the 75th percentile over the pairs. NaN without usable pairs.
    """
    usable = [p for p in pairs if len(p.first) >= _MIN_MATCHES]
    if not usable:
        return float("nan")
    return min(
        float(np.quantile([_pair_residual(p, ratio * p.longer_side) for p in usable], _WIDE_PAIRS))
        for ratio in _FOCAL_RATIOS
    )


def _pair_residual(pair: MatchedPair, focal: float) -> float:
    rays_a, rays_b = _rays(pair.first, focal), _rays(pair.second, focal)
    keep = np.ones(len(rays_a), dtype=bool)
    distance = np.zeros(len(rays_a))
    for _ in range(_ROUNDS):
        u, _, vt = np.linalg.svd(rays_b[keep].T @ rays_a[keep])
        rotation = u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))]) @ vt
        turned = rays_a @ rotation.T
        place = focal * turned[:, :2] / np.maximum(turned[:, 2:], 1e-6)
        distance = np.linalg.norm(place - pair.second, axis=1)
        keep = distance <= np.median(distance)
    return float(np.median(distance))


def _rays(pixels: NDArray[np.float64], focal: float) -> NDArray[np.float64]:
    rays = np.concatenate([pixels / focal, np.ones((len(pixels), 1))], axis=1)
    return rays / np.linalg.norm(rays, axis=1, keepdims=True)
