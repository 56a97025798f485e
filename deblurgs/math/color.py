"""sRGB encoding and averaging in linear light.

The transfer curve is that of IEC 61966-2-1. It is extended so that optimisation never meets a dead or
infinite slope: the straight piece near black continues to negative numbers, and nothing is clamped above 1.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_ENCODED_KNEE = 0.04045
_LINEAR_KNEE = 0.0031308


def linear_from_srgb(srgb: Tensor) -> Tensor:
    """Decode, any shape: x/12.92 up to 0.04045 (and below 0), ((x+0.055)/1.055)^2.4 above (and beyond 1)."""
    # Double where: the power's base must be positive even where the straight piece is taken, or its gradient
    # is NaN.
    base = (torch.where(srgb > _ENCODED_KNEE, srgb, torch.ones_like(srgb)) + 0.055) / 1.055
    return torch.where(srgb > _ENCODED_KNEE, base.pow(2.4), srgb / 12.92)


def srgb_from_linear(linear: Tensor) -> Tensor:
    """Encode, any shape: 12.92 x up to 0.0031308 (and below 0), 1.055 x^(1/2.4) - 0.055 above (and beyond
    1)."""
    base = torch.where(linear > _LINEAR_KNEE, linear, torch.ones_like(linear))
    return torch.where(linear > _LINEAR_KNEE, 1.055 * base.pow(1.0 / 2.4) - 0.055, linear * 12.92)


def linear_from_srgb_numpy(srgb: NDArray[np.floating]) -> NDArray[np.floating]:
    """`linear_from_srgb` for numpy arrays; keeps the floating dtype."""
    base = (np.maximum(srgb, _ENCODED_KNEE) + 0.055) / 1.055
    return np.where(srgb > _ENCODED_KNEE, base**2.4, srgb / 12.92).astype(srgb.dtype, copy=False)


def srgb_from_linear_numpy(linear: NDArray[np.floating]) -> NDArray[np.floating]:
    """`srgb_from_linear` for numpy arrays; keeps the floating dtype."""
    curved = 1.055 * np.maximum(linear, _LINEAR_KNEE) ** (1.0 / 2.4) - 0.055
    return np.where(linear > _LINEAR_KNEE, curved, linear * 12.92).astype(linear.dtype, copy=False)


def area_weights(size_in: int, size_out: int, *, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Rows of box-filter weights [size_out, size_in]: the share of each input pixel in each output pixel, sum
    1.

    Output pixel i covers the input interval [i, i+1) * size_in / size_out; any sizes, also enlarging.
    """
    edges = torch.arange(size_out + 1, dtype=torch.float64) * (size_in / size_out)  # [size_out+1]
    left, right = edges[:-1, None], edges[1:, None]
    pixel = torch.arange(size_in, dtype=torch.float64)[None]
    overlap = (torch.minimum(right, pixel + 1) - torch.maximum(left, pixel)).clamp(min=0.0)
    return (overlap / overlap.sum(-1, keepdim=True)).to(dtype=dtype, device=device)


def downscale_linear(image_srgb: Tensor, width: int, height: int) -> Tensor:
    """Area average in linear light: what a camera with fewer, larger pixels would have seen.

    image_srgb [H,W,C] floating, sRGB-encoded -> [height,width,C] sRGB-encoded. Raises ValueError for other
    shapes, integer pixels or an empty target.
    """
    if image_srgb.ndim != 3 or not image_srgb.is_floating_point():
        raise ValueError(
            f"image_srgb must be floating [H,W,C], got {image_srgb.dtype} {tuple(image_srgb.shape)}"
        )
    if width < 1 or height < 1:
        raise ValueError(f"target size must be at least 1x1, got {width}x{height}")
    height_in, width_in, _ = image_srgb.shape
    if (height_in, width_in) == (height, width):
        return image_srgb
    kind = {"dtype": image_srgb.dtype, "device": image_srgb.device}
    linear = linear_from_srgb(image_srgb)
    linear = torch.tensordot(area_weights(height_in, height, **kind), linear, dims=1)  # [height,W,C]
    linear = torch.einsum("ow,hwc->hoc", area_weights(width_in, width, **kind), linear)
    return srgb_from_linear(linear)
