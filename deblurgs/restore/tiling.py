"""A network over a photo of any size: overlapping tiles, blended, in memory that does not grow with the photo.

Only one row of tiles is held as floating-point numbers; finished rows of pixels become integers at once.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deblurgs.errors import CaptureError
from deblurgs.restore.mimo_unet import SIZE_MULTIPLE

Pixels = NDArray[np.uint8] | NDArray[np.uint16]

TILE_PX = 512
OVERLAP_PX = 64
# Next to a cut the network sees zeros instead of the photo, so the outer quarter of an overlap counts nothing.
_UNUSED_SHARE = 0.25


def restore_pixels(
    network: nn.Module,
    pixels: Pixels,
    *,
    tile: int = TILE_PX,
    overlap: int = OVERLAP_PX,
    ensemble: bool = False,
    on_tile: Callable[[int, int], None] | None = None,
) -> Pixels:
    """The restored photo: [H,W,3] sRGB uint8 or uint16 -> the same shape and type.

    ensemble: the mean over the photo and its three mirror images (four times the work). on_tile(done, total)
    is called after every tile. The network runs where its parameters are. Raises ValueError for tiles that are
    no multiple of 4 or hardly larger than their overlap, CaptureError when the network makes no finite numbers.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ValueError(f"pixels [H,W,3] expected, got shape {list(pixels.shape)}")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"8- or 16-bit pixels expected, got {pixels.dtype}")
    if tile % SIZE_MULTIPLE or tile < 2 * overlap or overlap < 1:
        raise ValueError(f"tiles must be a multiple of {SIZE_MULTIPLE} and at least two overlaps wide")
    height, width = pixels.shape[:2]
    (down, tops), (across, lefts) = (tiles_along(size, tile, overlap) for size in (height, width))
    rows = [_window(tops, i, height, down, overlap) for i in range(len(tops))]
    columns = [_window(lefts, i, width, across, overlap) for i in range(len(lefts))]
    column_sum = _sum_of(columns, lefts, width)
    row_sum = _sum_of(rows, tops, height)

    result = np.empty_like(pixels)
    scale = np.float32(np.iinfo(pixels.dtype).max)
    band = np.zeros((0, width, 3), np.float32)  # weighted sums from row `top` on
    for i, top in enumerate(tops):
        band = np.concatenate([band, np.zeros((len(rows[i]) - len(band), width, 3), np.float32)])
        for k, left in enumerate(lefts):
            part = pixels[top : top + len(rows[i]), left : left + len(columns[k])].astype(np.float32) / scale
            restored = _restore_tile(network, part, ensemble)
            weight = (rows[i][:, None] * columns[k][None, :])[..., None]
            band[: len(rows[i]), left : left + len(columns[k])] += restored * weight
            if on_tile:
                on_tile(i * len(lefts) + k + 1, len(tops) * len(lefts))
        finished = (tops[i + 1] if i + 1 < len(tops) else height) - top
        total = row_sum[top : top + finished, None] * column_sum[None, :]
        values = np.clip(band[:finished] / total[..., None], 0, 1) * scale + np.float32(0.5)
        result[top : top + finished] = values.astype(pixels.dtype)
        band = band[finished:]
    return result


def tiles_along(size: int, most: int, overlap: int) -> tuple[int, list[int]]:
    """One side of a photo: the side of its tiles and where they begin.

    As few tiles as go with at most `most` pixels and `overlap` between neighbours, and no larger than these few must
    be: pixels that two tiles share are worked on twice. The last one ends at the border.
    """
    if size <= most:
        return most, [0]
    count = -(-(size - overlap) // (most - overlap))
    side = -(-(size + (count - 1) * overlap) // count)
    side = max(side + -side % SIZE_MULTIPLE, 2 * overlap)
    return side, [round(i * (size - side) / (count - 1)) for i in range(count)]


def _window(starts: list[int], index: int, size: int, tile: int, overlap: int) -> NDArray[np.float32]:
    """Weights along one side of a tile: 1 inside, falling to 0 where a neighbour takes over."""
    length = min(tile, size)
    weights = np.ones(length, np.float32)
    unused = int(overlap * _UNUSED_SHARE)
    ramp = np.zeros(overlap, np.float32)
    inner = overlap - 2 * unused
    ramp[unused : unused + inner] = (np.arange(inner) + 0.5) / inner
    ramp[unused + inner :] = 1
    if index > 0:
        weights[:overlap] *= ramp
    if index + 1 < len(starts):
        weights[-overlap:] *= ramp[::-1]
    return weights


def _sum_of(windows: list[NDArray[np.float32]], starts: list[int], size: int) -> NDArray[np.float32]:
    total = np.zeros(size, np.float32)
    for window, start in zip(windows, starts, strict=True):
        total[start : start + len(window)] += window
    return total


@torch.inference_mode()
def _restore_tile(network: nn.Module, part: NDArray[np.float32], ensemble: bool) -> NDArray[np.float32]:
    """[h,w,3] in [0,1] -> the same shape. Sides that are no multiple of 4 are continued by mirroring."""
    height, width = part.shape[:2]
    padded = np.pad(part, ((0, -height % SIZE_MULTIPLE), (0, -width % SIZE_MULTIPLE), (0, 0)), "symmetric")
    device = next(network.parameters()).device
    photo = torch.from_numpy(padded).to(device).permute(2, 0, 1)[None]
    mirrors: list[tuple[int, ...]] = [(), (2,), (3,), (2, 3)] if ensemble else [()]
    total: Tensor | None = None
    for axes in mirrors:
        restored = network(photo.flip(axes) if axes else photo)[-1]
        restored = restored.flip(axes) if axes else restored
        total = restored if total is None else total + restored
    assert total is not None
    if not torch.isfinite(total).all():
        raise CaptureError("these weights make no picture (numbers that are not finite). Use other weights.")
    return (total[0] / len(mirrors)).permute(1, 2, 0).float().cpu().numpy()[:height, :width]
