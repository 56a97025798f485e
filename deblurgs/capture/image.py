"""Reading and writing the images that deblurgs itself stores: upright sRGB, 8 or 16 bits per channel, no
alpha.

Pillow reads 16-bit RGB as 8 bits without a word, so 16-bit files go through `capture.video.decode_still`.
"""

import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from deblurgs.errors import CaptureError
from deblurgs.files import write_bytes_atomic

Pixels = NDArray[np.uint8] | NDArray[np.uint16]

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


def read_pixels(path: Path) -> Pixels:
    """The stored RGB image as it is: uint8 or uint16 [H,W,3]. No orientation or colour profile is applied.

    Raises CaptureError when the file is missing or damaged.
    """
    try:
        if png_bit_depth(path) == 16:
            from deblurgs.capture.video import decode_still

            return decode_still(path)[..., :3]
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError) as error:
        raise CaptureError(f"cannot read the image {path}: {error}") from error


def read_rgb(path: Path) -> NDArray[np.float32]:
    """The stored image as float32 [H,W,3], sRGB-encoded values in [0,1]; 8- and 16-bit files. Raises
    CaptureError.
    """
    pixels = read_pixels(path)
    return pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)


def write_png(path: Path, image: NDArray[np.generic], *, exif: bytes = b"") -> None:
    """Write [H,W,3] or [H,W] as PNG, atomically. uint8 and uint16 are kept, float is clipped to [0,1] -> 8
    bits.

    exif: as `photo.read_exif` gives it. Non-finite floats become 0. Raises ValueError for other types and
    shapes, ResourceError when the disk is full.
    """
    pixels = _stored(image)
    if pixels.dtype == np.uint16:
        write_bytes_atomic(path, _png16(pixels, exif))
    else:
        _write_pillow(path, pixels, "PNG", {"compress_level": 3, **({"exif": exif} if exif else {})})


def write_jpeg(
    path: Path,
    image: NDArray[np.generic],
    quality: int = 92,
    *,
    exif: bytes = b"",
    whole_colour: bool = False,
) -> None:
    """Write [H,W,3] or [H,W] as JPEG, atomically; float in [0,1] or uint8 (uint16 is scaled). See `write_png`.

    whole_colour: colour at the picture's own resolution (4:4:4), else at half of it (4:2:0).
    """
    pixels = _stored(image)
    if pixels.dtype == np.uint16:
        pixels = to_8_bit(pixels)
    options: dict[str, int | bytes] = {"quality": quality, "subsampling": 0 if whole_colour else 2}
    _write_pillow(path, pixels, "JPEG", options | ({"exif": exif} if exif else {}))


def to_8_bit(pixels: Pixels) -> NDArray[np.uint8]:
    """uint16 full range -> uint8 full range, rounded (65535 -> 255); uint8 unchanged."""
    if pixels.dtype == np.uint8:
        return pixels  # pyright: ignore[reportReturnType]
    return ((pixels.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def png_bit_depth(path: Path) -> int | None:
    """Bits per sample from the PNG header, None when the file is not a PNG. Raises OSError."""
    with path.open("rb") as file:
        head = file.read(26)
    return head[24] if head[:8] == _PNG_MAGIC and len(head) == 26 else None


def _stored(image: NDArray[np.generic]) -> Pixels:
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3) or 0 in image.shape:
        raise ValueError(f"expected an image [H,W,3] or [H,W], got shape {image.shape}")
    if image.dtype in (np.uint8, np.uint16):
        return image  # pyright: ignore[reportReturnType]
    if not np.issubdtype(image.dtype, np.floating):
        raise ValueError(f"expected uint8, uint16 or float pixels, got {image.dtype}")
    clean = np.nan_to_num(image.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    return (np.clip(clean, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def _write_pillow(path: Path, pixels: Pixels, kind: str, options: dict[str, int | bytes]) -> None:
    buffer = BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, kind, **options)
    write_bytes_atomic(path, buffer.getvalue())


def _png16(pixels: Pixels, exif: bytes) -> bytes:
    """A 16-bit PNG (ISO/IEC 15948): Pillow cannot write 16-bit colour. All rows use filter 2 (difference to
    above).
    """
    height, width = pixels.shape[:2]
    rows = np.ascontiguousarray(pixels.astype(">u2")).view(np.uint8).reshape(height, -1)
    filtered = rows.copy()
    filtered[1:] -= rows[:-1]
    data = np.concatenate([np.full((height, 1), 2, np.uint8), filtered], axis=1).tobytes()
    colour_type = 2 if pixels.ndim == 3 else 0

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    metadata = chunk(b"eXIf", exif.removeprefix(b"Exif\0\0")) if exif else b""
    return (
        _PNG_MAGIC
        + chunk(b"IHDR", header)
        + metadata
        + chunk(b"IDAT", zlib.compress(data, 3))
        + chunk(b"IEND", b"")
    )
