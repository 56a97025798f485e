"""What the restorer is trained for: pictures that look like the sharp ones, kernels that explain the blur."""

import torch
import torch.nn.functional as F
from torch import Tensor

from deblurgs.restore.deconvolution import transfer_function

FREQUENCY_WEIGHT = 0.1
# Kernels are compared on so many pixels square; what their Wiener filter takes for noise; and the size of a blur below
# which errors are not measured relative to it.
_GRID_PX = 96
_NOISE = 0.1
_LEAST_BLUR = 0.03


def restoration_loss(outputs: list[Tensor], sharp: Tensor) -> Tensor:
    """Sum over scales of the mean L1 difference + 0.1 times that of the two-sided, unnormalised 2-D spectra.

    Cho et al., ICCV 2021 (arXiv 2108.05054), equations 8 to 10.
    outputs: [B,3,H/4,W/4], [B,3,H/2,W/2], [B,3,H,W]; sharp [B,3,H,W]. Targets of the coarse scales are
    bilinear reductions. Real and imaginary parts of the spectra count as separate entries.
    """
    total = sharp.new_zeros(())
    for output, factor in zip(outputs, (0.25, 0.5, 1.0), strict=True):
        target = sharp
        if factor < 1:
            target = F.interpolate(sharp, scale_factor=factor, mode="bilinear", align_corners=False)
        difference = (output - target).float()
        # The transform is linear: the spectrum of the difference is the difference of the spectra.
        spectrum = torch.view_as_real(torch.fft.fft2(difference))
        total = total + difference.abs().mean() + FREQUENCY_WEIGHT * spectrum.abs().mean()
    return total


def kernel_loss(read: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """Kernels [B,K,K] and [B,L,L] -> two squared errors [B], each relative to that of taking the photo for sharp.

    The error of the kernel, and what a Wiener filter with it leaves of the blur, both in a scene whose power falls as
    that of natural ones does, with the square of frequency. Of the true kernel and the same one turned by half a turn
    the closer counts.
    """
    weights = _scene_power(_GRID_PX, true.device)
    one, truth = (transfer_function(k, _GRID_PX, _GRID_PX) for k in (read, true))
    blur = (weights * (1 - truth).abs() ** 2).sum((1, 2)) + _LEAST_BLUR
    filters = (1 + _NOISE) * one.conj() / (one.abs() ** 2 + _NOISE)
    both = torch.stack([truth, truth.conj()])
    wrong = (weights * (one - both).abs() ** 2).sum((2, 3)) / blur
    left = (weights * (1 - filters * both).abs() ** 2).sum((2, 3)) / blur
    closer = left.argmin(0, keepdim=True)
    return wrong.gather(0, closer)[0], left.gather(0, closer)[0]


def _scene_power(size: int, device: torch.device) -> Tensor:
    """Weights of a half spectrum [size,size//2+1] that sum to 1."""
    down, across = torch.fft.fftfreq(size, device=device)[:, None], torch.fft.rfftfreq(size, device=device)
    power = 1 / (down**2 + across**2 + 1 / 64**2)
    power[:, 1:-1] *= 2  # these columns stand for their mirror images too
    return power / power.sum()
