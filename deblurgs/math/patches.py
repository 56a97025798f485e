"""How sharp the patches of a grey picture look, in numbers: what the blur classifier reads.

After the idea of Kattamuru et al., "Patch-wise Features for Blur Image Classification", arXiv 2304.03156 (grey-level
variance, first- and second-order gradients, local binary patterns). The paper publishes neither patch size nor exact
statistics, so those here are our own. Everything but the share of variance is divided by the patch's own contrast:
gain and brightness of the picture cancel.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

PATCH = 40
"""Side of a patch in pixels of the working picture; 640x360 has 16x9 patches."""
WORKING_SIDE = 640
"""Longer side of the working picture in pixels. Blur is judged at this size, where it is what reconstruction sees."""
MIN_CONTRAST = 0.008
"""Standard deviation of grey below which a patch has nothing to judge blur by (two of 255 levels)."""
LAG = 4
"""Baseline in pixels of the coarse differences that the fine ones are compared with."""

LBP_BINS = 10
FEATURES = (
    "variance_share", "gradient_mean", "gradient_std", "gradient_max", "gradient_kurtosis",
    "laplacian_std", "laplacian_mean", "laplacian_max", "dxx_mean", "dyy_mean", "axis_ratio", "coherence",
    "fine_share_min", "fine_share_max", *(f"lbp_{i}" for i in range(LBP_BINS)),
)  # fmt: skip
"""Names of the numbers of one patch, in order."""

STATISTICS = ("mean", "std", "p10", "p50", "p75", "p90", "p100")
"""How the patches of one picture are put together, feature by feature."""

_TINY = 1e-8

Grey = NDArray[np.float32]


@dataclass(frozen=True)
class Patches:
    """values [R,C,F] in the order of `FEATURES`; textured bool [R,C]: patches with enough contrast to judge."""

    values: NDArray[np.float32]
    textured: NDArray[np.bool_]

    def summary(self) -> NDArray[np.float32]:
        """[len(STATISTICS) * F]: statistics over the textured patches (all patches when none is textured)."""
        rows = self.values[self.textured] if self.textured.any() else self.values.reshape(-1, len(FEATURES))
        places = np.percentile(rows, (10, 50, 75, 90, 100), axis=0)
        return np.concatenate([rows.mean(0), rows.std(0), *places]).astype(np.float32)


def patch_features(grey: Grey) -> Patches:
    """Features of the non-overlapping patches of grey [H,W] in [0,1]; the border that fills no patch is left out.

    Pictures smaller than one patch are mirrored up to it. Cost: linear in pixels. Raises ValueError for other shapes.
    """
    if grey.ndim != 2 or 0 in grey.shape:
        raise ValueError(f"expected a grey picture [H,W], got shape {grey.shape}")
    grey = np.ascontiguousarray(grey, np.float32)
    short = [max(PATCH + 2 * LAG - size, 0) for size in grey.shape]
    if any(short):
        grey = np.pad(grey, [(0, extra) for extra in short], mode="symmetric")
    rows, columns = ((size - 2 * LAG) // PATCH for size in grey.shape)
    top, left = ((size - count * PATCH) // 2 for size, count in zip(grey.shape, (rows, columns), strict=True))
    area = grey[top - LAG : top + rows * PATCH + LAG, left - LAG : left + columns * PATCH + LAG]

    def shifted(dy: int, dx: int) -> Grey:
        return area[LAG + dy : area.shape[0] - LAG + dy, LAG + dx : area.shape[1] - LAG + dx]

    def cut(picture: NDArray[np.floating]) -> NDArray[np.floating]:
        cells = picture.reshape(rows, PATCH, columns, PATCH).transpose(0, 2, 1, 3)
        return np.ascontiguousarray(cells).reshape(rows * columns, PATCH * PATCH)

    centre = cut(shifted(0, 0))
    contrast = centre.std(axis=1) + _TINY
    right, left_, below, above = shifted(0, 1), shifted(0, -1), shifted(1, 0), shifted(-1, 0)
    dx, dy = cut(right - left_), cut(below - above)
    twice = shifted(0, 0) * np.float32(2.0)
    dxx, dyy = cut(right + left_ - twice), cut(below + above - twice)
    wide_x, wide_y = cut(shifted(0, LAG) - shifted(0, -LAG)), cut(shifted(LAG, 0) - shifted(-LAG, 0))
    fine, coarse = _moments(dx, dy), _moments(wide_x, wide_y)
    low, high = _pencil(fine, coarse)
    square = dx * dx + dy * dy
    gradient, laplacian = np.sqrt(square), dxx + dyy
    mean_square = square.mean(1) + _TINY**2
    xx, xy, yy = fine

    def relative(value: NDArray[np.floating]) -> NDArray[np.floating]:
        return np.log(value / contrast + 1e-4)

    curved = np.abs(laplacian)
    parts = [
        np.log(contrast**2 / (centre.var() + _TINY**2) + 1e-4),
        relative(gradient.mean(1)), relative(gradient.std(1)), relative(gradient.max(1)),
        np.log((square * square).mean(1) / mean_square**2 + _TINY),
        relative(laplacian.std(1)), relative(curved.mean(1)), relative(curved.max(1)),
        relative(np.abs(dxx).mean(1)), relative(np.abs(dyy).mean(1)),
        np.abs(np.log((xx + _TINY**2) / (yy + _TINY**2))),
        np.sqrt((xx - yy) ** 2 + 4 * xy**2) / (xx + yy + _TINY**2),
        np.log(low + 1e-4), np.log(high + 1e-4),
    ]  # fmt: skip
    patterns = _pattern_shares([shifted(*step) >= shifted(0, 0) for step in _RING], rows, columns)
    values = np.concatenate([np.stack(parts, axis=1), patterns], axis=1).astype(np.float32)
    textured = contrast > MIN_CONTRAST
    return Patches(values.reshape(rows, columns, -1), textured.reshape(rows, columns))


Moments = tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.floating]]


def _moments(dx: NDArray[np.floating], dy: NDArray[np.floating]) -> Moments:
    """xx, xy, yy of the structure tensor of each patch: energy of the derivative in any direction."""
    count = dx.shape[1]
    return (
        np.einsum("pi,pi->p", dx, dx) / count,
        np.einsum("pi,pi->p", dx, dy) / count,
        np.einsum("pi,pi->p", dy, dy) / count,
    )


def _pencil(fine: Moments, coarse: Moments) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Least and largest ratio of fine to coarse derivative energy over all directions.

    Eigenvalues of inverse(coarse) @ fine, closed form for 2x2. Motion blur along d removes fine derivatives along d
    and leaves coarse ones, so the least ratio falls more than the largest; defocus lowers both alike.
    """
    a, b, c = fine
    p, q, r = coarse
    ridge = 1e-3 * (p + r) + _TINY**2
    p, r = p + ridge, r + ridge
    determinant = p * r - q * q
    trace = (r * a - 2 * q * b + p * c) / determinant
    product = (a * c - b * b) / determinant
    root = np.sqrt(np.maximum(0.25 * trace**2 - product, 0.0))
    return np.maximum(0.5 * trace - root, 0.0), 0.5 * trace + root


_RING = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))


@cache
def _uniform_bins() -> NDArray[np.uint8]:
    """[256]: bin of each 8-bit ring: number of ones when it changes at most twice around, else 9.

    Rotation-invariant uniform patterns of Ojala, Pietikainen, Maenpaa, TPAMI 24(7), 2002, eq. 9 (riu2), on the eight
    nearest pixels without interpolation.
    """
    codes = np.arange(256, dtype=np.uint8)
    bits = (codes[:, None] >> np.arange(8)) & 1
    changes = (bits != np.roll(bits, 1, axis=1)).sum(1)
    return np.where(changes <= 2, bits.sum(1), LBP_BINS - 1).astype(np.uint8)


def _pattern_shares(ring: list[NDArray[np.bool_]], rows: int, columns: int) -> NDArray[np.floating]:
    code = np.packbits(np.stack(ring), axis=0)[0]
    bins = _uniform_bins()[code].reshape(rows, PATCH, columns, PATCH)
    patch = np.arange(rows * columns).reshape(rows, 1, columns, 1) * LBP_BINS
    counts = np.bincount((bins + patch).ravel(), minlength=rows * columns * LBP_BINS)
    return counts.reshape(-1, LBP_BINS) / (PATCH * PATCH)
