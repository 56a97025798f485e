"""Two pictures in one, for videos that compare: side by side, or a bar that wipes from one to the other."""

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

_GAP_PX = 4
_BAR_PX = 3
_INK = 245


def side_by_side(left: Bytes, right: Bytes) -> Bytes:
    """[H,W,3] and [H,W,3] -> [H,2W+4,3] with a light line between. Raises ValueError for different sizes."""
    _check(left, right)
    line = np.full((left.shape[0], _GAP_PX, 3), _INK, np.uint8)
    return np.concatenate([left, line, right], axis=1)


def wipe(before: Bytes, after: Bytes, share: float) -> Bytes:
    """`after` fills the right `share` (0 to 1) of the picture, `before` the rest, with a light bar on the border."""
    _check(before, after)
    width = before.shape[1]
    at = width - round(min(max(share, 0.0), 1.0) * width)
    out = before.copy()
    out[:, at:] = after[:, at:]
    if 0 < at < width:
        out[:, max(at - _BAR_PX // 2 - 1, 0) : at + _BAR_PX // 2] = _INK
    return out


def wipe_share(index: int, count: int) -> float:
    """How much of `after` picture `index` of `count` shows: there and back again, at rest at both ends."""
    return 0.5 - 0.5 * float(np.cos(2.0 * np.pi * index / max(count - 1, 1)))


def _check(a: Bytes, b: Bytes) -> None:
    if a.shape != b.shape:
        raise ValueError(f"pictures of one size are compared, not {list(a.shape)} and {list(b.shape)}")
