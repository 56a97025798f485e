"""Depth pictures: 16-bit grey PNG for tools that want integers, float32 .npy beside it for everything else.

PNG value = depth (camera z, units of the world) times a factor, 0 where nothing was seen. The unit of the world is
unknown, so millimetres are not to be had; the factor is chosen per export and written down.
"""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deblurgs.errors import CaptureError
from deblurgs.files import write_bytes_atomic

Floats = NDArray[np.float32]


def depth_factor(deepest: float) -> float:
    """The largest power of ten with which `deepest` (world units) still fits into 16 bits."""
    if not deepest > 0:
        return 1.0
    return float(10.0 ** np.floor(np.log10(65535.0 / deepest)))


def write_depth(path: Path, depth: Floats, factor: float, *, overwrite: bool = True) -> None:
    """depth [H,W], 0 or not finite where unknown -> PNG at `path` and the same name with .npy."""
    known = np.isfinite(depth) & (depth > 0)
    # A depth that rounds to zero would mean unknown.
    values = np.where(known, np.clip(np.round(np.where(known, depth, 1.0) * factor), 1, 65535), 0)
    png, npy = io.BytesIO(), io.BytesIO()
    Image.fromarray(values.astype(np.uint16)).save(png, "PNG")
    np.save(npy, np.where(known, depth, 0.0).astype(np.float32))
    write_bytes_atomic(path, png.getvalue(), overwrite=overwrite)
    write_bytes_atomic(path.with_suffix(".npy"), npy.getvalue(), overwrite=overwrite)


def read_depth(path: Path, factor: float) -> Floats:
    """The PNG back in world units, [H,W], 0 where unknown. Raises CaptureError for another kind of picture."""
    try:
        with Image.open(path) as image:
            values = np.asarray(image)
    except (OSError, ValueError, SyntaxError) as error:
        raise CaptureError(f"cannot read the depth picture {path}: {error}") from error
    if values.ndim != 2 or values.dtype not in (np.uint16, np.int32):
        raise CaptureError(f"{path} is not a 16-bit grey picture")
    return (values.astype(np.float64) / factor).astype(np.float32)
