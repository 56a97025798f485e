"""What the restorer learns from: crops of sharp photos, shaken on purpose, with the kernels that shook them."""

import argparse
import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from deblurgs.restore.shake import ShakenPhoto, kernel_size, shake_image

MAX_EXTENT_PX = 24.0
TRUE_PX = 65  # holds the kernels of every segment
# Of so many crops one is taken, the more easily the more it holds: skies and blurred backgrounds teach little.
_CHOICES = 6
_LEAST_DETAIL = 0.3
_LEAST_SCALE = 0.6


@dataclass(frozen=True)
class Batch:
    """blurred and sharp sRGB [B,3,P,P]; kernels [B,65,65], of each photo the mean over its pixels."""

    blurred: Tensor
    sharp: Tensor
    kernels: Tensor

    def to(self, device: torch.device) -> "Batch":
        return Batch(self.blurred.to(device), self.sharp.to(device), self.kernels.to(device))


def begin(parser: argparse.ArgumentParser) -> tuple[argparse.Namespace, list[Tensor]]:
    """Options that every training on photos has, all options parsed, and the photos; threads and seed are set."""
    parser.add_argument("--photos", type=Path, required=True, help="folder of photos (collect_photos.py)")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    arguments.output.mkdir(parents=True, exist_ok=True)
    photos = load_photos(arguments.photos)
    if not photos:
        parser.error(f"no photos in {arguments.photos}: run tools/collect_photos.py first")
    return arguments, photos


def load_photos(folder: Path) -> list[Tensor]:
    """All files NAME.png and NAME.jpg as uint8 [3,H,W]."""
    return [
        torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1).contiguous()
        for path in sorted([*folder.glob("*.png"), *folder.glob("*.jpg")])
    ]


def draw_extent(rng: np.random.Generator) -> float:
    """Pixels: 15 % sharp or nearly so, the rest log-normal around 10 px."""
    if rng.random() < 0.15:
        return float(rng.choice([0.0, 0.0, rng.uniform(0.5, 2.0)]))
    return float(np.clip(10.0 * np.exp(rng.normal() * 0.45), 2.0, MAX_EXTENT_PX))


def draw_batch(rng: np.random.Generator, photos: list[Tensor], patch: int, count: int) -> Batch:
    """Random crops, turns, brightness and shakes, then light noise and JPEG."""
    rows = [_draw_pair(rng, photos, patch) for _ in range(count)]
    return Batch(*(torch.stack(column) for column in zip(*rows, strict=True)))


def _draw_pair(rng: np.random.Generator, photos: list[Tensor], patch: int) -> tuple[Tensor, Tensor, Tensor]:
    extent = draw_extent(rng)
    crop = _draw_crop(rng, photos, patch + kernel_size(1.25 * extent) - 1).float() / 255
    crop = torch.rot90(crop, int(rng.integers(4)), (1, 2))
    if rng.random() < 0.5:
        crop = crop.flip(2)
    crop = crop * float(rng.uniform(0.6, 1.0))
    shaken = shake_image(rng, crop, extent, segments=int(rng.integers(1, 3)))
    return degrade(rng, shaken.blurred), shaken.sharp, mean_kernel(shaken)


def mean_kernel(shaken: ShakenPhoto) -> Tensor:
    """What shook the photo, the mean over its pixels: [65,65]."""
    kernel = torch.zeros(TRUE_PX, TRUE_PX)
    for share, part in zip(shaken.shares, shaken.kernels, strict=True):
        kernel += share * F.pad(part, [(TRUE_PX - part.shape[-1]) // 2] * 4)
    return kernel


def largest_patch(photos: list[Tensor]) -> int:
    """Sides of patches that can be drawn whatever the shake, pixels."""
    return min(min(photo.shape[1:]) for photo in photos) - kernel_size(1.25 * MAX_EXTENT_PX) + 1


def _draw_crop(rng: np.random.Generator, photos: list[Tensor], size: int) -> Tensor:
    """[3,size,size], reduced to no less than 60 % and every second time turned by any angle, where the photo allows it.

    Raises ValueError when a photo is smaller.
    """
    angle = float(rng.uniform(0, 90)) if rng.random() < 0.5 else 0.0
    reach = math.cos(math.radians(angle)) + math.sin(math.radians(angle))  # of a turned square, in sides
    wanted = math.ceil(size * reach / float(rng.uniform(_LEAST_SCALE, 1))) + 2
    # A large photo holds more crops than a small one.
    areas = np.array([photo[0].numel() for photo in photos], dtype=float)
    crops = []
    for index in rng.choice(len(photos), size=_CHOICES, p=areas / areas.sum()):
        side = min(wanted, *photos[index].shape[1:])
        top, left = (rng.integers(space - side + 1) for space in photos[index].shape[1:])
        crops.append(photos[index][:, top : top + side, left : left + side])
    detail = np.array([_detail(crop) for crop in crops]) + _LEAST_DETAIL
    crop = crops[rng.choice(_CHOICES, p=detail / detail.sum())]
    side = crop.shape[1]
    if side < size:
        raise ValueError(f"a photo of {side} pixels is too small for crops of {size}")
    image = Image.fromarray(crop.permute(1, 2, 0).numpy())
    inner = math.floor((side - 2) / reach)
    if angle and inner >= size:  # turned first: the reduction takes away what turning softens
        edge = (side - inner) // 2
        image = image.rotate(angle, Image.Resampling.BICUBIC).crop((edge, edge, edge + inner, edge + inner))
    image = image.resize((size, size), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def _detail(crop: Tensor) -> float:
    """Mean absolute difference of neighbours in green, of 255, seen at every third pixel."""
    green = crop[1].numpy().astype(np.int16)
    return float(np.abs(np.diff(green[::3])).mean() + np.abs(np.diff(green[:, ::3], axis=0)).mean())


def degrade(rng: np.random.Generator, image: Tensor) -> Tensor:
    """Sensor noise (deviation up to 0.01) and, every second time, JPEG of quality 75 to 97; 8 bits."""
    noisy = image + torch.from_numpy(rng.normal(size=tuple(image.shape)).astype(np.float32)) * float(
        rng.uniform(0, 0.01)
    )
    pixels = (noisy.clamp(0, 1) * 255).round().to(torch.uint8)
    if rng.random() < 0.5:
        buffer = io.BytesIO()
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(
            buffer, "JPEG", quality=int(rng.integers(75, 98))
        )
        pixels = torch.from_numpy(np.array(Image.open(buffer))).permute(2, 0, 1)
    return pixels.float() / 255
