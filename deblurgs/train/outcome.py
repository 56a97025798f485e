"""What became of the steps: on the CPU it is known at once, on a GPU only when someone waits for it."""

from collections.abc import Iterable

import torch
from torch import Tensor

LOOK_EVERY = 50
"""Steps after which the losses of a GPU are asked for, all at once."""


class LossRecord:
    """Losses of the latest steps, kept where they were computed until they are taken."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, Tensor]] = []

    def add(self, frame: int, loss: Tensor) -> None:
        """loss: a scalar without a graph."""
        self._waiting.append((frame, loss))

    def take(self) -> list[tuple[int, float]]:
        """Frame and loss of every step since the last time, by a single transfer."""
        if not self._waiting:
            return []
        values = torch.stack([loss for _, loss in self._waiting]).tolist()
        frames = [frame for frame, _ in self._waiting]
        self._waiting = []
        return list(zip(frames, values, strict=True))


def all_finite(loss: Tensor, gradients: Iterable[Tensor | None]) -> Tensor:
    """bool scalar on the device: neither the loss nor any gradient has a non-finite number. Nobody waits for it."""
    sums = [loss.detach(), *(g.sum() for g in gradients if g is not None)]
    return torch.stack(sums).isfinite().all()
