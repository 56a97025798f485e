"""Writing a processed photo beside its source's habits: JPEG stays JPEG, 16 bits stay 16 bits, EXIF is kept."""

import struct
import warnings
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from deblurgs.capture.image import Pixels, write_png
from deblurgs.capture.photo import EXIF_ORIENTATION
from deblurgs.files import write_bytes_atomic

JPEG_SUFFIXES = (".jpg", ".jpeg")
_JPEG_MAX_SIDE = 65535
_JPEG_QUALITY = 95
_WIDTH_HEIGHT = (0x0100, 0x0101)  # ImageWidth, ImageLength
_EXIF_IFD = 0x8769
_EXIF_SIZE = (0xA002, 0xA003)  # PixelXDimension, PixelYDimension
_MAX_EXIF_BYTES = 60_000


def photo_exif(path: Path, width: int, height: int) -> bytes:
    """The EXIF block of a photo for an upright picture of another size; empty when there is none or it is damaged.

    Orientation becomes 1 and sizes the new ones; the thumbnail is dropped, it would show the old picture.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd tags are no reason to lose the rest
            with Image.open(path) as image:
                exif = image.getexif()
            if not exif:
                return b""
            exif[EXIF_ORIENTATION] = 1
            for tag, value in zip(_WIDTH_HEIGHT, (width, height), strict=True):
                if tag in exif:
                    exif[tag] = value
            inner = exif.get_ifd(_EXIF_IFD)
            for tag, value in zip(_EXIF_SIZE, (width, height), strict=True):
                if tag in inner:
                    inner[tag] = value
            block = exif.tobytes()
    except (OSError, ValueError, TypeError, KeyError, SyntaxError, struct.error):
        return b""
    return block if len(block) <= _MAX_EXIF_BYTES else b""


def output_suffix(source: Path, pixels: Pixels) -> str:
    """ ".jpg" for an 8-bit JPEG that stays within JPEG's limits, else ".png"."""
    fits = max(pixels.shape[:2]) <= _JPEG_MAX_SIDE and pixels.dtype == np.uint8
    return ".jpg" if source.suffix.lower() in JPEG_SUFFIXES and fits else ".png"


def save_photo(path: Path, pixels: Pixels, exif: bytes = b"") -> None:
    """Upright sRGB pixels [H,W,3] as JPEG or PNG by the suffix of `path`, with an EXIF block. Atomic.

    Raises UsageError or ResourceError when it cannot be written.
    """
    if path.suffix == ".jpg":
        buffer = BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0, exif=exif)
        write_bytes_atomic(path, buffer.getvalue())
        return
    write_png(path, pixels)
    if exif:
        write_bytes_atomic(path, with_png_exif(path.read_bytes(), exif))


def with_png_exif(png: bytes, exif: bytes) -> bytes:
    """A PNG with an eXIf chunk (PNG specification, third edition, 11.3.4.3) behind its header."""
    body = exif.removeprefix(b"Exif\x00\x00")
    chunk = b"eXIf" + body
    header_end = 8 + 4 + 4 + 13 + 4  # signature; length, type, data and checksum of IHDR
    return (
        png[:header_end]
        + struct.pack(">I", len(body))
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + png[header_end:]
    )
