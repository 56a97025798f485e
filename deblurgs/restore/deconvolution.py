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
_GAP_PX = 64  # between the photo and its next period; longer than any kernel


def trial_deconvolutions(photo: Tensor, kernels: Tensor) -> Tensor:
    """Photo [B,3,H,W], sRGB in [0,1], kernels [B,K,K] (odd, sum 1) -> [B,4,3,H,W], sRGB in [0,1].

    First the two filters with the kernel that leaves less variation, then the two with the other one: a kernel the
    wrong way round doubles edges instead of sharpening them.
    """
    height, width = photo.shape[-2:]
    closed = _closed(linear_from_srgb(photo.float()))
    size = (closed.shape[-2], closed.shape[-1])
    spectrum = torch.fft.rfft2(closed)[:, None]
    transfer = transfer_function(kernels, *size)
    found, variations = [], []
    # Turned by half a turn a kernel's transfer function is its complex conjugate.
    for way in (transfer, transfer.conj()):
        light = torch.fft.irfft2(spectrum * _wiener(way, size)[:, :, None], s=size)[..., :height, :width]
        found.append(light)
        variations.append(_variation(light[:, -1].mean(1)))
    swap = (variations[1] < variations[0])[:, None, None, None, None]
    light = torch.cat([torch.where(swap, found[1], found[0]), torch.where(swap, found[0], found[1])], dim=1)
    return srgb_from_linear(light.clamp(0, 1))


def transfer_function(kernels: Tensor, height: int, width: int) -> Tensor:
    """Kernels [B,K,K] (odd, the middle is no motion) -> their half spectra [B,height,width//2+1]."""
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
