"""When, inside the exposure, the shutter sees the scene: sample times u in [0, 1] and their weights."""

import torch
from torch import Tensor


def sample_exposure(num_virtual_views: int, *, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Midpoint rule over the open shutter: u [V], weights [V] with sum 1.

    One view is the mid-exposure u = 0.5, so a static exposure and a sharp render are the same thing.
    """
    if num_virtual_views < 1:
        raise ValueError(f"num_virtual_views must be at least 1, not {num_virtual_views}")
    u = (torch.arange(num_virtual_views, dtype=dtype) + 0.5) / num_virtual_views
    return u, torch.full_like(u, 1.0 / num_virtual_views)
