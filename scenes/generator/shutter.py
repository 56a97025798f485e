"""When each row of each frame sees the scene.

Row r (from the top, of `height`) is exposed from  mid_s + shift(r) - exposure_s / 2  to  mid_s + shift(r) +
exposure_s / 2  with  shift(r) = readout_s * ((r + 0.5) / height - 0.5): the frame's time is the mid-exposure of the
MIDDLE row, and readout runs from top to bottom. `readout_s` = 0 is a global shutter.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Shutter:
    """exposure_s: time that each row is open. readout_s: time from the first row's opening to the last row's."""

    exposure_s: float
    readout_s: float = 0.0

    def __post_init__(self) -> None:
        if not self.exposure_s > 0 or not self.readout_s >= 0:
            raise ValueError(f"exposure must be positive and readout not negative: {self}")

    @property
    def open_s(self) -> float:
        """Time from the opening of the first row to the closing of the last."""
        return self.exposure_s + self.readout_s

    @property
    def row_share(self) -> float:
        """Share of `open_s` in which one row is open, 1 for a global shutter."""
        return self.exposure_s / self.open_s

    def exposure_times(self, mid_s: float, count: int) -> NDArray[np.float64]:
        """Times [count], uniform over the exposure of the middle row, ends included."""
        return mid_s + self.exposure_s * np.linspace(-0.5, 0.5, count)

    def open_times(self, mid_s: float, count: int) -> NDArray[np.float64]:
        """Times [count], uniform from the opening of the first row to the closing of the last, ends included."""
        return mid_s + self.open_s * np.linspace(-0.5, 0.5, count)

    def row_shift_s(self, height: int) -> NDArray[np.float64]:
        """shift(r) [height]."""
        return self.readout_s * ((np.arange(height) + 0.5) / height - 0.5)


def row_weights(shutter: Shutter, height: int, count: int) -> NDArray[np.float64]:
    """Weights [height, count] of `count` poses, uniform over `open_s` with ends included, in each row; rows sum to 1.

    Each pose stands for the interval of its width around its time; the weight is the overlap with the row's exposure.
    The mean of renders with these weights is what the sensor sees as count grows: the reference for the renderer.
    """
    times = shutter.open_times(0.0, count)
    half_step = 0.5 * (times[1] - times[0])
    opens = shutter.row_shift_s(height)[:, None] - 0.5 * shutter.exposure_s
    left = np.maximum(times - half_step, opens)
    right = np.minimum(times + half_step, opens + shutter.exposure_s)
    weights = np.maximum(right - left, 0.0)
    return weights / weights.sum(axis=1, keepdims=True)
