"""What blur a photo has, read from the spectra of its parts: the code that steers a restoring network.

A blurred piece's power spectrum is that of the scene times that of the kernel. In the logarithm the product becomes
a sum, and the transform of that (the cepstrum; Bogert, Healy and Tukey 1963) separates the two: natural scenes fill
the smallest lags only, a camera's path leaves its mark at the lags it connects. A small network reads the kernel's
autocorrelation from it, which is what a spectrum can tell: a kernel and the same kernel turned by 180 degrees have
one code.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblurgs.math.color import linear_from_srgb

WINDOW_PX = 128
STEP_PX = 64
LAG_PX = 24
# Lags up to 4 px one by one and up to 25 px in squares of 3x3; of each the half that symmetry leaves.
FINE, COARSE, BIN_PX = 9, 17, 3
CODE_SIZE = (FINE**2 + 1) // 2 + (COARSE**2 + 1) // 2
_SCALE = 10.0  # brings the numbers of a 10 px blur's code to about 1
_FLOORS = (1e-3, 3e-2)  # of the mean power: what counts as noise in the two cepstra
_SIDE = 2 * LAG_PX + 1


def kernel_code(kernel: Tensor) -> Tensor:
    """The code of a blur kernel [K,K] (sum 1): [CODE_SIZE], its autocorrelation in fine and coarse bins."""
    size = 2 * max(kernel.shape[-1], 32)
    lags = _lags(torch.fft.rfft2(kernel, s=(size, size)).abs() ** 2, size)
    fine = _centre(lags, FINE)
    coarse = F.avg_pool2d(_centre(lags, COARSE * BIN_PX)[None], BIN_PX)[0] * BIN_PX**2
    return torch.cat([_half(fine), _half(coarse)]) * _SCALE


class BlurEstimator(nn.Module):
    """Photo [B,3,H,W], sRGB in [0,1] -> codes [B,CODE_SIZE]: the mean over windows, by the contrast they hold.

    Windows are 128 pixels wide and at most 64 apart, from border to border; a smaller photo is one window.
    """

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Sequential(  # 49x49 lags -> 25x25 -> 13x13
            nn.Conv2d(1 + len(_FLOORS), 24, 5, 2, padding=2),
            nn.ReLU(),
            nn.Conv2d(24, 32, 3, 2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 12, 1),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.code = nn.Sequential(nn.Linear(12 * 13 * 13, 64), nn.ReLU(), nn.Linear(64, CODE_SIZE))

    def forward(self, photo: Tensor) -> Tensor:
        luma = linear_from_srgb(photo.float()).mean(1)
        tops, lefts = (window_starts(size) for size in luma.shape[-2:])
        windows = [luma[:, y : y + WINDOW_PX, x : x + WINDOW_PX] for y in tops for x in lefts]
        maps, contrast = cepstra(torch.stack(windows, dim=1).flatten(0, 1))
        codes, weights = (
            values.unflatten(0, (len(photo), len(windows)))
            for values in (self.code(self.maps(maps)), contrast)
        )
        return (codes * weights[..., None]).sum(1) / weights.sum(1, keepdim=True)


def window_starts(size: int) -> list[int]:
    """Where the windows begin along a side; a side of less than 128 pixels is one window."""
    last = max(0, size - WINDOW_PX)
    count = 1 + -(-last // STEP_PX)
    return [round(i * last / max(count - 1, 1)) for i in range(count)]


def cepstra(luma: Tensor) -> tuple[Tensor, Tensor]:
    """Linear luma [N,H,W], sides of at most 128 -> (maps [N,3,49,49], contrast [N]).

    The maps are two cepstra and the autocorrelation of the gradients, lag 0 in the middle; contrast is the root mean
    square of the gradients.
    """
    across = F.pad((luma[..., 2:] - luma[..., :-2]) / 2, (1, 1))
    down = F.pad((luma[:, 2:] - luma[:, :-2]) / 2, (0, 0, 1, 1))
    rows, columns = (_taper(size).to(luma) for size in luma.shape[-2:])
    gradients = torch.stack([across, down], dim=1) * rows[:, None] * columns
    power = (torch.fft.rfft2(gradients, s=(WINDOW_PX, WINDOW_PX)).abs() ** 2).sum(1)
    mean = power.mean((1, 2), keepdim=True) + 1e-9
    power = power / mean
    maps = []
    for floor in _FLOORS:
        cepstrum = _centre(_lags(torch.log(power + floor), WINDOW_PX), _SIDE) * 20
        cepstrum[..., LAG_PX, LAG_PX] = 0
        maps.append(cepstrum.clamp(-3, 3))
    correlation = _centre(_lags(power, WINDOW_PX), _SIDE)
    peak = correlation[..., LAG_PX, LAG_PX, None, None]
    return torch.stack([*maps, 2 * correlation / (peak + 1e-9)], dim=1), mean.flatten().sqrt()


def _taper(size: int) -> Tensor:
    return torch.sin(torch.pi * (torch.arange(size) + 0.5) / size) ** 2


def _lags(spectrum: Tensor, size: int) -> Tensor:
    return torch.fft.fftshift(torch.fft.irfft2(spectrum, s=(size, size)), dim=(-2, -1))


def _centre(lags: Tensor, side: int) -> Tensor:
    """The middle [...,side,side] (odd) of lags [...,S,S] with lag 0 at S/2 (even S)."""
    start = lags.shape[-1] // 2 - side // 2
    return lags[..., start : start + side, start : start + side]


def _half(square: Tensor) -> Tensor:
    return square.flatten()[: (square.numel() + 1) // 2]
