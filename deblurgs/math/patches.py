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

DETAIL = ("gradient_max", "gradient_std", "laplacian_std")
"""The features whose mean tells the sharper of two pictures of one scene."""

_TINY = 1e-8
_FLOOR = 1e-4
_DETAIL_IDX = tuple(FEATURES.index(name) for name in DETAIL)

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

    def detail(self) -> float:
        """`fine_detail` of the picture that these are the patches of."""
        if not self.textured.any():
            return float(np.log(_FLOOR))
        return float(self.values[self.textured][:, _DETAIL_IDX].mean())


@dataclass(frozen=True)
class _Grid:
    """The part of a grey picture that whole patches cover, with a margin of `LAG` pixels around it."""

    area: Grey
    rows: int
    columns: int

    @staticmethod
    def of(grey: Grey) -> "_Grid":
        if grey.ndim != 2 or 0 in grey.shape:
            raise ValueError(f"expected a grey picture [H,W], got shape {grey.shape}")
        grey = np.ascontiguousarray(grey, np.float32)
        short = [max(PATCH + 2 * LAG - size, 0) for size in grey.shape]
        if any(short):
            grey = np.pad(grey, [(0, extra) for extra in short], mode="symmetric")
        rows, columns = ((size - 2 * LAG) // PATCH for size in grey.shape)
        top, left = (
            (size - count * PATCH) // 2 for size, count in zip(grey.shape, (rows, columns), strict=True)
        )
        return _Grid(
            grey[top - LAG : top + rows * PATCH + LAG, left - LAG : left + columns * PATCH + LAG],
            rows,
            columns,
        )

    def shifted(self, dy: int, dx: int) -> Grey:
        """The patches' pixels as seen (dy, dx) further down and right."""
        height, width = self.area.shape
        return self.area[LAG + dy : height - LAG + dy, LAG + dx : width - LAG + dx]

    def cut(self, picture: NDArray[np.floating]) -> NDArray[np.floating]:
        """[rows * PATCH, columns * PATCH] -> [patches, PATCH * PATCH]."""
        cells = picture.reshape(self.rows, PATCH, self.columns, PATCH).transpose(0, 2, 1, 3)
        return np.ascontiguousarray(cells).reshape(self.rows * self.columns, PATCH * PATCH)


@dataclass(frozen=True)
class _Differences:
    """Contrast [P] of each patch, and its first (over two pixels) and second differences, each [P, PATCH * PATCH]."""

    contrast: NDArray[np.floating]
    dx: NDArray[np.floating]
    dy: NDArray[np.floating]
    dxx: NDArray[np.floating]
    dyy: NDArray[np.floating]

    @staticmethod
    def of(grid: _Grid, centre: NDArray[np.floating]) -> "_Differences":
        right, left, below, above = (grid.shifted(*step) for step in ((0, 1), (0, -1), (1, 0), (-1, 0)))
        twice = grid.shifted(0, 0) * np.float32(2.0)
        return _Differences(
            centre.std(axis=1) + _TINY,
            grid.cut(right - left), grid.cut(below - above),
            grid.cut(right + left - twice), grid.cut(below + above - twice),
        )  # fmt: skip

    def relative(self, value: NDArray[np.floating]) -> NDArray[np.floating]:
        """Logarithm of one number of each patch over the patch's contrast."""
        return np.log(value / self.contrast + _FLOOR)


def fine_detail(grey: Grey) -> float:
    """How sharp a picture [H,W] in [0,1] looks: mean over textured patches of the `DETAIL` features, natural-log units.

    Comparable between pictures of one scene only, higher is sharper; the same number as `patch_features(grey).detail()`
    for a part of the cost, which is linear in pixels. Pictures without texture are below all others.
    """
    grid = _Grid.of(grey)
    d = _Differences.of(grid, grid.cut(grid.shifted(0, 0)))
    textured = d.contrast > MIN_CONTRAST
    if not textured.any():
        return float(np.log(_FLOOR))
    gradient = np.sqrt(d.dx * d.dx + d.dy * d.dy)
    found = [d.relative(v) for v in (gradient.max(1), gradient.std(1), (d.dxx + d.dyy).std(1))]
    return float(np.mean([f[textured].mean() for f in found]))


def patch_features(grey: Grey) -> Patches:
    """Features of the non-overlapping patches of grey [H,W] in [0,1]; the border that fills no patch is left out.

    Pictures smaller than one patch are mirrored up to it. Cost: linear in pixels. Raises ValueError for other shapes.
    """
    grid = _Grid.of(grey)
    rows, columns, shifted = grid.rows, grid.columns, grid.shifted
    centre = grid.cut(shifted(0, 0))
    d = _Differences.of(grid, centre)
    contrast, dx, dy, dxx, dyy, relative = d.contrast, d.dx, d.dy, d.dxx, d.dyy, d.relative
    wide_x = grid.cut(shifted(0, LAG) - shifted(0, -LAG))
    wide_y = grid.cut(shifted(LAG, 0) - shifted(-LAG, 0))
    fine, coarse = _moments(dx, dy), _moments(wide_x, wide_y)
    low, high = _pencil(fine, coarse)
    square = dx * dx + dy * dy
    gradient, laplacian = np.sqrt(square), dxx + dyy
    mean_square = square.mean(1) + _TINY**2
    xx, xy, yy = fine
    curved = np.abs(laplacian)
    parts = [
        np.log(contrast**2 / (centre.var() + _TINY**2) + _FLOOR),
        relative(gradient.mean(1)), relative(gradient.std(1)), relative(gradient.max(1)),
        np.log((square * square).mean(1) / mean_square**2 + _TINY),
        relative(laplacian.std(1)), relative(curved.mean(1)), relative(curved.max(1)),
        relative(np.abs(dxx).mean(1)), relative(np.abs(dyy).mean(1)),
        np.abs(np.log((xx + _TINY**2) / (yy + _TINY**2))),
        np.sqrt((xx - yy) ** 2 + 4 * xy**2) / (xx + yy + _TINY**2),
        np.log(low + _FLOOR), np.log(high + _FLOOR),
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
