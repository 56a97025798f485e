"""The training loss of MIMO-UNet: differences of pixels and of frequencies at three scales.

Cho et al., ICCV 2021 (arXiv 2108.05054), equations 8 to 10.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

FREQUENCY_WEIGHT = 0.1


def restoration_loss(outputs: list[Tensor], sharp: Tensor) -> Tensor:
    """Sum over scales of the mean L1 difference + 0.1 times that of the two-sided, unnormalised 2-D spectra.

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
