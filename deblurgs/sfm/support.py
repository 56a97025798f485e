"""Do the cameras of a model explain the matches between its frames? Pure numpy on viewing rays.

A mapper keeps only the matches that suit its poses, so its reprojection error says little about the ones it threw
away. All verified matches are asked here: with true cameras nearly all of them lie near their epipolar lines.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Matches within this many pixels of their epipolar line agree with the cameras; blur hides the place of a feature.
NEAR_PX = 4.0


@dataclass(frozen=True)
class RayPair:
    """Verified matches of two images as ray directions (x/z, y/z), first, second [n, 2]; second_from_first [4, 4] by
    the model; focal length in px."""

    first: NDArray[np.float64]
    second: NDArray[np.float64]
    second_from_first: NDArray[np.float64]
    focal_px: float


def sampson_px(pair: RayPair) -> NDArray[np.float64]:
    """Distance of each match from the epipolar geometry of the two cameras, to first order (Hartley & Zisserman,
    eq. 11.9), in pixels. Shape [n]."""
    rotation, t = pair.second_from_first[:3, :3], pair.second_from_first[:3, 3]
    cross = np.array([[0, -t[2], t[1]], [t[2], 0, -t[0]], [-t[1], t[0], 0]])
    essential = cross @ rotation
    a, b = (np.concatenate([r, np.ones((len(r), 1))], axis=1) for r in (pair.first, pair.second))
    line_b, line_a = a @ essential.T, b @ essential
    error = np.abs((b * line_b).sum(axis=1))
    slope = np.sqrt((line_b[:, :2] ** 2).sum(axis=1) + (line_a[:, :2] ** 2).sum(axis=1))
    return pair.focal_px * error / np.maximum(slope, 1e-12)


def explained_share(pairs: Sequence[RayPair], near_px: float = NEAR_PX) -> float:
    """Mean over the pairs of the share of matches that agree with the cameras; NaN without pairs."""
    shares = [float((sampson_px(p) <= near_px).mean()) for p in pairs if len(p.first)]
    return float(np.mean(shares)) if shares else float("nan")


def typical_px(pairs: Sequence[RayPair]) -> float:
    """Median over the pairs of the median distance from the epipolar geometry, in pixels; NaN without pairs."""
    medians = [float(np.median(sampson_px(p))) for p in pairs if len(p.first)]
    return float(np.median(medians)) if medians else float("nan")
