"""The photometric loss by the kernels of cuda/loss.cuh, with its gradient; nothing waits for the device."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from deblurgs.raster.launcher import Launcher

_TILE = 16


def check_images(prediction: Tensor, observed: Tensor, mask: Tensor | None, device: torch.device) -> None:
    """Raise ValueError unless the shapes agree, [H,W,3] twice and [H,W], and all are float32 on `device`."""
    if prediction.ndim != 3 or prediction.shape[2] != 3 or prediction.shape != observed.shape:
        raise ValueError(
            f"prediction and observed must both be [H,W,3], got {tuple(prediction.shape)} and {tuple(observed.shape)}"
        )
    if mask is not None and mask.shape != prediction.shape[:2]:
        raise ValueError(f"mask must be [H,W] = {tuple(prediction.shape[:2])}, got {tuple(mask.shape)}")
    for name, tensor in (("prediction", prediction), ("observed", observed), ("mask", mask)):
        if tensor is not None and (tensor.dtype != torch.float32 or tensor.device != device):
            raise ValueError(
                f"{name} must be a float32 tensor on {device}, got {tensor.dtype} on {tensor.device}"
            )


def cuda_loss(
    launcher: Launcher,
    prediction: Tensor,
    observed: Tensor,
    *,
    ssim_weight: float = 0.2,
    edge_weight: float = 0.0,
    encode_srgb: bool = True,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """(1 - ssim_weight) * mean |d| + ssim_weight * (1 - mean SSIM) + edge_weight * mean |step of d|, and the same
    without the last term.

    What `deblurgs.train.losses.photometric_terms` defines, on float32 tensors of the launcher's device: prediction
    [H,W,3] linear light when `encode_srgb`, else display values; observed [H,W,3] display values; mask [H,W] weight per
    pixel, None = all one. Differentiable in `prediction`; repeatable to the bit. Raises ValueError for other shapes,
    dtypes or devices.
    """
    check_images(prediction, observed, mask, launcher.device)
    if prediction.numel() == 0:
        raise ValueError(f"prediction must have pixels, got {tuple(prediction.shape)}")
    return _Photometric.apply(prediction, observed, mask, ssim_weight, edge_weight, encode_srgb, launcher)  # type: ignore[return-value]


class _Photometric(torch.autograd.Function):
    """The gradient is a by-product of the forward pass and waits for its factor, which stays on the device."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        prediction: Tensor,
        observed: Tensor,
        mask: Tensor | None,
        ssim_weight: float,
        edge_weight: float,
        encode_srgb: bool,
        launcher: Launcher,
    ) -> tuple[Tensor, Tensor]:
        prediction, observed = prediction.detach().contiguous(), observed.detach().contiguous()
        mask = None if mask is None else mask.detach().contiguous()
        height, width = prediction.shape[:2]
        grid, block, one_block = (-(-width // _TILE), -(-height // _TILE), 3), (256, 1, 1), (1, 1, 1)
        num_parts = grid[0] * grid[1] * grid[2]
        size = (np.int32(width), np.int32(height), np.int32(encode_srgb))
        weighting = (np.float32(height * width), np.float32(ssim_weight), np.float32(edge_weight))
        images = (prediction, observed, mask)

        weight_sum = None
        if mask is not None:
            weight_sum = prediction.new_empty(1)
            launcher.launch(
                "deblurgs_loss_weight", one_block, block, (mask, weight_sum, np.int64(height * width))
            )
        slopes = prediction.new_empty(3, 3, height, width) if ctx.needs_input_grad[0] else None
        parts, terms = prediction.new_empty(num_parts, 3), prediction.new_empty(4)
        edges = np.int32(edge_weight != 0.0)
        launcher.launch("deblurgs_loss_similarity", grid, block, (*images, slopes, parts, *size, edges))
        launcher.launch(
            "deblurgs_loss_terms",
            one_block,
            block,
            (parts, weight_sum, terms, np.int32(num_parts), *weighting),
        )
        if slopes is not None:
            gradient = torch.empty_like(prediction)
            launcher.launch(
                "deblurgs_loss_gradient",
                grid,
                block,
                (*images, slopes, weight_sum, gradient, *size, *weighting),
            )
            ctx.save_for_backward(gradient)
        loss, alone = terms[0].clone(), terms[0] - edge_weight * terms[3]
        ctx.mark_non_differentiable(alone)
        return loss, alone

    @staticmethod
    def backward(ctx: Any, *output_gradients: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (gradient,) = ctx.saved_tensors
        return gradient * output_gradients[0], None, None, None, None, None, None
