"""Writing a processed photo by its source's habits: JPEG stays JPEG, 16 bits stay 16 bits, EXIF is kept."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deblurgs.capture.detect import IMAGE_SUFFIXES
from deblurgs.capture.image import Pixels, write_jpeg, write_png
from deblurgs.errors import UsageError
from deblurgs.files import same_file

JPEG_SUFFIXES = (".jpg", ".jpeg")
WRITTEN = (*JPEG_SUFFIXES, ".png")
"""Endings of results."""
JPEG_QUALITY = 95
_JPEG_MAX_SIDE = 65535


def output_suffix(source: Path, dtype: np.dtype, height: int, width: int) -> str:
    """ ".jpg" for an 8-bit JPEG that stays within JPEG's limits, else ".png"."""
    fits = max(height, width) <= _JPEG_MAX_SIDE and dtype == np.uint8
    return ".jpg" if source.suffix.lower() in JPEG_SUFFIXES and fits else ".png"


def check_size(path: Path, height: int, width: int) -> None:
    """Raises UsageError where a file of this name cannot hold that many pixels: to be asked before the work."""
    if path.suffix.lower() in JPEG_SUFFIXES and max(height, width) > _JPEG_MAX_SIDE:
        raise UsageError(f"{path}: JPEG holds no more than {_JPEG_MAX_SIDE} pixels per side. Name a .png.")


def save_photo(path: Path, pixels: Pixels, exif: bytes = b"") -> None:
    """sRGB pixels [H,W,3] as JPEG (8 bits) or PNG (8 or 16) by the suffix of `path`, with an EXIF block. Atomic.

    Raises UsageError or ResourceError when it cannot be written.
    """
    check_size(path, *pixels.shape[:2])
    if path.suffix.lower() in JPEG_SUFFIXES:
        write_jpeg(path, pixels, JPEG_QUALITY, exif=exif, whole_colour=True)
    else:
        write_png(path, pixels, exif=exif)


def named_file(output: Path, photos: Sequence[Path]) -> Path | None:
    """The file that `output` names for the result of one photo; None where it names a folder.

    Raises UsageError for an `output` that cannot be meant: a file where there are several photos, one that cannot be
    written, or the photo itself.
    """
    if output.is_dir() or output.suffix.lower() not in IMAGE_SUFFIXES:
        if output.exists() and not output.is_dir():
            raise UsageError(
                f"{output} is a file. Name a folder with --output, or for one photo a .jpg or .png."
            )
        return None
    if len(photos) > 1:
        raise UsageError(
            f"--output {output} names one picture, but there are {len(photos)} photos. Name a folder for them."
        )
    if output.suffix.lower() not in WRITTEN:
        raise UsageError(f"--output {output}: results are written as .jpg or .png")
    if photos and same_file(output, photos[0]):
        raise UsageError(f"{output} is the photo itself and would be replaced. Name another --output.")
    return output
