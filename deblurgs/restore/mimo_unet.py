"""MIMO-UNet: one encoder and one decoder that read and write three scales of a blurred photo.

Written from the description of Cho et al., "Rethinking Coarse-to-Fine Approach in Single Image Deblurring",
ICCV 2021 (arXiv 2108.05054). The names of the parameters follow the published checkpoints, so that
those load here; the code is our own.

MIMO-UNet has width 32 and 8 blocks, MIMO-UNet+ 20 blocks. Smaller widths and fewer blocks are the same code.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblurgs.restore.blur_kernel import KernelEstimator
from deblurgs.restore.deconvolution import TRIALS, trial_deconvolutions

# The input must be a multiple of 4 in both directions: two convolutions of stride 2 round up where plain
# subsampling rounds down.
SIZE_MULTIPLE = 4


@dataclass(frozen=True)
class MimoConfig:
    """width: channels at full scale (2x and 4x that at the coarser ones); blocks: residual blocks a level.

    dropout: probability of dropping a fused channel during training (MIMO-UNet+ uses 0.1); it has no
    parameters. guided: the network also sees the photo deconvolved with the kernel that it reads from it
    (`blur_kernel.py`, `deconvolution.py`), which the published networks do not.
    """

    width: int = 32
    blocks: int = 8
    dropout: float = 0.0
    guided: bool = False

    def __post_init__(self) -> None:
        if self.width < 4 or self.width % 2 or self.blocks < 1:
            raise ValueError(
                f"width must be even and at least 4, blocks at least 1: got {self.width}, {self.blocks}"
            )


MIMO_UNET = MimoConfig(32, 8)
MIMO_UNET_PLUS = MimoConfig(32, 20, 0.1)


class _Conv(nn.Module):
    """A convolution with bias that keeps (or, with stride 2, halves) the size, and perhaps a ReLU."""

    def __init__(self, size_in: int, size_out: int, kernel: int = 3, stride: int = 1, relu: bool = False):
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(size_in, size_out, kernel, stride, padding=kernel // 2)]
        self.main = nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if relu else []))

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x)


class _Up(nn.Module):
    """Transposed convolution 4x4 of stride 2 with ReLU: twice the size."""

    def __init__(self, size_in: int, size_out: int):
        super().__init__()
        self.main = nn.Sequential(
            nn.ConvTranspose2d(size_in, size_out, 4, 2, padding=1), nn.ReLU(inplace=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x)


class _Residual(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.main = nn.Sequential(_Conv(channels, channels, relu=True), _Conv(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.main(x)


class _Level(nn.Module):
    """The residual blocks of one scale."""

    def __init__(self, channels: int, blocks: int):
        super().__init__()
        self.layers = nn.Sequential(*(_Residual(channels) for _ in range(blocks)))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class _ShallowFeatures(nn.Module):
    """SCM: features of the downsampled photo, with the photo itself as the first three channels."""

    def __init__(self, channels: int):
        super().__init__()
        quarter, half = channels // 4, channels // 2
        self.main = nn.Sequential(
            _Conv(3, quarter, 3, relu=True),
            _Conv(quarter, half, 1, relu=True),
            _Conv(half, half, 3, relu=True),
            _Conv(half, channels - 3, 1, relu=True),
        )
        self.conv = _Conv(channels, channels, 1)

    def forward(self, photo: Tensor) -> Tensor:
        return self.conv(torch.cat([photo, self.main(photo)], dim=1))


class _Attention(nn.Module):
    """FAM: features of the finer scale, corrected where those of the downsampled photo agree with them."""

    def __init__(self, channels: int):
        super().__init__()
        self.merge = _Conv(channels, channels)

    def forward(self, features: Tensor, shallow: Tensor) -> Tensor:
        return features + self.merge(features * shallow)


class _Fusion(nn.Module):
    """AFF: the features of all three scales, brought to one size, for one decoder level."""

    def __init__(self, size_in: int, size_out: int):
        super().__init__()
        self.conv = nn.Sequential(_Conv(size_in, size_out, 1, relu=True), _Conv(size_out, size_out, 3))

    def forward(self, full: Tensor, half: Tensor, quarter: Tensor) -> Tensor:
        return self.conv(torch.cat([full, half, quarter], dim=1))


class _Guide(nn.Module):
    """What trial deconvolutions tell: features for the three scales, and how much of each the result takes."""

    def __init__(self, channels: int):
        super().__init__()
        size = 3 * TRIALS
        self.features = nn.ModuleList(
            [
                nn.Conv2d(size, channels, 3, padding=1),
                nn.Conv2d(size, 2 * channels, 3, 2, padding=1),
                nn.Conv2d(size, 4 * channels, 5, 4, padding=2),
            ]
        )
        self.shares = nn.Conv2d(channels, TRIALS, 3, padding=1)
        for layer in (*self.features, self.shares):  # it begins with what the network makes without trials
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def hints(self, changes: Tensor) -> list[Tensor]:
        """changes [B,4,3,H,W], trials less the photo -> features at full, half and quarter size."""
        return [layer(changes.flatten(1, 2)) for layer in self.features]

    def chosen(self, features: Tensor, changes: Tensor) -> Tensor:
        """The last features [B,c,H,W] say pixel by pixel which changes [B,4,3,H,W] to take: [B,3,H,W]."""
        return (self.shares(features)[:, :, None] * changes).sum(1)


def _resize(x: Tensor, factor: float) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="nearest")


class MimoUNet(nn.Module):
    """Blurred sRGB [B,3,H,W] in [0,1] -> sharp estimates at a quarter, half and full size (not clamped).

    H and W must be multiples of `SIZE_MULTIPLE`; `tiling.restore_pixels` pads any photo. Every output is the
    subsampled input plus a correction, so a network that corrects nothing is the identity.
    """

    def __init__(self, config: MimoConfig = MIMO_UNET):
        super().__init__()
        c1 = config.width
        c2, c3 = 2 * c1, 4 * c1
        self.config = config
        self.Encoder = nn.ModuleList(_Level(c, config.blocks) for c in (c1, c2, c3))
        self.Decoder = nn.ModuleList(_Level(c, config.blocks) for c in (c3, c2, c1))
        self.feat_extract = nn.ModuleList(
            [
                _Conv(3, c1, relu=True),
                _Conv(c1, c2, stride=2, relu=True),
                _Conv(c2, c3, stride=2, relu=True),
                _Up(c3, c2),
                _Up(c2, c1),
                _Conv(c1, 3),
            ]
        )
        self.Convs = nn.ModuleList([_Conv(c3, c2, 1, relu=True), _Conv(c2, c1, 1, relu=True)])
        self.ConvsOut = nn.ModuleList([_Conv(c3, 3), _Conv(c2, 3)])
        self.AFFs = nn.ModuleList([_Fusion(c1 + c2 + c3, c1), _Fusion(c1 + c2 + c3, c2)])
        self.FAM1, self.SCM1 = _Attention(c3), _ShallowFeatures(c3)
        self.FAM2, self.SCM2 = _Attention(c2), _ShallowFeatures(c2)
        self.dropout = nn.Dropout2d(config.dropout)
        if config.guided:
            self.estimator = KernelEstimator()
            self.guide = _Guide(c1)

    def forward(self, photo: Tensor, trials: Tensor | None = None) -> list[Tensor]:
        """trials [B,4,3,H,W] (`deconvolution.py`): what guides a guided network instead of those it makes itself."""
        height, width = photo.shape[-2:]
        if height % SIZE_MULTIPLE or width % SIZE_MULTIPLE:
            raise ValueError(f"height and width must be multiples of {SIZE_MULTIPLE}, got {height}x{width}")
        if trials is not None and not self.config.guided:
            raise ValueError("trials guide only a network that was made with guided=True")
        half, quarter = photo[..., ::2, ::2], photo[..., ::4, ::4]  # nearest resampling by 1/2 and 1/4
        changes: Tensor | None = None
        hints: Sequence[Tensor | float] = (0.0, 0.0, 0.0)
        if self.config.guided:
            if trials is None:
                trials = trial_deconvolutions(photo, self.estimator(photo))
            changes = trials - photo[:, None]
            hints = self.guide.hints(changes)

        first = self.feat_extract[0]
        assert isinstance(first, _Conv)
        e1 = self.Encoder[0](F.relu(first.main[0](photo) + hints[0]))
        e2 = self.Encoder[1](self.FAM2(self.feat_extract[1](e1), self.SCM2(half) + hints[1]))
        e3 = self.Encoder[2](self.FAM1(self.feat_extract[2](e2), self.SCM1(quarter) + hints[2]))
        fused_half = self.dropout(self.AFFs[1](e1[..., ::2, ::2], e2, _resize(e3, 2)))
        fused_full = self.dropout(self.AFFs[0](e1, _resize(e2, 2), _resize(e3, 4)))

        d3 = self.Decoder[0](e3)
        d2 = self.Decoder[1](self.Convs[0](torch.cat([self.feat_extract[3](d3), fused_half], dim=1)))
        d1 = self.Decoder[2](self.Convs[1](torch.cat([self.feat_extract[4](d2), fused_full], dim=1)))
        full = self.feat_extract[5](d1) + photo
        if changes is not None:
            full = full + self.guide.chosen(d1, changes)
        return [self.ConvsOut[0](d3) + quarter, self.ConvsOut[1](d2) + half, full]
