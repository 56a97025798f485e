"""When, inside its exposure, a camera passes along its path: learnable times of the virtual views.

DeblurGS (arXiv 2404.11358, section 3.3) learns an alignment parameter for every sub-frame, because a hand does not move
at even speed. Here the number of virtual views changes during training, so what is learnt is the course of time itself:
a monotone, piecewise linear map of [0,1] onto itself in NUM_PIECES pieces, as logarithms of their relative speeds.
"""

from torch import Tensor

NUM_PIECES = 8


def warped(u: Tensor, log_speeds: Tensor) -> Tensor:
    """Places on the path at the times u [V] in [0,1], for log_speeds [F,P] -> [F,V] in [0,1].

    Equal speeds change nothing. Differentiable in both.
    """
    pieces = log_speeds.shape[-1]
    shares = log_speeds.softmax(dim=-1)  # of the path, covered during each piece of time
    ends = shares.cumsum(dim=-1)
    piece = (u * pieces).floor().clamp(0, pieces - 1).long()
    inside = u * pieces - piece
    return (ends[:, piece] - shares[:, piece] * (1.0 - inside)).clamp(0.0, 1.0)
