"""The structural causal model of a small picture: blur -> downsample -> noise -> JPEG, with known factors.

The causal formulation follows "CausalSR" (arXiv 2501.15852): a sharp picture X and a degradation Z cause the
observed picture Y. Here the graph is fixed and its equations are the ones of a camera:

    B = blur(X, sigma_b)          in linear light (a lens or a shake mixes light)
    L = downsample(B, scale)      bicubic, antialiased
    N = L + sigma_n * eps         sensor noise, eps the exogenous term
    Y = jpeg(N, quality)

A factor vector z = (blur, noise, jpeg) in [0,1]^3 holds the strengths in units of `FACTORS`' largest values.
Because every step is kept, counterfactuals are computed and not guessed: `Observation.explained(t)` is the large
picture that remains when only the shares t of the factors are taken to be degradation and the rest is taken to be
part of the scene. do(noise = 0) therefore has an exact target: the sharp picture with its noise left on it.
"""

from dataclasses import dataclass
from io import BytesIO

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from deblurgs.math.color import linear_from_srgb, srgb_from_linear

FACTORS = ("blur", "noise", "jpeg")
"""Coordinates of z, in causal order."""
MAX_BLUR_PX = 1.2
"""Standard deviation of the blur at blur = 1, in pixels of the *small* picture."""
MAX_NOISE = 0.05
"""Standard deviation of the noise at noise = 1, in sRGB values of [0,1]."""
MAX_JPEG_LOSS = 60
"""100 - quality at jpeg = 1; jpeg = 0 means that the picture never was a JPEG."""


@dataclass(frozen=True)
class Observation:
    """One pass through the causal graph. Pictures are sRGB [B,3,H,W]; `factors` is [B,3]; `shape` [B,2] is the
    blur's axis ratio and angle in radians.
    """

    sharp: Tensor
    low: Tensor
    noisy: Tensor
    observed: Tensor
    factors: Tensor
    shape: Tensor
    scale: int

    def explained(self, taken: Tensor) -> Tensor:
        """The large picture after removing the shares `taken` [B,3] (z units, at most `factors`) of each factor.

        Abduction, action, prediction: the noise and the coding error of this very observation stay in the answer
        as far as they are not taken away. taken = factors gives the sharp picture itself.
        """
        left = (self.factors.square() - taken.square()).clamp_min(0)[:, 0].sqrt()
        picture = blur(self.sharp, left * MAX_BLUR_PX * self.scale, self.shape)
        share = 1.0 - torch.where(self.factors > 0, taken / self.factors.clamp_min(1e-6), 1.0).clamp(0, 1)
        residue = share[:, 1, None, None, None] * (self.noisy - self.low)
        residue = residue + share[:, 2, None, None, None] * (self.observed - self.noisy)
        return picture + enlarge(residue, self.scale)


def observe(sharp: Tensor, factors: Tensor, shape: Tensor, noise: Tensor, scale: int) -> Observation:
    """Push sharp sRGB pictures [B,3,H,W] through the graph; `noise` [B,3,H/scale,W/scale] is standard normal.

    H and W must be multiples of `scale`.
    """
    low = reduce(blur(sharp, factors[:, 0] * MAX_BLUR_PX * scale, shape), scale).clamp(0, 1)
    noisy = (low + factors[:, 1, None, None, None] * MAX_NOISE * noise).clamp(0, 1)
    observed = torch.stack([jpeg(p, float(j)) for p, j in zip(noisy, factors[:, 2], strict=True)])
    return Observation(sharp, low, noisy, observed, factors, shape, scale)


def random_factors(count: int, generator: torch.Generator) -> Tensor:
    """[count,3] in [0,1]; each factor is absent three times in ten."""
    strength = torch.rand(count, 3, generator=generator)
    present = torch.rand(count, 3, generator=generator) > 0.3
    return strength * present


def random_shape(count: int, generator: torch.Generator) -> Tensor:
    """[count,2]: axis ratio in [0.5,1] and angle in [0, pi) of the blur."""
    u = torch.rand(count, 2, generator=generator)
    return torch.stack([0.5 + 0.5 * u[:, 0], np.pi * u[:, 1]], 1)


def blur(picture: Tensor, sigma_px: Tensor, shape: Tensor) -> Tensor:
    """Gaussian blur of sRGB pictures [B,3,H,W] in linear light; `sigma_px` [B] is the geometric mean of both axes."""
    widest = float(sigma_px.max())
    if widest < 1e-3:
        return picture
    radius = max(1, int(np.ceil(3.0 * widest * 1.42)))
    offset = torch.arange(-radius, radius + 1, dtype=picture.dtype)
    y, x = torch.meshgrid(offset, offset, indexing="ij")
    ratio, angle = shape[:, 0, None, None].sqrt(), shape[:, 1, None, None]
    sigma = sigma_px[:, None, None].clamp_min(0.05)
    along = (torch.cos(angle) * x + torch.sin(angle) * y) / (sigma / ratio)
    across = (torch.cos(angle) * y - torch.sin(angle) * x) / (sigma * ratio)
    kernel = torch.exp(-0.5 * (along.square() + across.square()))
    kernel = kernel / kernel.sum((1, 2), keepdim=True)
    batch, channels, height, width = picture.shape
    linear = linear_from_srgb(picture.clamp(0, 1))
    padded = F.pad(linear, (radius,) * 4, mode="replicate")
    mixed = _correlate(padded, kernel, (height, width))
    return srgb_from_linear(mixed.clamp(0, 1)).reshape(batch, channels, height, width)


def _correlate(padded: Tensor, kernel: Tensor, size: tuple[int, int]) -> Tensor:
    """One kernel [k,k] per picture, through the Fourier transform: kernels of 31 pixels are slow otherwise."""
    full = padded.shape[-2:]
    spectrum = torch.fft.rfft2(padded) * torch.fft.rfft2(kernel.flip((-1, -2)), s=full)[:, None]
    k = kernel.shape[-1]
    return torch.fft.irfft2(spectrum, s=full)[..., k - 1 : k - 1 + size[0], k - 1 : k - 1 + size[1]]


def reduce(picture: Tensor, scale: int) -> Tensor:
    """Bicubic, antialiased reduction of [B,3,H,W] by a whole factor."""
    size = (picture.shape[-2] // scale, picture.shape[-1] // scale)
    return F.interpolate(picture, size=size, mode="bicubic", antialias=True)


def enlarge(picture: Tensor, scale: int) -> Tensor:
    """Bicubic enlargement of [B,3,H,W] (Keys' kernel with a = -0.5, as image editors use)."""
    size = (picture.shape[-2] * scale, picture.shape[-1] * scale)
    return F.interpolate(picture, size=size, mode="bicubic", antialias=True)


def jpeg(picture: Tensor, strength: float) -> Tensor:
    """One sRGB picture [3,H,W] through a real JPEG file; strength 0 leaves it as it is. 8x8 grid at the top left."""
    if strength <= 0:
        return picture
    pixels = (picture.clamp(0, 1).permute(1, 2, 0).numpy() * 255.0 + 0.5).astype(np.uint8)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=round(100 - MAX_JPEG_LOSS * strength))
    with Image.open(BytesIO(buffer.getvalue())) as image:
        decoded = np.asarray(image.convert("RGB"))
    return torch.from_numpy(decoded.astype(np.float32) / 255.0).permute(2, 0, 1).to(picture.dtype)
