"""What a camera does to light after the exposure: a gain per frame and colour channel, a response curve, and clipping.

observed_f = response(min(gain_f * light, 1)). Light is that of the scene's display values (sRGB-decoded), so that a
gain of one and the sRGB curve are what an ordinary photo has.

Gauge: gains multiply to one over the frames in every channel, and the curve keeps black and white. What all frames have
in common is thus the scene's own colour, which viewers of the exported splats see.
"""

import torch
from torch import Tensor, nn

from deblurgs.math.color import linear_from_srgb, srgb_from_linear

SATURATED = 250.0 / 255.0
"""Display value from which an observed channel is taken as clipped: the scene there may be brighter."""


class Photometry(nn.Module):
    """Parameters: `log_gains` [F,3] (natural logarithm, linear light); `bends` [C] of the response curve, or C = 0.

    The curve maps display values to display values: x + x (1 - x) * sum_c bends_c B_c(x) with Bernstein polynomials
    B_c, so that 0 and 1 stay where they are and zero bends mean the sRGB curve.
    """

    log_gains: nn.Parameter
    bends: nn.Parameter

    def __init__(self, num_frames: int, *, num_bends: int = 0) -> None:
        super().__init__()
        self.log_gains = nn.Parameter(torch.zeros(num_frames, 3))
        self.bends = nn.Parameter(torch.zeros(num_bends))

    @property
    def has_curve(self) -> bool:
        return self.bends.numel() > 0

    def exposed(self, linear: Tensor, frame: int) -> Tensor:
        """Light [H,W,3] as the sensor counts it in one frame: times the frame's gain. Not clipped."""
        return linear * self.log_gains[frame].exp()

    def developed(self, linear: Tensor) -> Tensor:
        """Counted light [H,W,3] as the display values of the photo."""
        srgb = srgb_from_linear(linear)
        return self._bent(srgb) if self.has_curve else srgb

    def photo(self, srgb: Tensor, frame: int) -> Tensor:
        """A sharp render [H,W,3] in the scene's own display values as this frame's photo would show it, in [0,1]."""
        return self.developed(self.exposed(linear_from_srgb(srgb), frame)).clamp(0.0, 1.0)

    def _bent(self, srgb: Tensor) -> Tensor:
        x = srgb.clamp(0.0, 1.0)
        degree = self.bends.numel() - 1
        curve = torch.zeros_like(x)
        for c, bend in enumerate(self.bends):
            binomial = float(torch.exp(
                torch.lgamma(torch.tensor(degree + 1.0)) - torch.lgamma(torch.tensor(c + 1.0))
                - torch.lgamma(torch.tensor(degree - c + 1.0))
            ))  # fmt: skip
            curve = curve + bend * binomial * x**c * (1 - x) ** (degree - c)
        return srgb + x * (1 - x) * curve

    @torch.no_grad()
    def hold_gauge(self) -> None:
        """Divide all gains by their geometric mean; keep the curve rising."""
        self.log_gains.sub_(self.log_gains.mean(dim=0))
        # Bends within [-1, 1] could just level the curve at its ends.
        self.bends.clamp_(-0.8, 0.8)


def clip_limit(observed: Tensor) -> Tensor | None:
    """Where a photo [H,W,3] (display values) is clipped: the largest light worth telling apart, else infinity.

    None when nothing is clipped. A prediction cut at this limit neither is punished for being brighter than the sensor
    could tell, nor is any light lost that the photo does know about.
    """
    clipped = observed >= SATURATED
    if not bool(clipped.any()):
        return None
    return torch.where(clipped, linear_from_srgb(observed), torch.full_like(observed, torch.inf))
