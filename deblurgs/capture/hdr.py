"""HDR video (HLG, PQ) -> sRGB. Formulas of Rec. ITU-R BT.2100-2; reference white 203 cd/m2 of Report BT.2408."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Curve = Literal["hlg", "pq"]

REFERENCE_WHITE_NITS = 203.0
_HLG_PEAK_NITS = 1000.0
_KNEE = 0.75
_RGB709_FROM_RGB2020 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)  # Report ITU-R BT.2407, section 2


def srgb_from_hdr(ycbcr: NDArray[np.uint16], curve: Curve, limited_range: bool) -> NDArray[np.uint8]:
    """Tone-map one picture. ycbcr: [H,W,3], 16-bit full scale (10-bit codes shifted left by 6), BT.2020
    matrix.

    Returns sRGB uint8 [H,W,3]. Light up to 0.75 of reference white is kept exactly, brighter light is rolled
    off smoothly and monotonically to 1 at the peak of 1000 cd/m2 (HLG) or 10000 (PQ), so nothing comes out
    dark.
    """
    encoded = _rgb_from_ycbcr(ycbcr, limited_range)
    nits = _nits_from_hlg(encoded) if curve == "hlg" else _nits_from_pq(encoded)
    peak = (_HLG_PEAK_NITS if curve == "hlg" else 10000.0) / REFERENCE_WHITE_NITS
    linear = np.maximum((nits / REFERENCE_WHITE_NITS) @ _RGB709_FROM_RGB2020.T, 0.0)
    # The brightest channel decides, so hue is kept.
    brightest = linear.max(axis=-1, keepdims=True)
    linear *= _roll_off(brightest, peak) / np.maximum(brightest, 1e-6)
    linear = np.clip(linear, 0.0, 1.0)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return (encoded * 255.0 + 0.5).astype(np.uint8)


def _rgb_from_ycbcr(ycbcr: NDArray[np.uint16], limited_range: bool) -> NDArray[np.float32]:
    """BT.2020 non-constant luminance (BT.2100 table 6); limited range per table 9."""
    code = np.moveaxis(ycbcr.astype(np.float32) / 256.0, -1, 0)
    if limited_range:
        y, cb, cr = (code[0] - 16.0) / 219.0, (code[1] - 128.0) / 224.0, (code[2] - 128.0) / 224.0
    else:
        y, cb, cr = code[0] / 255.75, (code[1] - 128.0) / 255.75, (code[2] - 128.0) / 255.75
    red, blue = y + 1.4746 * cr, y + 1.8814 * cb
    green = (y - 0.2627 * red - 0.0593 * blue) / 0.6780
    return np.clip(np.stack([red, green, blue], axis=-1), 0.0, 1.0)


def _nits_from_pq(encoded: NDArray[np.float32]) -> NDArray[np.float32]:
    """BT.2100 table 4, the PQ EOTF."""
    m1, m2 = 2610 / 16384, 2523 / 4096 * 128
    c1, c2, c3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
    power = encoded ** np.float32(1 / m2)
    light = (np.maximum(power - c1, 0.0) / (c2 - c3 * power)) ** np.float32(1 / m1)
    return (10000.0 * light).astype(np.float32)


def _nits_from_hlg(encoded: NDArray[np.float32]) -> NDArray[np.float32]:
    """BT.2100 table 5: inverse OETF, then the OOTF with system gamma 1.2 of a 1000 cd/m2 display."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(encoded <= 0.5, encoded**2 / 3.0, (np.exp((encoded - c) / a) + b) / 12.0)
    luminance = scene @ np.array([0.2627, 0.6780, 0.0593], np.float32)
    return _HLG_PEAK_NITS * np.maximum(luminance, 1e-6)[..., None] ** np.float32(0.2) * scene


def _roll_off(light: NDArray[np.float32], peak: float) -> NDArray[np.float32]:
    """Identity below the knee; above it a rational curve with slope 1 at the knee that reaches 1 at `peak`."""
    room, span = 1.0 - _KNEE, peak - _KNEE
    over = np.clip(light - _KNEE, 0.0, span)
    # f(x) = x / (1 + k x) has f'(0) = 1; k is set so that f(span) = room.
    bend = (span / room - 1.0) / span
    return np.where(light <= _KNEE, light, _KNEE + over / (1.0 + bend * over))
