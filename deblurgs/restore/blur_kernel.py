"""Which blur a photo has, read from the spectra of its parts: its kernel, but for half a turn.

A blurred piece's power spectrum is that of the scene times that of the kernel. In the logarithm the product becomes
a sum, and the transform of that (the cepstrum; Bogert, Healy and Tukey 1963) separates the two: natural scenes fill
the smallest lags only, a camera's path leaves its mark at the lags it connects. A small network reads the kernel from
it. A spectrum is the same for a kernel and for the same kernel turned by half a turn; which of the two it is, is left
to those who use it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblurgs.math.color import linear_from_srgb

WINDOW_PX = 128
STEP_PX = 64
LAG_PX = 24
KERNEL_PX = 2 * LAG_PX + 1
_FLOORS = (1e-3, 3e-2)  # of the mean power: what counts as noise in the two cepstra


class KernelEstimator(nn.Module):
    """Photo [B,3,H,W], sRGB in [0,1] -> kernels [B,49,49]: not negative, sum 1, centroid near the middle.

    A kernel moves linear light and is one for all of the photo that it is given, the mean of what its parts saw; right
    but for half a turn. The network is a U-Net over lags with layers in its middle that see all of them.
    """

    def __init__(self) -> None:
        super().__init__()
        fine, coarse, middle, hidden = 16, 40, 8, 128
        self.down = nn.ModuleList(  # 49x49 lags -> 49 -> 25 -> 13 -> 13
            [
                nn.Conv2d(1 + len(_FLOORS), fine, 5, padding=2),
                nn.Conv2d(fine, coarse, 5, 2, padding=2),
                nn.Conv2d(coarse, coarse, 3, 2, padding=1),
                nn.Conv2d(coarse, coarse, 3, padding=1),
            ]
        )
        self.narrow = nn.Conv2d(coarse, middle, 1)
        size = middle * 13 * 13
        self.whole = nn.ModuleList(
            [nn.Linear(size, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, size)]
        )
        self.up = nn.ModuleList(
            [
                nn.Conv2d(middle + coarse, coarse, 3, padding=1),
                nn.Conv2d(2 * coarse, fine, 3, padding=1),
                nn.Conv2d(2 * fine, fine, 3, padding=1),
                nn.Conv2d(fine, 1, 3, padding=1),
            ]
        )

    def forward(self, photo: Tensor) -> Tensor:
        """The mean over four readings: of the maps, mirrored, with their axes exchanged, and both.

        These and half a turn, which maps do not tell, are all symmetries of a square.
        """
        maps = photo_maps(linear_from_srgb(photo.float()).mean(1))
        readings: list[Tensor] = []
        for exchanged in (False, True):
            for mirrored in (False, True):
                view = maps.flip(-1) if mirrored else maps
                kernel = self.read(view.transpose(-2, -1) if exchanged else view)
                kernel = kernel.transpose(-2, -1) if exchanged else kernel
                kernel = kernel.flip(-1) if mirrored else kernel
                readings.append(kernel)
        return _mean_but_for_half_turns(torch.stack(readings))

    def read(self, maps: Tensor) -> Tensor:
        """Maps [B,3,49,49] of `photo_maps` -> kernels."""
        d49 = F.relu(self.down[0](maps))
        d25 = F.relu(self.down[1](d49))
        d13 = F.relu(self.down[3](F.relu(self.down[2](d25))))
        narrow = F.relu(self.narrow(d13))
        seen = F.relu(self.whole[0](narrow.flatten(1)))
        seen = seen + F.relu(self.whole[1](seen))
        seen = F.relu(self.whole[2](seen)).unflatten(1, narrow.shape[1:])
        x = F.relu(self.up[0](torch.cat([seen, d13], dim=1)))
        x = F.relu(self.up[1](torch.cat([_grown(x, d25), d25], dim=1)))
        x = F.relu(self.up[2](torch.cat([_grown(x, d49), d49], dim=1)))
        shares = torch.softmax(self.up[3](x).float().flatten(1), dim=1)
        return shares.unflatten(1, (KERNEL_PX, KERNEL_PX))


def photo_maps(luma: Tensor) -> Tensor:
    """Linear luma [B,H,W] -> [B,3,49,49]: the maps of its windows, averaged by the contrast they hold.

    Windows are 128 pixels wide and at most 64 apart, from border to border; a smaller photo is one window.
    """
    tops, lefts = (window_starts(size) for size in luma.shape[-2:])
    windows = [luma[:, y : y + WINDOW_PX, x : x + WINDOW_PX] for y in tops for x in lefts]
    maps, contrast = (
        values.unflatten(0, (len(luma), len(windows)))
        for values in cepstra(torch.stack(windows, dim=1).flatten(0, 1))
    )
    weights = contrast / contrast.sum(1, keepdim=True)
    return (maps * weights[..., None, None, None]).sum(1)


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
        cepstrum = _centre(_lags(torch.log(power + floor), WINDOW_PX), KERNEL_PX) * 20
        cepstrum[..., LAG_PX, LAG_PX] = 0
        maps.append(cepstrum.clamp(-3, 3))
    correlation = _centre(_lags(power, WINDOW_PX), KERNEL_PX)
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


def _mean_but_for_half_turns(readings: Tensor) -> Tensor:
    """Readings [R,B,K,K] of kernels, each as it is or turned by half a turn: [B,K,K].

    Which of them to turn is not always plain, so each is the model of the others once; the most definite mean counts.
    """
    turned = readings.flip((2, 3))
    straight, other = (torch.einsum("ibyx,jbyx->ijb", readings, r) for r in (readings, turned))
    means = torch.where((other > straight)[..., None, None], turned, readings).mean(1)
    best = means.square().sum((2, 3)).argmax(0)
    return means[best, torch.arange(len(best), device=best.device)]


def _grown(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=True)
