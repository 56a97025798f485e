"""The photometric loss, computed natively together with its gradient: torch's SSIM costs as much as a whole render."""

import ctypes
from typing import Any

import torch
from torch import Tensor

from deblurgs.errors import UsageError
from deblurgs.raster import native
from deblurgs.raster.cuda_loss import check_images, cuda_loss
from deblurgs.raster.devices import launcher_for
from deblurgs.train.torch_loss import torch_loss


def photometric_loss(prediction: Tensor, observed: Tensor, **options: Any) -> Tensor:
    """The first of `photometric_terms`, which has the options."""
    return photometric_terms(prediction, observed, **options)[0]


def photometric_terms(
    prediction: Tensor,
    observed: Tensor,
    *,
    ssim_weight: float = 0.2,
    edge_weight: float = 0.0,
    encode_srgb: bool = True,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """(1 - ssim_weight) * mean |d| + ssim_weight * (1 - mean SSIM) + edge_weight * mean |step of d|, a scalar,
    and the same without the last term, not differentiable: comparable whatever its weight.

    The first two terms are Kerbl et al. 2023, eq. 7. A step leads from a pixel to the next one on its right or below;
    half the sum over both, per pixel. Comparing steps makes deblurring better conditioned: blur takes more from a
    detail the finer it is, and steps weigh it the more (Cho and Lee, "Fast motion deblurring", 2009; Shan, Jia and
    Agarwala, "High-quality motion deblurring from a single image", 2008).

    prediction [H,W,3]: linear light when `encode_srgb`, else display values; observed [H,W,3] display values; both
    float32 on one device; on a GPU without our kernels torch computes it. The comparison happens in display values.
    SSIM (Wang et al. 2004): 11x11 Gaussian window of sigma 1.5, C1 = 0.01^2, C2 = 0.03^2, zero padding. mask [H,W]:
    weight per pixel, None = all one; of a step, the product of its ends'. Differentiable in `prediction`. Raises
    ValueError for other shapes or dtypes.
    """
    check_images(prediction, observed, mask, prediction.device)
    if prediction.device.type != "cpu":
        launcher = launcher_for(prediction.device.index or 0)[0] if prediction.device.type == "cuda" else None
        if launcher is None:
            return torch_loss(prediction, observed, ssim_weight, edge_weight, encode_srgb, mask)
        return cuda_loss(
            launcher, prediction, observed, ssim_weight=ssim_weight, edge_weight=edge_weight, encode_srgb=encode_srgb,
            mask=mask,
        )  # fmt: skip
    return _Photometric.apply(prediction, observed, mask, ssim_weight, edge_weight, encode_srgb)  # type: ignore[return-value]


def require_kernels() -> ctypes.CDLL:
    """The compiled library, without which nothing is trained on a CPU. Raises UsageError with the reason."""
    library, reason = native.load()
    if library is None:
        raise UsageError(f"training needs the compiled kernels: {reason}. `deblurgs doctor` tells more.")
    return library


class _Photometric(torch.autograd.Function):
    """The gradient is a by-product of the forward pass and waits for its factor."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        prediction: Tensor,
        observed: Tensor,
        mask: Tensor | None,
        ssim_weight: float,
        edge_weight: float,
        encode_srgb: bool,
    ) -> tuple[Tensor, Tensor]:
        library = require_kernels()
        prediction, observed = prediction.detach().contiguous(), observed.detach().contiguous()
        mask = None if mask is None else mask.detach().contiguous()
        height, width = prediction.shape[:2]
        terms = (ctypes.c_double * 4)()  # loss, mean |d|, mean SSIM, mean |step of d|
        gradient = torch.empty_like(prediction) if ctx.needs_input_grad[0] else None
        status = library.deblurgs_cpu_loss(
            prediction.data_ptr(), observed.data_ptr(), None if mask is None else mask.data_ptr(), width, height,
            ssim_weight, edge_weight, int(encode_srgb), ctypes.addressof(terms),
            None if gradient is None else gradient.data_ptr(), None, native.threads(),
        )  # fmt: skip
        if status != 0:
            raise ValueError(f"the loss refused an image of {width}x{height} (status {status})")
        if gradient is not None:
            ctx.save_for_backward(gradient)
        loss, alone = (
            prediction.new_tensor(terms[0]),
            prediction.new_tensor(terms[0] - edge_weight * terms[3]),
        )
        ctx.mark_non_differentiable(alone)
        return loss, alone

    @staticmethod
    def backward(ctx: Any, *output_gradients: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (gradient,) = ctx.saved_tensors
        # The loss is mostly the last thing before backward(), and then nothing has to be multiplied.
        factor = float(output_gradients[0])
        return gradient if factor == 1.0 else gradient * factor, None, None, None, None, None
