"""How much room the entries of an exposure get, without asking the GPU in the middle of a step.

The number of (tile, Gaussian) entries is known on the device only. The first exposures of each shape are measured;
later ones get room for half as much again as the most seen so far. The device draws nothing and says so when that is
not enough, and the host hears of it a few exposures later: by then the number has long arrived, so waiting for it costs
nothing and every run takes the same decisions.
"""

import warnings
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

# Words of the device's report, cuda/records.cuh.
TOTAL_ENTRIES, MOST_IN_VIEW, OVERFLOW, BAD_VIEW = range(4)
STATUS_WORDS = 4
_ROOM = 1.5
# Exposures of a shape that are measured: frames, and bands of rows of one frame, differ in what they show.
_MEASURED = 16
# Exposures that the host may run ahead of their reports.
_LAG = 4

Shape = tuple[int, int, int]
"""Views, width, height."""


@dataclass
class _Seen:
    """The largest exposure of a shape so far."""

    measured: int = 0
    num_gaussians: int = 0
    total: int = 0
    view: int = 0

    def learn(self, total: int, most_in_view: int) -> None:
        self.total = max(self.total, total)
        self.view = max(self.view, most_in_view)


class EntryBudget:
    """Room for entries of one backend; see the module. `overflows` counts exposures that were not drawn."""

    def __init__(self) -> None:
        self.overflows = 0
        self._seen: dict[Shape, _Seen] = {}
        self._reports: deque[tuple[_Seen, Tensor, torch.cuda.Event | None]] = deque()

    def knows(self, shape: Shape, num_gaussians: int) -> bool:
        """Whether enough exposures of this shape, and of about as many Gaussians, have been measured."""
        seen = self._seen.get(shape)
        return seen is not None and seen.measured >= _MEASURED and num_gaussians <= 1.25 * seen.num_gaussians

    def has_seen(self, shape: Shape) -> bool:
        """Whether an exposure of this shape was ever measured."""
        seen = self._seen.get(shape)
        return seen is not None and seen.measured > 0

    def measured(self, shape: Shape, num_gaussians: int, total: int, most_in_view: int) -> None:
        seen = self._seen.setdefault(shape, _Seen())
        seen.measured += 1
        seen.num_gaussians = max(seen.num_gaussians, num_gaussians)
        seen.learn(total, most_in_view)

    def room(self, shape: Shape) -> tuple[int, int]:
        """Entries to make room for: in all, and in one view."""
        seen = self._seen.get(shape, _Seen())
        return int(_ROOM * seen.total) + 1024, int(_ROOM * seen.view) + 1024

    def send(self, shape: Shape, status: "Tensor") -> None:
        """Let the report [4] int64 of an exposure travel to the host."""
        seen = self._seen.setdefault(shape, _Seen())
        if status.device.type == "cuda":
            report = torch.empty(STATUS_WORDS, dtype=torch.int64, pin_memory=True)
            report.copy_(status, non_blocking=True)
            arrived = torch.cuda.Event()
            arrived.record(torch.cuda.current_stream(status.device))
            self._reports.append((seen, report, arrived))
        else:
            self._reports.append((seen, status.clone(), None))

    def receive(self, *, everything: bool = False) -> None:
        """Read the reports that are due, or `everything`. Raises ValueError when an exposure had a non-finite pose."""
        while len(self._reports) > (0 if everything else _LAG - 1):
            self._read(*self._reports.popleft())

    def _read(self, seen: _Seen, report: "Tensor", arrived: "torch.cuda.Event | None") -> None:
        if arrived is not None:
            arrived.synchronize()
        words = report.tolist()
        seen.learn(words[TOTAL_ENTRIES], words[MOST_IN_VIEW])
        if words[OVERFLOW]:
            self.overflows += 1
            warnings.warn(
                f"One exposure needed {words[TOTAL_ENTRIES]} tile entries, far more than those before, and was left"
                " out; there is room for the next ones.",
                RuntimeWarning,
                stacklevel=5,
            )
        if words[BAD_VIEW]:
            raise ValueError(
                f"viewmats: view {words[BAD_VIEW] - 1} of an exposure before contained a non-finite number"
            )
