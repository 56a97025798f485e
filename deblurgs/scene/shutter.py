"""When, inside the exposure, the shutter sees the scene: sample times u in [0, 1] and their weights."""

import torch
from torch import Tensor


def sample_exposure(
    num_virtual_views: int,
    *,
    shift: float = 0.5,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
) -> tuple[Tensor, Tensor]:
    """Evenly spaced times over the open shutter: u [V], weights [V] with sum 1.

    shift in [0, 1): where in its slice of the exposure every view lies. 0.5 is the midpoint rule, whose single view is
    the mid-exposure, so a static exposure and a sharp render are the same thing. A new random shift for every step of
    an optimisation makes the mean over the steps the exact integral, however few views there are.
    """
    if num_virtual_views < 1:
        raise ValueError(f"num_virtual_views must be at least 1, not {num_virtual_views}")
    u = (torch.arange(num_virtual_views, dtype=dtype, device=device) + shift) / num_virtual_views
    return u, torch.full_like(u, 1.0 / num_virtual_views)
