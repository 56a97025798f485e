"""How much room the entries of an exposure get, without asking the GPU in the middle of a step.

The number of (tile, Gaussian) entries is known on the device only. Buffers therefore get half as much again as the most
seen so far, the device draws nothing and says so when that is not enough, and the host hears of it a few exposures
later: by then the number has long arrived, so waiting for it costs nothing and every run takes the same decisions.
"""

import warnings
from collections import deque
from collections.abc import Hashable
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

# Words of the device's report, cuda/records.cuh.
TOTAL_ENTRIES, MOST_IN_VIEW, OVERFLOW, BAD_VIEW = range(4)
STATUS_WORDS = 4
_ROOM = 1.5
# Exposures that the host may run ahead of their reports.
_LAG = 4


class EntryBudget:
    """Room for entries of one backend; see the module. `overflows` counts exposures that were not drawn."""

    def __init__(self) -> None:
        self.overflows = 0
        self._total = self._view = 0
        self._shapes: set[Hashable] = set()
        self._reports: deque[tuple[Tensor, torch.cuda.Event | None]] = deque()

    def knows(self, shape: Hashable) -> bool:
        """Whether exposures of this shape have been measured; the first of each must be."""
        return shape in self._shapes

    def measured(self, shape: Hashable, total: int, most_in_view: int) -> None:
        self._shapes.add(shape)
        self._learn(total, most_in_view)

    def room(self) -> tuple[int, int]:
        """Entries to make room for: in all, and in one view."""
        return int(_ROOM * self._total) + 1024, int(_ROOM * self._view) + 1024

    def send(self, status: "Tensor") -> None:
        """Let the report [4] int64 of an exposure travel to the host."""
        if status.device.type == "cuda":
            report = torch.empty(STATUS_WORDS, dtype=torch.int64, pin_memory=True)
            report.copy_(status, non_blocking=True)
            arrived = torch.cuda.Event()
            arrived.record()
            self._reports.append((report, arrived))
        else:
            self._reports.append((status.clone(), None))

    def receive(self, *, everything: bool = False) -> None:
        """Read the reports that are due, or `everything`. Raises ValueError when an exposure had a non-finite pose."""
        while len(self._reports) > (0 if everything else _LAG - 1):
            self._read(*self._reports.popleft())

    def _read(self, report: "Tensor", arrived: "torch.cuda.Event | None") -> None:
        if arrived is not None:
            arrived.synchronize()
        total, most, overflow, bad_view = report.tolist()
        self._learn(total, most)
        if overflow:
            self.overflows += 1
            warnings.warn(
                f"One exposure needed {total} tile entries, far more than those before, and was left out;"
                " there is room for the next ones.",
                RuntimeWarning,
                stacklevel=5,
            )
        if bad_view:
            raise ValueError(
                f"viewmats: view {bad_view - 1} of an exposure before contained a non-finite number"
            )

    def _learn(self, total: int, most_in_view: int) -> None:
        self._total = max(self._total, total)
        self._view = max(self._view, most_in_view)
