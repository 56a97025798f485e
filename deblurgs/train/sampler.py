"""Which frame comes next: all of them in random order, and those that the model explains worst once more."""

import torch


class FrameSampler:
    """Epochs in which every frame comes once, plus `extra` * F more visits drawn by the frames' recent losses.

    The loss of a frame is a running mean over its visits relative to the mean of all frames, so that a frame with twice
    the usual loss is twice as likely to be drawn again.
    """

    def __init__(self, num_frames: int, extra: float, rng: torch.Generator) -> None:
        self.num_frames, self.extra, self.rng = num_frames, extra, rng
        self.losses = torch.full((num_frames,), torch.nan)
        self.order: list[int] = []

    def next(self) -> int:
        if not self.order:
            self.order = self._epoch()
        return self.order.pop()

    def saw(self, frame: int, loss: float) -> None:
        """Remember a finite loss of one frame."""
        old = float(self.losses[frame])
        self.losses[frame] = loss if old != old else 0.7 * old + 0.3 * loss  # NaN before the first visit

    def _epoch(self) -> list[int]:
        frames = torch.arange(self.num_frames)
        more = round(self.extra * self.num_frames)
        if more > 0 and not bool(self.losses.isnan().any()):
            drawn = torch.multinomial(self.losses.clamp_min(1e-6), more, replacement=True, generator=self.rng)
            frames = torch.cat([frames, drawn])
        return frames[torch.randperm(len(frames), generator=self.rng)].tolist()
