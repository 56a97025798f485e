"""One JPEG to see which frames are blurred and where: thumbnails with the patch heat map laid over them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from deblurgs.export.contact_sheet import evenly_chosen, fitted_text
from deblurgs.files import atomic_path

_COLUMNS = 4
_CELL_PX = 380
_MARGIN_PX = 8
_LABEL_PX = 40
_FONT_PX = 13
_BACKGROUND = (24, 24, 24)
_INK = (230, 230, 230)
_STRENGTH = 0.45


@dataclass(frozen=True)
class SheetCell:
    """grey [h,w] in [0,1]; heat [R,C] in [0,1] or NaN, over the patches in the middle of the picture; patch_px: their
    side; angle_deg: direction to draw, or None; extent_px its length in pixels of `grey`.
    """

    title: str
    note: str
    grey: NDArray[np.float32]
    heat: NDArray[np.float32]
    patch_px: int
    angle_deg: float | None
    extent_px: float | None


def triage_sheet(
    path: Path, cells: Sequence[SheetCell], *, max_cells: int = 48, overwrite: bool = True
) -> int:
    """Write the sheet; returns the number of frames shown (an even choice of more than `max_cells`).

    Green patches are sharp, red ones blurred, unmarked ones too plain to tell; a yellow line shows direction and length
    of a camera motion. Raises ValueError for no frames.
    """
    if not cells:
        raise ValueError(f"no frames to show in {path}")
    chosen = evenly_chosen(cells, max_cells)
    pictures = [_picture(cell) for cell in chosen]
    columns = min(_COLUMNS, len(chosen))
    row_px = max(picture.height for picture in pictures) + _LABEL_PX + _MARGIN_PX
    width = columns * (_CELL_PX + _MARGIN_PX) + _MARGIN_PX
    sheet = Image.new("RGB", (width, -(-len(chosen) // columns) * row_px + _MARGIN_PX), _BACKGROUND)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_FONT_PX)
    for i, (cell, picture) in enumerate(zip(chosen, pictures, strict=True)):
        x = _MARGIN_PX + (i % columns) * (_CELL_PX + _MARGIN_PX)
        y = _MARGIN_PX + (i // columns) * row_px
        for line, text in enumerate((cell.title, cell.note)):
            draw.text((x, y + 18 * line), fitted_text(text, _CELL_PX, draw, font), fill=_INK, font=font)
        sheet.paste(picture, (x, y + _LABEL_PX))
    with atomic_path(path, overwrite=overwrite) as temporary:
        sheet.save(temporary, format="JPEG", quality=90)
    return len(chosen)


def _picture(cell: SheetCell) -> Image.Image:
    grey = np.repeat(cell.grey[..., None], 3, axis=2)
    rows, columns = cell.heat.shape
    top, left = (
        max(a - n * cell.patch_px, 0) // 2 for a, n in zip(cell.grey.shape, (rows, columns), strict=True)
    )
    heat = np.kron(cell.heat, np.ones((cell.patch_px, cell.patch_px), np.float32))
    heat = heat[: cell.grey.shape[0] - top, : cell.grey.shape[1] - left, None]
    area = grey[top : top + heat.shape[0], left : left + heat.shape[1]]
    colour = np.concatenate([heat, 1.0 - heat, np.zeros_like(heat)], axis=2)
    area[:] = np.where(np.isnan(heat), area, (1 - _STRENGTH) * area + _STRENGTH * colour)
    image = Image.fromarray((grey.clip(0, 1) * 255 + 0.5).astype(np.uint8))
    scale = min(_CELL_PX / image.width, _CELL_PX / image.height)
    size = (max(round(image.width * scale), 1), max(round(image.height * scale), 1))
    image = image.resize(size, Image.Resampling.BILINEAR)
    if cell.angle_deg is not None and cell.extent_px is not None:
        turn, half = np.radians(cell.angle_deg), 0.5 * max(cell.extent_px * scale, 4.0)
        cx, cy, dx, dy = image.width / 2, image.height / 2, half * np.cos(turn), half * np.sin(turn)
        ImageDraw.Draw(image).line((cx - dx, cy - dy, cx + dx, cy + dy), fill=(255, 230, 0), width=3)
    return image
