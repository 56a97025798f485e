"""Decoding one photo of the user: any mode, depth, orientation or profile -> upright sRGB pixels.

Nothing here trusts the file: formats are an allow-list (no EPS, no PDF), the size is checked before pixels
are decoded, and every failure becomes `UnusablePhoto` with a reason that a person understands.
"""

import struct
import warnings
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from deblurgs.capture import raw
from deblurgs.capture.image import Pixels, png_bit_depth

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "AVIF", "HEIF", "GIF", "BMP")
EXIF_ORIENTATION = 0x0112
EXIF_IFD = 0x8769
EXIF_EXPOSURE_TIME = 0x829A
EXIF_WIDTH, EXIF_HEIGHT = 0xA002, 0xA003
EXIF_FOCAL_LENGTH = 0x920A
EXIF_MAKER_AND_MODEL = (0x010F, 0x0110)
TIFF_BITS_PER_SAMPLE = 258
# Description, maker, model, orientation, resolution, software, date, artist, copyright, and the EXIF and GPS folders.
_EXIF_KEPT = (270, 271, 272, EXIF_ORIENTATION, 282, 283, 296, 305, 306, 315, 33432, 34665, 34853)
_EXIF_MAX_BYTES = 65_000  # what fits into one JPEG segment
HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")


class UnusablePhoto(Exception):  # noqa: N818 - a status that the caller turns into a dropped photo, not an error
    """This one file cannot be used; the text is the reason shown to the user."""


@dataclass(frozen=True)
class Photo:
    """pixels: upright sRGB uint8 or uint16 [H,W,3]; mask: bool [H,W], True = opaque, None = no alpha; notes:
    warnings.

    orientation: the EXIF orientation 1..8 found in the file; oriented: whether it was applied. exposure_s: how long the
    shutter was open, as the camera wrote it down. camera: its maker, model and focal length.
    """

    pixels: Pixels
    mask: NDArray[np.bool_] | None = None
    orientation: int = 1
    notes: list[str] = field(default_factory=list)
    exposure_s: float | None = None
    oriented: bool = True
    camera: str | None = None


def decode_photo(path: Path, max_pixels: float, *, apply_orientation: bool = True) -> Photo:
    """Decode `path` into upright sRGB pixels.

    Colour under transparency is kept as stored (straight alpha); `mask` says where alpha is at least one
    half. Raises UnusablePhoto for anything that is not one whole image of at most `max_pixels`.
    """
    try:
        if path.stat().st_size == 0:
            raise UnusablePhoto("empty file (0 bytes)")
        with warnings.catch_warnings():
            # Pillow warns about odd metadata and truncated tags; the pixels decide, and they are checked
            # below.
            warnings.simplefilter("ignore")
            if raw.is_raw(path):
                pixels, exposure_s = raw.develop(path, max_pixels, apply_orientation=apply_orientation)
                return Photo(pixels, exposure_s=exposure_s)
            return _decode(path, max_pixels, apply_orientation)
    except raw.RawError as error:
        raise UnusablePhoto(str(error)) from error
    except UnidentifiedImageError as error:
        raise UnusablePhoto(_unknown(path)) from error
    except PermissionError as error:
        raise UnusablePhoto(f"cannot be opened: {error.strerror}") from error
    except (MemoryError, Image.DecompressionBombError) as error:
        raise UnusablePhoto(f"too large to decode: {error}") from error
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        TypeError,
        KeyError,
        IndexError,
        struct.error,
    ) as error:
        raise UnusablePhoto(f"damaged or unreadable image ({_first_line(error)})") from error


def read_exif(path: Path, size: tuple[int, int] | None = None) -> bytes:
    """The photo's EXIF block for the upright pixels of `decode_photo`: orientation 1, no thumbnail; b"" without one.

    size: width and height of what it is written into, where those are not the photo's. Camera makers' odd entries that
    cannot be written again are a reason to keep nothing, not to fail.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with _open(path) as image:
                exif = image.getexif()
                for folder in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
                    exif.get_ifd(folder)  # read now, or `tobytes` would drop it
                if not len(exif):
                    return b""
                # TIFF files keep their picture's layout in the same table: only what describes the photo is wanted.
                for tag in [t for t in exif if t not in _EXIF_KEPT]:
                    del exif[tag]
                exif[EXIF_ORIENTATION] = 1
                inner = exif.get_ifd(EXIF_IFD)
                for tag, value in zip((EXIF_WIDTH, EXIF_HEIGHT), size or (), strict=False):
                    if tag in inner:
                        inner[tag] = value
                data = exif.tobytes()
                return data if len(data) < _EXIF_MAX_BYTES else b""
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, struct.error, AttributeError):
        return b""


def upright(pixels: NDArray[np.generic], orientation: int) -> NDArray[np.generic]:
    """Apply EXIF orientation 1..8 (EXIF 2.32, tag 0x0112) to [H,W,...]; other values are treated as 1."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)  # orientation 5: row and column exchanged
    flip_columns = orientation in (2, 3, 6, 7)
    flip_rows = orientation in (3, 4, 7, 8)
    if flip_columns:
        pixels = pixels[:, ::-1]
    if flip_rows:
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _decode(path: Path, max_pixels: float, apply_orientation: bool) -> Photo:
    _register_heif()
    with _open(path) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise UnusablePhoto(
                f"{width}x{height} = {width * height / 1e6:.0f} million pixels exceeds the limit of "
                f"{max_pixels / 1e6:.0f} million (--max-pixels)"
            )
        notes = []
        pages = getattr(image, "n_frames", 1)
        if pages > 1 and image.format != "MPO":  # MPO: phones hide a depth or gain map behind the photo
            notes.append(f"has {pages} frames or pages, only the first is used")
        image.load()
        orientation = int(image.getexif().get(EXIF_ORIENTATION, 1) or 1)
        exposure_s, camera = exif_exposure(image), exif_camera(image)
        deep = _is_16_bit(path, image)
        pixels, alpha = _deep_pixels(path) if deep else _pixels(image, notes)
    if alpha is not None and not alpha.any():
        raise UnusablePhoto("fully transparent")
    mask = alpha if alpha is not None and not alpha.all() else None
    if apply_orientation:
        pixels = upright(pixels, orientation)
        mask = None if mask is None else upright(mask, orientation)
    return Photo(pixels, mask, orientation, notes, exposure_s, apply_orientation, camera)  # pyright: ignore[reportArgumentType]


def exif_exposure(image: Image.Image) -> float | None:
    """EXIF ExposureTime in seconds (tag 0x829A); None where it is missing or makes no sense."""
    try:
        value = float(image.getexif().get_ifd(EXIF_IFD).get(EXIF_EXPOSURE_TIME) or 0.0)
    except (TypeError, ValueError, ZeroDivisionError, KeyError, SyntaxError, OSError, struct.error):
        return None
    return value if 1e-6 < value < 3600.0 else None


def exif_camera(image: Image.Image) -> str | None:
    """Maker, model and focal length from EXIF: photos that differ in them were taken through different lenses."""
    try:
        exif = image.getexif()
        name = " ".join(str(exif.get(tag) or "").strip("\0 ") for tag in EXIF_MAKER_AND_MODEL).strip()
        focal = float(exif.get_ifd(EXIF_IFD).get(EXIF_FOCAL_LENGTH) or 0.0)
    except (TypeError, ValueError, ZeroDivisionError, KeyError, SyntaxError, OSError, struct.error):
        return None
    if not name:
        return None
    text = f"{name} {focal:.1f} mm" if 0 < focal < 1e4 else name
    return "".join(c for c in text if c.isprintable())[:120]


def _open(path: Path) -> Image.Image:
    """Image.open without Pillow's own pixel limit: ours is checked on the header, before anything is
    allocated.
    """
    Image.init()  # Without it Pillow has loaded only some of its formats.
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        return Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN])
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _is_16_bit(path: Path, image: Image.Image) -> bool:
    """16-bit colour, which Pillow would cut to 8 bits (grey keeps its depth in the modes I and I;16)."""
    if image.format == "PNG":
        return png_bit_depth(path) == 16 and not image.mode.startswith("I")
    if image.format == "TIFF" and image.mode in ("RGB", "RGBA"):
        bits = getattr(image, "tag_v2", {}).get(TIFF_BITS_PER_SAMPLE, (8,))
        return max(bits) == 16
    return False


def _deep_pixels(path: Path) -> tuple[Pixels, NDArray[np.bool_] | None]:
    from deblurgs.capture.video import decode_still

    pixels = decode_still(path)
    if pixels.shape[2] == 4:
        return pixels[..., :3], pixels[..., 3] >= 32768
    return pixels, None


def _pixels(image: Image.Image, notes: list[str]) -> tuple[Pixels, NDArray[np.bool_] | None]:
    if image.mode == "F":
        raise UnusablePhoto("floating-point pixels are not supported; export it as 8- or 16-bit")
    if image.mode.startswith("I"):
        return _grey_16(image), None
    alpha = None
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        alpha = np.asarray(rgba)[..., 3] >= 128
        profiled, image = image, rgba.convert("RGB")
        image.info["icc_profile"] = profiled.info.get("icc_profile")
    return np.asarray(_to_srgb(image, notes)), alpha


def _grey_16(image: Image.Image) -> Pixels:
    """16-bit grey kept at 16 bits. `convert("RGB")` would saturate everything above 255 to white."""
    grey = np.asarray(image).astype(np.int64)
    if grey.min() < 0 or grey.max() > 65535:
        raise UnusablePhoto("32-bit integer pixels are not supported; export it as 8- or 16-bit")
    return np.repeat(grey.astype(np.uint16)[..., None], 3, axis=2)


def _to_srgb(image: Image.Image, notes: list[str]) -> Image.Image:
    """RGB in sRGB: an embedded ICC profile (Display P3, Adobe RGB, a press CMYK) is converted, not dropped."""
    profile = image.info.get("icc_profile")
    if profile and image.mode in ("RGB", "L", "CMYK"):
        try:
            source = ImageCms.ImageCmsProfile(BytesIO(profile))
            if "srgb" not in ImageCms.getProfileDescription(source).lower():
                target = ImageCms.createProfile("sRGB")
                converted = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
                if converted is not None:
                    return converted
        except (ImageCms.PyCMSError, OSError, ValueError) as error:
            notes.append(f"colour profile ignored ({_first_line(error)})")
    return image.convert("RGB")


def _register_heif() -> None:
    """HEIC works when pillow-heif is installed; it is not required."""
    try:
        import pillow_heif  # pyright: ignore[reportMissingImports]
    except ImportError:
        return
    pillow_heif.register_heif_opener()


def _unknown(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] == b"ftyp" and head[8:12] in HEIF_BRANDS:
        if "HEIF" in Image.OPEN:
            return "damaged HEIC photo; copy it again or export it as JPEG"
        return "HEIC photo: install pillow-heif (pip install deblurgs[phone]) or export it as JPEG"
    return "not an image that can be read (JPEG, PNG, TIFF and WebP are)"


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0][:160] if text else type(error).__name__
