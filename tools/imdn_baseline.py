"""IMDN for enlarging, as a baseline of tools/bench_upscale.py: the network only; the user brings the checkpoint.

Written from the description in Hui et al., "Lightweight Image Super-Resolution with Information Multi-distillation
Network", ACM MM 2019 (arXiv 1909.11856); the names of the parameters are those of the published checkpoints
(IMDN_x2.pth, IMDN_x3.pth, IMDN_x4.pth). Their repository has no licence, so nothing of it is kept here.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH = 64
DISTILLED = 16
BLOCKS = 6
SLOPE = 0.05


def _conv(size_in: int, size_out: int, kernel: int = 3) -> nn.Conv2d:
    return nn.Conv2d(size_in, size_out, kernel, padding=kernel // 2)


class _ContrastAttention(nn.Module):
    """CCA: channels weighted by the sum of their mean and standard deviation over the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_du = nn.Sequential(_conv(WIDTH, 4, 1), nn.ReLU(), _conv(4, WIDTH, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.conv_du(x.mean((2, 3), keepdim=True) + x.std((2, 3), keepdim=True, unbiased=False))


class _Distillation(nn.Module):
    """IMDB: three times a quarter of the channels is put aside and the rest refined."""

    def __init__(self) -> None:
        super().__init__()
        rest = WIDTH - DISTILLED
        self.c1, self.c2, self.c3 = _conv(WIDTH, WIDTH), _conv(rest, WIDTH), _conv(rest, WIDTH)
        self.c4, self.c5 = _conv(rest, DISTILLED), _conv(WIDTH, WIDTH, 1)
        self.cca = _ContrastAttention()

    def forward(self, x: Tensor) -> Tensor:
        aside, rest = [], x
        for layer in (self.c1, self.c2, self.c3):
            kept, rest = F.leaky_relu(layer(rest), SLOPE).split((DISTILLED, WIDTH - DISTILLED), dim=1)
            aside.append(kept)
        return x + self.c5(self.cca(torch.cat([*aside, self.c4(rest)], dim=1)))


class Imdn(nn.Module):
    """sRGB [B,3,H,W] in [0,1] -> [B,3,scale H,scale W], not clamped."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.fea_conv = _conv(3, WIDTH)
        for i in range(1, BLOCKS + 1):
            self.add_module(f"IMDB{i}", _Distillation())
        self.c = nn.Sequential(_conv(WIDTH * BLOCKS, WIDTH, 1), nn.LeakyReLU(SLOPE))
        self.LR_conv = _conv(WIDTH, WIDTH)
        self.upsampler = nn.Sequential(_conv(WIDTH, 3 * scale**2), nn.PixelShuffle(scale))

    def forward(self, x: Tensor) -> Tensor:
        first = stage = self.fea_conv(x)
        stages = []
        for i in range(1, BLOCKS + 1):
            stage = self.get_submodule(f"IMDB{i}")(stage)
            stages.append(stage)
        return self.upsampler(self.LR_conv(self.c(torch.cat(stages, dim=1))) + first)


def load_imdn(path: Path) -> Imdn:
    """The network of a published checkpoint, read as tensors only; its scale follows from the last layer."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    state = {name.removeprefix("module."): value for name, value in state.items()}
    network = Imdn(round((state["upsampler.0.bias"].numel() / 3) ** 0.5))
    network.load_state_dict(state)
    return network.requires_grad_(False).eval()


def imdn(path: Path) -> tuple[int, Callable[[np.ndarray], np.ndarray]]:
    """Scale, and a function from 8-bit pixels [H,W,3] to the enlarged ones."""
    network = load_imdn(path)

    @torch.inference_mode()
    def enlarge(pixels: np.ndarray) -> np.ndarray:
        planes = torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)[None]
        out = network(planes)[0].clamp(0, 1).permute(1, 2, 0)
        return (out.numpy() * 255 + 0.5).astype(np.uint8)

    return network.scale, enlarge
