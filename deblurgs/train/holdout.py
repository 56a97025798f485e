"""Blocks of pixels that training never sees, by which it judges itself: the best state is kept, not the last one.

A few blocks of every exposure are left out of the loss; every one of them is seen by other frames. How well the
re-blurred render predicts them says whether the scene and the paths still become truer or only fit their photos.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

# Values of the parameters of Gaussians, trajectory and photometry by name.
Snapshot = tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]

BLOCK_PX = 24
"""Side of a block, more than twice the window of the structural similarity."""
MARGIN_PX = 6
"""Rim of a block that is not scored: windows of trained pixels reach into it."""


MOST_SCORED = 12
"""Frames looked at for one score: each costs a forward pass."""


class HeldOutBlocks:
    """Weights for the loss and for the score at one image scale; the blocks stay the same at every step.

    train[f] [H,W] is 0 in the blocks of frame f and 1 elsewhere, score[f] is 1 well inside them; None where images are
    smaller than four blocks and hold nothing out. share: of the blocks of every image. masks [H,W]: where a photo shows
    anything at all, multiplied into both.
    """

    def __init__(
        self,
        sizes: list[tuple[int, int]],
        share: float,
        seed: int,
        masks: list[Tensor | None] | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.train: list[Tensor | None] = []
        self.score: list[Tensor | None] = []
        generator = torch.Generator().manual_seed(seed)
        for (width, height), mask in zip(sizes, masks or [None] * len(sizes), strict=True):
            columns, rows = width // BLOCK_PX, height // BLOCK_PX
            if share <= 0 or min(columns, rows) < 4:
                self.train.append(mask)  # where it is already
                self.score.append(None)
                continue
            count = max(1, round(share * rows * columns))
            chosen = torch.zeros(rows * columns)
            chosen[torch.randperm(rows * columns, generator=generator)[:count]] = 1.0
            inner = torch.zeros(BLOCK_PX, BLOCK_PX)
            inner[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX] = 1.0
            grid = chosen.reshape(rows, columns)
            whole = torch.kron(grid, torch.ones(BLOCK_PX, BLOCK_PX))
            core = torch.kron(grid, inner)
            rest = (0, width - columns * BLOCK_PX, 0, height - rows * BLOCK_PX)
            shown = torch.ones(height, width) if mask is None else mask.cpu()
            self.train.append(((1.0 - F.pad(whole, rest)) * shown).to(device))
            score = F.pad(core, rest) * shown
            self.score.append(score.to(device) if bool(score.any()) else None)

    @property
    def any(self) -> bool:
        """Whether anything is held out."""
        return any(weight is not None for weight in self.score)

    def psnr(self, predict: Callable[[int], Tensor], observed_srgb: list[Tensor]) -> float:
        """PSNR in dB of display values within the blocks of at most `MOST_SCORED` frames, evenly chosen.

        predict(frame) -> [H,W,3] display values of the frame's exposure.
        """
        held = [f for f, weight in enumerate(self.score) if weight is not None]
        chosen = held[:: max(1, -(-len(held) // MOST_SCORED))]
        squares, count = 0.0, 0.0
        for f in chosen:
            weight = self.score[f]
            assert weight is not None
            difference = predict(f).clamp(0, 1) - observed_srgb[f].clamp(0, 1)
            squares += float((difference.square().sum(dim=-1) * weight).sum())
            count += float(3 * weight.sum())
        return -10.0 * math.log10(max(squares / count, 1e-10))


@dataclass
class BestState:
    """The state with the best score so far. `stale`: offers in a row that did not improve it."""

    score: float = -math.inf
    latest: float | None = None
    state: Snapshot | None = None
    stale: int = 0

    def offer(self, score: float, holder: "Holder") -> None:
        self.latest = score
        if score > self.score:
            self.score, self.state, self.stale = score, holder.snapshot(), 0
        else:
            self.stale += 1


class Holder(Protocol):
    """Whoever owns the parameters."""

    def snapshot(self) -> Snapshot: ...
