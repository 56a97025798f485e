"""Pictures as bytes for the canvas: colours for depth, the wipe, bars around what does not fill it."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
MAX_SIDE_PX = 960
"""Longest side of a picture on the canvas: a CPU draws it in well under a second, and it is still crisp."""
_CANVAS_GREY = 24
# Near is warm and light, far is cold and dark; lightness alone tells the order.
_DEPTH_COLORS = np.array(
    [[0.99, 0.91, 0.60], [0.95, 0.55, 0.35], [0.70, 0.22, 0.45], [0.33, 0.10, 0.45], [0.05, 0.03, 0.18]]
)


def as_pixels(image: NDArray[np.floating] | Pixels) -> Pixels:
    """[H,W,3] display values or bytes -> bytes, longest side at most `MAX_SIDE_PX`."""
    if image.dtype == np.uint8:
        pixels = np.ascontiguousarray(image, np.uint8)
    else:
        pixels = (np.clip(np.nan_to_num(image), 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
    height, width = pixels.shape[:2]
    if max(height, width) <= MAX_SIDE_PX:
        return pixels
    factor = MAX_SIDE_PX / max(height, width)
    size = (max(round(width * factor), 1), max(round(height * factor), 1))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))


def depth_picture(depth: NDArray[np.floating]) -> Pixels:
    """Depth [H,W], infinite where nothing is -> colours; the middle 96 % of the depths share them evenly."""
    seen = np.isfinite(depth)
    if not seen.any():
        return np.full((*depth.shape, 3), _CANVAS_GREY, np.uint8)
    near, far = np.quantile(depth[seen], [0.02, 0.98])
    share = np.clip((np.where(seen, depth, far) - near) / max(far - near, 1e-9), 0.0, 1.0)
    at = np.linspace(0.0, 1.0, len(_DEPTH_COLORS))
    image = np.stack([np.interp(share, at, channel) for channel in _DEPTH_COLORS.T], axis=-1)
    return (np.where(seen[..., None], image, _CANVAS_GREY / 255.0) * 255.0 + 0.5).astype(np.uint8)


def wiped(before: Pixels, after: Pixels, share: float) -> Pixels:
    """`before` left of `share` of the width, `after` right of it, a white line between them."""
    if before.shape != after.shape:
        before = np.asarray(Image.fromarray(before).resize(after.shape[1::-1], Image.Resampling.BILINEAR))
    cut = round(float(np.clip(share, 0.0, 1.0)) * after.shape[1])
    out = np.concatenate([before[:, :cut], after[:, cut:]], axis=1)
    if 0 < cut < out.shape[1]:
        out[:, max(cut - 1, 0) : cut + 1] = 255
    return out


def letterboxed(picture: Pixels, aspect: float) -> Pixels:
    """The picture in the middle of a canvas of that aspect, with dark bars where it does not reach."""
    height, width = picture.shape[:2]
    w = max(width, round(height * aspect))
    h = max(height, round(w / aspect)) if w == width else height
    canvas = np.full((h, w, 3), _CANVAS_GREY, np.uint8)
    top, left = (h - height) // 2, (w - width) // 2
    canvas[top : top + height, left : left + width] = picture
    return canvas
