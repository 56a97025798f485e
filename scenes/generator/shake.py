"""How a hand shakes the camera: offsets (translation, rotation vector) in camera axes as functions of time.

Translation is given in units of the scene's distance, rotation in rad, so that both move the image by focal length
times offset. A hand turns the camera more than it moves it; rolling and approaching are the smallest parts.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_AXES = np.array([0.5, 0.5, 0.25, 1.0, 1.0, 0.6])
_STRENGTH_SPREAD = 0.45
_LOWEST_HZ, _HIGHEST_HZ, _NUM_WAVES = 0.5, 6.0, 16


@dataclass(frozen=True)
class CubicShake:
    """One exposure of a burst: a cubic polynomial in s in [-1, 1], zero at s = 0. coefficients [3,6] of s, s^2, s^3."""

    coefficients: Array

    @staticmethod
    def random(rng: np.random.Generator) -> "CubicShake":
        """A random path. Strengths of different exposures vary by a log-normal factor, as in real bursts."""
        strength = np.exp(_STRENGTH_SPREAD * rng.standard_normal())
        relative = np.array([1.0, 0.45, 0.45])[:, None]
        return CubicShake(strength * relative * _AXES * rng.standard_normal((3, 6)))

    def offset(self, s: Array) -> Array:
        """s [V] -> [V,6]."""
        powers = np.stack([s, s**2, s**3], axis=-1)
        return powers @ self.coefficients


@dataclass(frozen=True)
class HandheldShake:
    """One continuous path for a whole video: a sum of waves whose amplitude falls with frequency.

    frequencies_hz [N,6]; amplitudes [N,6]; phases_rad [N,6]. Amplitude 1/f gives equal speed at all frequencies from
    0.5 to 6 Hz, the band of hand tremor and of an arm's sway.
    """

    frequencies_hz: Array
    amplitudes: Array
    phases_rad: Array

    @staticmethod
    def random(rng: np.random.Generator) -> "HandheldShake":
        shape = (_NUM_WAVES, 6)
        frequencies = np.exp(rng.uniform(np.log(_LOWEST_HZ), np.log(_HIGHEST_HZ), shape))
        amplitudes = _AXES * np.abs(rng.standard_normal(shape)) / frequencies
        return HandheldShake(frequencies, amplitudes, rng.uniform(0.0, 2 * np.pi, shape))

    def offset(self, time_s: Array) -> Array:
        """time_s [V] -> [V,6]."""
        phase = 2 * np.pi * self.frequencies_hz * np.asarray(time_s)[:, None, None] + self.phases_rad
        return (self.amplitudes * np.sin(phase)).sum(axis=1)


def solve_scale(median_px: Callable[[float], float], target_px: float) -> float:
    """The factor on all shakes for which `median_px(factor)`, the capture's median path length, is `target_px`.

    Raises ValueError when the camera's own motion alone already gives longer paths (videos).
    """
    still = median_px(0.0)
    if target_px < still - 1e-9:
        raise ValueError(
            f"a median path of {target_px:.2f} px cannot be reached: moving along the scene alone gives "
            f"{still:.2f} px. Ask for more, film more slowly (--sweep), or shorten the exposure (--duty)."
        )
    low, high = 0.0, 1e-4
    while median_px(high) < target_px:
        low, high = high, 2 * high
        if high > 10:
            raise ValueError(f"a median path of {target_px:.2f} px cannot be reached by shaking")
    for _ in range(40):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if median_px(middle) < target_px else (low, middle)
    return 0.5 * (low + high)
