"""Masks that lie beside the photos: black where a photo is to be ignored (COLMAP's rule: masks/<photo>.png)."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deblurgs.capture.image import to_8_bit
from deblurgs.capture.photo import Photo, UnusablePhoto, decode_photo, upright


class MaskMismatchError(Exception):
    """The mask cannot belong to its photo; the text says why."""


def masked(photo: Photo, path: Path, max_pixels: float) -> Photo:
    """`photo` with the mask file's black parts (below one half) and its own transparent parts left out.

    A mask fits the photo as it is stored in its file, before any EXIF rotation, or the upright one; masks of another
    size are resized when the proportions agree. Raises MaskMismatchError, UnusablePhoto when nothing is left.
    """
    try:
        mask = decode_photo(path, max_pixels, apply_orientation=False)
    except UnusablePhoto as error:
        raise MaskMismatchError(str(error)) from error
    shown = to_8_bit(mask.pixels).max(axis=2) >= 128
    if mask.mask is not None:
        shown &= mask.mask  # drawn with transparency instead of black
    height, width = photo.pixels.shape[:2]
    turned = photo.orientation in (5, 6, 7, 8) and photo.oriented
    stored = (width, height) if turned else (height, width)
    if _same_proportions(shown.shape, stored):
        shown = _resized(shown, stored)
        if photo.oriented:
            shown = upright(shown, photo.orientation).astype(np.bool_)
    elif _same_proportions(shown.shape, (height, width)):
        shown = _resized(shown, (height, width))
    else:
        raise MaskMismatchError(
            f"it has {shown.shape[1]}x{shown.shape[0]} pixels, the photo {width}x{height}"
        )
    if photo.mask is not None:
        shown = shown & photo.mask
    if not shown.any():
        raise UnusablePhoto("its mask leaves nothing of it")
    return replace(photo, mask=None if shown.all() else np.ascontiguousarray(shown))


def _same_proportions(shape: tuple[int, ...], wanted: tuple[int, int]) -> bool:
    return abs(shape[0] * wanted[1] - shape[1] * wanted[0]) <= max(*shape, *wanted)


def _resized(shown: NDArray[np.bool_], shape: tuple[int, int]) -> NDArray[np.bool_]:
    if shown.shape == shape:
        return shown
    return np.asarray(Image.fromarray(shown).resize((shape[1], shape[0]), Image.Resampling.NEAREST))
