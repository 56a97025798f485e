"""The camera's path around one frame of a video, from the poses of its neighbours in time.

In the chart of frame i, a pose T_j of a neighbour is xi_ij = log(T_i^-1 T_j). A natural cubic spline through these
tangents is the path: T(t) = T_i exp(sum_j B_j(t) xi_ij). It goes through every pose, and its speed is that of the
camera as long as a shake lasts several frames.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

REACH = 3
"""Frames before and after that the path around a frame is made of; what is farther away weighs less than 2 %."""


@dataclass(frozen=True)
class Window:
    """The frames that the path around one frame is made of: indices [W], their times [W] relative to the frame's, and
    the second derivatives of the cardinal splines at these times [W,W] (row: where, column: of which frame)."""

    frames: Tensor
    times: Tensor
    bends: Tensor

    def weights(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """B_j(t) and its derivative, t [n] relative to the frame -> [n,W] twice. Cubic beyond the ends, too."""
        piece = (torch.searchsorted(self.times, time, right=True) - 1).clamp(0, len(self.times) - 2)
        h = (self.times[piece + 1] - self.times[piece])[:, None]
        a, b = self.times[piece + 1, None] - time[:, None], time[:, None] - self.times[piece, None]
        unit = torch.eye(len(self.times), dtype=time.dtype)
        left, right = unit[piece], unit[piece + 1]
        bend_left, bend_right = self.bends[piece], self.bends[piece + 1]
        value = (bend_left * a**3 + bend_right * b**3) / (6 * h)
        value = value + (left / h - bend_left * h / 6) * a + (right / h - bend_right * h / 6) * b
        slope = (bend_right * b**2 - bend_left * a**2) / (2 * h)
        slope = slope - left / h + bend_left * h / 6 + right / h - bend_right * h / 6
        return value, slope


def windows(times: Tensor) -> list[Window]:
    """One window per frame; times [F] strictly increasing, in frame intervals. At the ends it lies to one side."""
    count = len(times)
    width = min(2 * REACH + 1, count)
    result = []
    for i in range(count):
        first = min(max(i - REACH, 0), count - width)
        frames = torch.arange(first, first + width)
        own = times[frames] - times[i]
        result.append(Window(frames, own, _bends(own)))
    return result


def _bends(times: Tensor) -> Tensor:
    """Second derivatives of the natural cardinal cubic splines on knots [W] -> [W,W]."""
    count = len(times)
    gaps = times[1:] - times[:-1]
    system, right = torch.eye(count, dtype=times.dtype), torch.zeros(count, count, dtype=times.dtype)
    for k in range(1, count - 1):
        before, after = gaps[k - 1], gaps[k]
        system[k, k - 1], system[k, k], system[k, k + 1] = before / 6, (before + after) / 3, after / 6
        right[k, k - 1], right[k, k], right[k, k + 1] = 1 / before, -1 / before - 1 / after, 1 / after
    return torch.linalg.solve(system, right)
