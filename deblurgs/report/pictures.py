"""Image files as data URIs of a chosen size."""

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError


def data_uri(path: Path, width: int, quality: int) -> str | None:
    """The picture as JPEG of at most `width` pixels, never enlarged; None when it cannot be read."""
    try:
        with Image.open(path) as opened:
            image = _eight_bits(opened).convert("RGB")
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError):
        return None
    if image.width > width:
        height = max(1, round(image.height * width / image.width))
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, optimize=True, progressive=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Pillow saturates 16-bit grey when it converts to RGB; scale it instead."""
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image).clip(0, 65535) // 256).astype(np.uint8))
