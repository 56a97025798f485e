"""Camera shake made on purpose: motion kernels along random paths, applied in linear light.

A hand's path during one exposure is a smooth random walk (after the trajectory model of Boracchi and Foi,
"Modeling the performance of image restoration from motion blur", TIP 2012): inertia, a pull back to the
centre, and now and then a jerk. Parts of a real photo move differently, so a photo is blurred with
several related kernels that are blended over smooth segments.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deblurgs.math.color import linear_from_srgb, srgb_from_linear

_PATH_SAMPLES = 64


def shake_path(rng: np.random.Generator, extent_px: float) -> NDArray[np.float64]:
    """A centred path [64,2] (x right, y down, pixels), whose larger side is `extent_px`."""
    inertia = rng.uniform(0.85, 1.0)
    pull = rng.uniform(0.0, 0.02)
    angle = rng.uniform(0, 2 * np.pi)
    velocity = np.array([np.cos(angle), np.sin(angle)])
    position = np.zeros(2)
    points = np.empty((_PATH_SAMPLES, 2))
    wobble = rng.choice([0.02, 0.08, 0.25])
    for index in range(_PATH_SAMPLES):
        points[index] = position
        jerk = rng.normal(size=2) * wobble
        if rng.random() < 0.01:
            jerk += -velocity * rng.uniform(0.5, 1.5)
        velocity = inertia * velocity + jerk - pull * position
        position = position + velocity
    points -= points.mean(axis=0)
    size = np.ptp(points, axis=0).max()
    return points * (extent_px / max(size, 1e-9))


def path_kernel(path: NDArray[np.float64], size: int) -> NDArray[np.float32]:
    """The time the path spends in every pixel: [size,size], odd size, sum 1, centre (size-1)/2; bilinear.

    Convolving with it moves the photo along the path. Points beyond the border count at the border.
    """
    if size % 2 == 0:
        raise ValueError(f"an odd kernel size is needed, got {size}")
    fine = np.linspace(0, len(path) - 1, 8 * len(path))
    xy = np.stack([np.interp(fine, np.arange(len(path)), path[:, k]) for k in (0, 1)], axis=1)
    xy = np.clip(xy + (size - 1) / 2, 0, size - 1 - 1e-6)
    low = np.floor(xy).astype(int)
    part = xy - low
    kernel = np.zeros((size, size))
    for dy in (0, 1):
        for dx in (0, 1):
            weight = (part[:, 0] if dx else 1 - part[:, 0]) * (part[:, 1] if dy else 1 - part[:, 1])
            np.add.at(kernel, (low[:, 1] + dy, low[:, 0] + dx), weight)
    return (kernel / kernel.sum()).astype(np.float32)


def kernel_size(extent_px: float) -> int:
    """The odd size that holds a centred path of that extent wherever its mean lies."""
    return 2 * int(np.ceil(extent_px)) + 3


def convolve(image: Tensor, kernel: Tensor) -> Tensor:
    """image [3,H,W], kernel [K,K] -> [3,H-K+1,W-K+1], only where the kernel is covered (by FFT)."""
    height, width = image.shape[-2:]
    size = kernel.shape[-1]
    spectrum = torch.fft.rfft2(image) * torch.fft.rfft2(kernel, s=(height, width))
    return torch.fft.irfft2(spectrum, s=(height, width))[..., size - 1 :, size - 1 :]


def segment_masks(rng: np.random.Generator, count: int, height: int, width: int) -> Tensor:
    """Smooth weights [count,H,W] that sum to 1: every pixel belongs mostly to one random region."""
    cells = torch.from_numpy(rng.normal(size=(1, count, 4, 4)).astype(np.float32)) * 12
    fields = torch.nn.functional.interpolate(cells, (height, width), mode="bicubic", align_corners=True)[0]
    return torch.softmax(fields, dim=0)


@dataclass(frozen=True)
class ShakenPhoto:
    """blurred and sharp: sRGB [3,h,w] in [0,1]; kernels: one [K,K] a segment; shares: of the photo, sum 1."""

    blurred: Tensor
    sharp: Tensor
    kernels: list[Tensor]
    shares: list[float]


def shake_image(
    rng: np.random.Generator, sharp_srgb: Tensor, extent_px: float, segments: int = 2
) -> ShakenPhoto:
    """One photo [3,H,W], sRGB in [0,1], as it would look shaken, and its sharp twin.

    The border that the kernels do not cover is cut off both: h = H - kernel_size + 1. Averaging happens in
    linear light. The segments' paths share their shape and differ in scale and turn as under a camera
    rotation or a change in depth.
    """
    size = kernel_size(1.25 * extent_px)
    if extent_px < 0.25:
        margin = size // 2
        cut = sharp_srgb[..., margin : sharp_srgb.shape[-2] - margin, margin : sharp_srgb.shape[-1] - margin]
        return ShakenPhoto(cut, cut, [torch.ones(1, 1)], [1.0])
    linear = linear_from_srgb(sharp_srgb)
    base = shake_path(rng, extent_px)
    kernels: list[Tensor] = []
    for index in range(segments):
        turn, scale = (0.0, 1.0) if index == 0 else (rng.normal() * 0.3, rng.uniform(0.5, 1.25))
        rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        kernels.append(torch.from_numpy(path_kernel(scale * base @ rotation, size)))
    blurred = [convolve(linear, kernel) for kernel in kernels]
    height, width = blurred[0].shape[-2:]
    mixed, shares = blurred[0], [1.0]
    if segments > 1:
        weights = segment_masks(rng, segments, height, width)
        mixed = sum((w * b for w, b in zip(weights, blurred, strict=True)), torch.zeros_like(mixed))
        shares = [float(w.mean()) for w in weights]
    margin = size // 2
    sharp = sharp_srgb[..., margin : margin + height, margin : margin + width]
    return ShakenPhoto(srgb_from_linear(mixed.clamp(0, 1)), sharp, kernels, shares)
