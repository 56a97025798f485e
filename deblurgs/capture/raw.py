"""Camera raw files (DNG, CR2, NEF, ...): developed to 16-bit sRGB by LibRaw, where the extra `phone` is installed.

Nothing is brightened or denoised: light that is linear until it is encoded is what a mean over an exposure is made of.
"""

import struct
from pathlib import Path

from PIL import Image

from deblurgs.capture.detect import RAW_SUFFIXES
from deblurgs.capture.image import Pixels


class RawError(Exception):
    """The file cannot be developed; the text is the reason shown to the user."""


def is_raw(path: Path) -> bool:
    return path.suffix.lower() in RAW_SUFFIXES


def develop(path: Path, max_pixels: float, *, apply_orientation: bool = True) -> tuple[Pixels, float | None]:
    """Upright sRGB uint16 [H,W,3] with the camera's white balance, and the exposure time in seconds where it is known.

    Raises RawError for damaged or too large files, and where rawpy is not installed.
    """
    try:
        import rawpy  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise RawError(
            "camera raw photo: install rawpy (pip install deblurgs[phone]) or develop it to TIFF or JPEG"
        ) from error
    try:
        with rawpy.imread(str(path)) as raw:
            width, height = raw.sizes.width, raw.sizes.height
            if width * height > max_pixels:
                raise RawError(
                    f"{width}x{height} = {width * height / 1e6:.0f} million pixels exceeds the limit of "
                    f"{max_pixels / 1e6:.0f} million (--max-pixels)"
                )
            pixels = raw.postprocess(
                output_bps=16, use_camera_wb=True, no_auto_bright=True, gamma=(2.4, 12.92),
                output_color=rawpy.ColorSpace.sRGB, user_flip=None if apply_orientation else 0,
            )  # fmt: skip
    except rawpy.LibRawError as error:
        raise RawError(f"damaged or unreadable camera raw file ({error})") from error
    return pixels, _exposure(path)


def _exposure(path: Path) -> float | None:
    """Most raw files are TIFF files in disguise, whose EXIF data Pillow reads."""
    from deblurgs.capture.photo import exif_exposure

    try:
        with Image.open(path, formats=["TIFF"]) as image:
            return exif_exposure(image)
    except (OSError, ValueError, SyntaxError, TypeError, KeyError, struct.error):
        return None
