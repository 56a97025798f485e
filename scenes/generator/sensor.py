"""From light to the file: auto-exposure, white balance, noise, response curve, 8 bits.

    pixel = response( gain * white_balance * (shot and read noise applied to light) )

Light is linear, 1.0 = white at gain 1. Gain is applied after the light was counted, like ISO, so it amplifies noise.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
RESPONSES = ("srgb", "gamma2.2", "contrast")


@dataclass(frozen=True)
class Noise:
    """full_well_e: electrons at light 1.0, 0 switches all noise off. read_noise_e: standard deviation in electrons.

    Variance of light x: x / full_well_e + (read_noise_e / full_well_e)^2.
    """

    full_well_e: float = 0.0
    read_noise_e: float = 0.0

    def apply(self, linear: Floats, rng: np.random.Generator) -> Floats:
        """Noisy copy of light [H,W,3]. Counts are Poisson; a sensor reads negative values as they come."""
        if self.full_well_e <= 0:
            return linear
        electrons = rng.poisson(np.maximum(linear, 0.0) * self.full_well_e).astype(np.float64)
        electrons += self.read_noise_e * rng.standard_normal(linear.shape)
        return electrons / self.full_well_e


def frame_gains(
    count: int, exposure_ev: float, balance_ev: float, smooth: bool, rng: np.random.Generator
) -> Floats:
    """Factors [count,3] on red, green, blue of each frame: auto-exposure times white balance.

    exposure_ev, balance_ev: standard deviations in stops of the common factor and of each channel's. smooth: drift
    slowly from frame to frame (video) instead of independently (burst). Gauge: the geometric mean over all frames is
    1 in each channel, and white balance leaves the geometric mean of the three channels alone.
    """
    stops = rng.standard_normal((count, 4))
    if smooth:
        distance = np.arange(count)[:, None] - np.arange(count)[None]
        kernel = np.exp(-0.5 * (distance / max(count / 8, 1.0)) ** 2)
        stops = kernel @ stops / np.linalg.norm(kernel, axis=1, keepdims=True)
    exposure, balance = exposure_ev * stops[:, :1], balance_ev * stops[:, 1:]
    balance = balance - balance.mean(axis=1, keepdims=True)
    both = exposure + balance
    return 2.0 ** (both - both.mean(axis=0))


def respond(linear: Floats, response: str) -> Floats:
    """Encode light, clipped to [0,1], to pixel values in [0,1].

    srgb: IEC 61966-2-1. gamma2.2: the power 1/2.2. contrast: sRGB followed by y + 0.6 y (1-y) (2y-1), a camera's
    S-shaped picture style (monotone, ends and middle fixed). Raises ValueError for other names.
    """
    x = np.clip(linear, 0.0, 1.0)
    if response == "gamma2.2":
        return x ** (1 / 2.2)
    srgb = np.where(x > 0.0031308, 1.055 * np.maximum(x, 0.0031308) ** (1 / 2.4) - 0.055, 12.92 * x)
    if response == "srgb":
        return srgb
    if response == "contrast":
        return srgb + 0.6 * srgb * (1 - srgb) * (2 * srgb - 1)
    raise ValueError(f"unknown response {response!r}; known: {', '.join(RESPONSES)}")


def to_8_bit(encoded: Floats) -> NDArray[np.uint8]:
    """[0,1] -> 0..255, rounded."""
    return np.rint(255.0 * encoded).astype(np.uint8)
