"""One JPEG to judge a run by: observed and sharp frames side by side."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from deblurgs.files import atomic_path

Picture = NDArray[np.uint8] | NDArray[np.float32] | Path
"""sRGB [H,W,3], uint8 or float in [0, 1]; or the path of an image file, opened only if it gets onto the sheet."""

_T = TypeVar("_T")
_MARGIN_PX = 8
_LABEL_PX = 22
_FONT_PX = 14
_MAX_PIXELS = 24_000_000
_MIN_CELL_PX = 32
_BACKGROUND = (24, 24, 24)
_INK = (230, 230, 230)


def evenly_chosen(items: Sequence[_T], count: int) -> list[_T]:
    """At most `count` items spread evenly, the first and the last among them."""
    if len(items) <= count:
        return list(items)
    if count <= 1:
        return [items[len(items) // 2]]
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def compare_sheet(
    path: Path,
    rows: Sequence[tuple[str, Picture, Picture]],
    *,
    titles: tuple[str, str] = ("observed", "sharp"),
    max_rows: int = 16,
    max_width: int = 1600,
    overwrite: bool = True,
) -> int:
    """Write a JPEG with one row (name, observed, sharp) per frame; returns the number of rows shown.

    Of more than `max_rows` rows an even choice is shown. Pictures are shrunk to fit `max_width` pixels and about 24
    megapixels for the whole sheet, never enlarged; the right one is brought to the size of the left one. Raises
    ValueError for no rows.
    """
    if not rows:
        raise ValueError(f"no frames to show in {path}")
    chosen = evenly_chosen(rows, max_rows)
    cell_px = max((max_width - 3 * _MARGIN_PX) // 2, _MIN_CELL_PX)
    sizes = [_size(observed) for _, observed, _ in chosen]
    cells = _cell_sizes(sizes, cell_px)
    while sum(2 * w * h for w, h in cells) > _MAX_PIXELS and cell_px > _MIN_CELL_PX:
        cell_px = max(int(cell_px * 0.9), _MIN_CELL_PX)
        cells = _cell_sizes(sizes, cell_px)
    column = max(w for w, _ in cells)
    width = 2 * column + 3 * _MARGIN_PX
    height = _LABEL_PX + sum(h + _LABEL_PX + _MARGIN_PX for _, h in cells) + _MARGIN_PX
    sheet = Image.new("RGB", (width, height), _BACKGROUND)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_FONT_PX)
    left, right = _MARGIN_PX, column + 2 * _MARGIN_PX
    for x, title in zip((left, right), titles, strict=True):
        draw.text((x, 4), fitted_text(title, column, draw, font), fill=_INK, font=font)
    y = _LABEL_PX
    for (name, observed, sharp), size in zip(chosen, cells, strict=True):
        draw.text((left, y + 4), fitted_text(name, width - 2 * _MARGIN_PX, draw, font), fill=_INK, font=font)
        y += _LABEL_PX
        sheet.paste(_picture(observed, size), (left, y))
        sheet.paste(_picture(sharp, size), (right, y))
        y += size[1] + _MARGIN_PX
    with atomic_path(path, overwrite=overwrite) as temporary:
        # No chroma subsampling: coloured edges are what one looks at here.
        sheet.save(temporary, format="JPEG", quality=92, subsampling=0)
    return len(chosen)


def _size(picture: Picture) -> tuple[int, int]:
    if isinstance(picture, Path):
        with Image.open(picture) as image:  # Reads the header only.
            return image.size
    return picture.shape[1], picture.shape[0]


def _cell_sizes(sizes: Sequence[tuple[int, int]], cell_px: int) -> list[tuple[int, int]]:
    scales = [min(1.0, cell_px / width) for width, _ in sizes]
    return [
        (max(round(w * s), 1), max(round(h * s), 1)) for (w, h), s in zip(sizes, scales, strict=True)
    ]  # fmt: skip


def _picture(picture: Picture, size: tuple[int, int]) -> Image.Image:
    if isinstance(picture, Path):
        with Image.open(picture) as opened:
            image = _eight_bits(opened).convert("RGB")
    elif picture.dtype == np.uint8:
        image = Image.fromarray(np.ascontiguousarray(picture))
    else:
        image = Image.fromarray((np.nan_to_num(picture).clip(0, 1) * 255 + 0.5).astype(np.uint8))
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Pillow saturates 16-bit grey when it converts to RGB; scale it instead."""
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image).clip(0, 65535) // 256).astype(np.uint8))


def fitted_text(
    text: str, width: int, draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> str:
    """One line that fits: control and direction characters are dropped, long names end in an ellipsis."""
    shown = "".join(c for c in text[:400] if unicodedata.category(c)[0] != "C")
    if draw.textlength(shown, font=font) <= width:
        return shown
    while shown and draw.textlength(shown + "...", font=font) > width:
        shown = shown[:-1]
    return shown + "..."
