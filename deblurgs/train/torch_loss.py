"""The photometric loss in plain torch: slow, on any device, in any precision. It defines what the kernels compute."""

import torch
import torch.nn.functional as F
from torch import Tensor

from deblurgs.math.color import srgb_from_linear

_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = 0.01**2, 0.03**2


def torch_loss(
    prediction: Tensor,
    observed: Tensor,
    ssim_weight: float,
    edge_weight: float,
    encode_srgb: bool,
    mask: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """See `losses.photometric_terms`. [H,W,3], [H,W,3] -> two scalars; 0 where the mask leaves nothing."""
    shown = srgb_from_linear(prediction) if encode_srgb else prediction
    weight = torch.ones_like(shown[..., :1]) if mask is None else mask[..., None]
    total = (3 * weight.sum()).clamp_min(1e-12)
    apart = shown - observed
    l1 = (weight * apart.abs()).sum() / total
    across = (weight[:, 1:] * weight[:, :-1] * (apart[:, 1:] - apart[:, :-1]).abs()).sum()
    down = (weight[1:] * weight[:-1] * (apart[1:] - apart[:-1]).abs()).sum()
    edges = 0.5 * (across + down) / total
    mixed = observed + weight * apart
    x, y = observed.permute(2, 0, 1)[:, None], mixed.permute(2, 0, 1)[:, None]  # [3,1,H,W]
    offset = torch.arange(_WINDOW, dtype=x.dtype, device=x.device) - _WINDOW // 2
    taps = torch.exp(-0.5 * (offset / _SIGMA) ** 2)
    taps = taps / taps.sum()
    window = (taps[:, None] * taps[None])[None, None]

    def blur(image: Tensor) -> Tensor:
        return F.conv2d(image, window, padding=_WINDOW // 2)

    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    alike = (2 * mean_x * mean_y + _C1) * (2 * covariance + _C2)
    alike = alike / ((mean_x**2 + mean_y**2 + _C1) * (var_x + var_y + _C2))
    unlike = ((1 - alike[:, 0].permute(1, 2, 0)) * weight).sum() / total
    alone = (1 - ssim_weight) * l1 + ssim_weight * unlike
    return alone + edge_weight * edges, alone.detach()
