"""Sharp photographs -> pictures with known blur, for training and testing the blur classifier (tools/train_triage.py).

Blur happens in linear light at the working size: camera shake along smooth random paths and defocus disks, and for
sharp pictures a soft background now and then; then sharpening as phones do it, noise and JPEG. Labels: kind, direction
and extent of every picture, and for every patch whether it is blurred.
"""

from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deblurgs.math.color import linear_from_srgb_numpy, srgb_from_linear_numpy
from deblurgs.math.patches import PATCH, WORKING_SIDE

KINDS = ("sharp", "camera motion", "defocus")
SHARP_BELOW_PX = 1.4
"""Blur of at most this extent at the working size counts as sharp: no later stage could tell."""
BLURRED_ABOVE_PX = 2.5


@dataclass(frozen=True)
class Sample:
    """grey [H,W] float32 in [0,1]; kind index into `KINDS`; angle_deg (NaN unless motion); extent_px of the worst part;
    blurred: extent in pixels of the blur at every pixel [H,W].
    """

    grey: NDArray[np.float32]
    kind: int
    angle_deg: float
    extent_px: float
    blurred: NDArray[np.float32]


def shake_kernel(extent_px: float, rng: np.random.Generator) -> tuple[NDArray[np.float32], float]:
    """Kernel [K,K] of a smooth hand-shake path `extent_px` long along its main axis, and that axis in degrees."""
    knots = np.cumsum(rng.normal(size=(4, 2)) * (1.0, rng.uniform(0.05, 0.7)), axis=0)
    knots[:, 0] += np.linspace(0.0, rng.uniform(0.0, 4.0), 4)
    u = np.linspace(0.0, 1.0, 400)[:, None]
    path = (
        (1 - u) ** 3 * knots[0]
        + 3 * u * (1 - u) ** 2 * knots[1]
        + 3 * u**2 * (1 - u) * knots[2]
        + u**3 * knots[3]
    )
    path -= path.mean(0)
    main = np.linalg.svd(path, full_matrices=False)[2][0]
    path *= extent_px / max(np.ptp(path @ main), 1e-9)
    turn = rng.uniform(0, np.pi)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    path, main = path @ rotation.T, rotation @ main
    path -= path.mean(0)
    half = int(np.ceil(np.abs(path).max())) + 2
    kernel = np.zeros((2 * half + 1, 2 * half + 1))
    low = np.floor(path).astype(int)
    share = path - low
    for dx in (0, 1):
        for dy in (0, 1):
            weight = np.abs(1 - dx - share[:, 0]) * np.abs(1 - dy - share[:, 1])
            np.add.at(kernel, (low[:, 1] + half + dy, low[:, 0] + half + dx), weight)
    return (kernel / kernel.sum()).astype(np.float32), float(np.degrees(np.arctan2(main[1], main[0])) % 180)


def disk_kernel(diameter_px: float) -> NDArray[np.float32]:
    """Kernel of a defocused round aperture, anti-aliased by 5x5 samples per pixel."""
    half = int(np.ceil(diameter_px / 2)) + 1
    fine = (np.arange((2 * half + 1) * 5) - ((2 * half + 1) * 5 - 1) / 2) / 5
    inside = (fine[:, None] ** 2 + fine**2) <= (diameter_px / 2) ** 2
    kernel = inside.reshape(2 * half + 1, 5, 2 * half + 1, 5).sum((1, 3)).astype(np.float64)
    return (kernel / kernel.sum()).astype(np.float32)


def convolve(image: NDArray[np.float32], kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Same size, mirrored border, by FFT."""
    half = kernel.shape[0] // 2
    padded = np.pad(image, half, mode="symmetric")
    shape = padded.shape
    spectrum = np.fft.rfft2(padded) * np.fft.rfft2(kernel, shape)
    full = np.fft.irfft2(spectrum, shape)
    return full[2 * half :, 2 * half :][: image.shape[0], : image.shape[1]].astype(np.float32)


def crop(photo: Image.Image, rng: np.random.Generator) -> NDArray[np.float32]:
    """A part of the photograph at working size: linear luminance [H,W]."""
    share = rng.uniform(0.45, 1.0)
    width, height = max(int(photo.width * share), 200), max(int(photo.height * share), 200)
    width, height = min(width, photo.width), min(height, photo.height)
    left, top = rng.integers(0, photo.width - width + 1), rng.integers(0, photo.height - height + 1)
    part = photo.crop((left, top, left + width, top + height))
    scale = min(1.0, rng.choice([WORKING_SIDE, WORKING_SIDE, WORKING_SIDE, 480]) / max(part.size))
    size = (max(round(part.width * scale), 3 * PATCH), max(round(part.height * scale), 3 * PATCH))
    pixels = np.asarray(part.resize(size, Image.Resampling.BOX), np.float32) / np.float32(255)
    return linear_from_srgb_numpy(pixels) @ np.array([0.2126, 0.7152, 0.0722], np.float32)


def make_sample(linear: NDArray[np.float32], kind: int, rng: np.random.Generator) -> Sample:
    """Blur, sharpen, add noise and compress one luminance picture as a sample of `kind`."""
    angle, extent = float("nan"), 0.0
    blurred = np.zeros(linear.shape, np.float32)
    image = linear
    if kind == 1:
        extent = float(np.exp(rng.uniform(np.log(BLURRED_ABOVE_PX), np.log(40.0))))
        kernel, angle = shake_kernel(extent, rng)
        image, blurred = convolve(linear, kernel), np.full_like(linear, extent)
    elif kind == 2:
        extent = float(np.exp(rng.uniform(np.log(BLURRED_ABOVE_PX), np.log(24.0))))
        image, blurred = convolve(linear, disk_kernel(extent)), np.full_like(linear, extent)
    else:
        extent = float(rng.uniform(0.0, SHARP_BELOW_PX))
        if extent > 0.5:
            image = convolve(
                linear, disk_kernel(extent) if rng.random() < 0.5 else shake_kernel(extent, rng)[0]
            )
        blurred = np.full_like(linear, extent)
        if rng.random() < 0.2:  # A subject in focus before a soft background is a sharp photograph.
            share = _blob(linear.shape, rng)
            wide = float(np.exp(rng.uniform(np.log(4.0), np.log(16.0))))
            image = share * image + (1 - share) * convolve(linear, disk_kernel(wide))
            blurred = np.where(share > 0.5, blurred, np.where(share < 0.05, wide, np.nan)).astype(np.float32)
    grey = srgb_from_linear_numpy(np.clip(image * np.float32(rng.uniform(0.35, 1.15)), 0, 1))
    if rng.random() < 0.35:
        soft = convolve(grey, disk_kernel(rng.uniform(1.5, 4.0)))
        grey = grey + np.float32(rng.uniform(0.2, 0.9)) * (grey - soft)
    level = rng.uniform(0.0, 0.025) * rng.uniform(0.0, 1.0)
    grey = grey + rng.normal(size=grey.shape).astype(np.float32) * np.float32(level)
    return Sample(_jpeg(grey, int(rng.uniform(45, 99))), kind, angle, extent, blurred)


def _blob(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    height, width = shape
    y, x = np.mgrid[:height, :width]
    cy, cx = rng.uniform(0.3, 0.7) * height, rng.uniform(0.3, 0.7) * width
    radius = rng.uniform(0.25, 0.5) * min(height, width)
    distance = np.hypot((y - cy) / radius, (x - cx) / radius)
    return np.clip((1.15 - distance) / 0.3, 0, 1).astype(np.float32)


def _jpeg(grey: NDArray[np.float32], quality: int) -> NDArray[np.float32]:
    buffer = BytesIO()
    Image.fromarray((np.clip(grey, 0, 1) * 255 + 0.5).astype(np.uint8)).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer), np.float32) / np.float32(255)
