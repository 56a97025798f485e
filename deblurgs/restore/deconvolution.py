"""A blurred photo deconvolved with a kernel on trial, and with the same kernel turned by half a turn.

Linear light is deconvolved by Wiener filters: X = conj(K) Y / (|K|^2 + a + b |D|^2), D the differences of neighbours,
since scenes have less power than noise where they change fast.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from deblurgs.math.color import linear_from_srgb, srgb_from_linear

# (a, b): a filter for a kernel that is right and one for a kernel that is so by and large.
_NOISE = ((5e-3, 2e-2), (5e-2, 1e-1))
TRIALS = 2 * len(_NOISE)
# How much light beyond black and white weighs against variation, where the two disagree about the way round.
_BEYOND = 0.04
_GAP_PX = 64  # between the photo and its next period; longer than the reach of any kernel


def trial_deconvolutions(photo: Tensor, kernels: Tensor) -> Tensor:
    """Photo [B,3,H,W], sRGB in [0,1], kernels [B,K,K] (odd, sum 1) -> [B,4,3,H,W], sRGB in [0,1].

    First the two filters with the kernel that is more likely the right way round, then the two with the other one. The
    wrong way round, edges are doubled instead of sharpened: more variation is left, and more light lies beyond black
    and white.
    """
    height, width = photo.shape[-2:]
    closed = _closed(linear_from_srgb(photo.float()))
    size = (closed.shape[-2], closed.shape[-1])
    spectrum = torch.fft.rfft2(closed)[:, None]
    filters = _wiener(transfer_function(kernels, *size), size)[:, :, None]
    found, doubts = [], []
    # Turned by half a turn a kernel's transfer function, and so its filter, is the complex conjugate.
    for way in (filters, filters.conj()):
        light = torch.fft.irfft2(spectrum * way, s=size)[..., :height, :width]
        possible = light.clamp(0, 1)
        beyond = (light - possible)[:, 0].abs().mean((1, 2, 3))
        doubts.append(_variation(light[:, -1].mean(1)) * (beyond + 1e-5) ** _BEYOND)
        found.append(possible)
    swap = (doubts[1] < doubts[0])[:, None, None, None, None]
    light = torch.cat([torch.where(swap, found[1], found[0]), torch.where(swap, found[0], found[1])], dim=1)
    return srgb_from_linear(light)


def transfer_function(kernels: Tensor, height: int, width: int) -> Tensor:
    """Kernels [B,K,K] (odd, the middle is no motion) -> their half spectra [B,height,width//2+1].

    Raises ValueError when they are larger than that.
    """
    if kernels.shape[-1] > min(height, width):
        raise ValueError(f"a kernel of {kernels.shape[-1]} pixels does not fit into {height}x{width}")
    middle = kernels.shape[-1] // 2
    canvas = F.pad(kernels, (0, width - kernels.shape[-1], 0, height - kernels.shape[-2]))
    return torch.fft.rfft2(canvas.roll((-middle, -middle), (-2, -1)))


def _closed(light: Tensor) -> Tensor:
    """[...,H,W] continued to the right and below so that it closes on itself without a step."""
    for dim in (-1, -2):
        gap = _fast_size(light.shape[dim] + _GAP_PX) - light.shape[dim]
        ramp = 0.5 - 0.5 * torch.cos(math.pi * torch.arange(1, gap + 1, device=light.device) / (gap + 1))
        ramp = ramp if dim == -1 else ramp[:, None]
        first, last = light.narrow(dim, 0, 1), light.narrow(dim, -1, 1)
        light = torch.cat([light, last + (first - last) * ramp], dim=dim)
    return light


def _wiener(transfer: Tensor, size: tuple[int, int]) -> Tensor:
    """The filters of transfer functions [B,h,w//2+1]: [B,2,h,w//2+1]. A constant stays as bright as it is."""
    down, across = (torch.fft.fftfreq(n, device=transfer.device) for n in size)
    across = across[: size[1] // 2 + 1]
    steps = 4 * torch.sin(math.pi * across) ** 2 + 4 * torch.sin(math.pi * down[:, None]) ** 2
    power = transfer.abs() ** 2
    return torch.stack(
        [(1 + flat) * transfer.conj() / (power + flat + steep * steps) for flat, steep in _NOISE], dim=1
    )


def _variation(luma: Tensor) -> Tensor:
    """[B,H,W] -> [B]: the sum of the mean absolute differences of neighbours."""
    across, down = luma.diff(dim=-1), luma.diff(dim=-2)
    return across.abs().mean((1, 2)) + down.abs().mean((1, 2))


def _fast_size(size: int) -> int:
    """The smallest number that is not less and has no prime factors but 2, 3 and 5: Fourier transforms are fast."""
    while True:
        rest = size
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return size
        size += 1
