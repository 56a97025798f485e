"""Enlarging one picture with the shipped CausalSR weights: estimate z, intervene, enlarge tile by tile."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from deblurgs.errors import UsageError
from deblurgs.restore.causal_sr import SCALES, CausalSR, Posterior
from deblurgs.restore.degradation import FACTORS
from deblurgs.restore.upscale_tiles import scaled_slices, tiles

TILE_PX = 256
PROBE_PX = 256
"""z is estimated from up to nine windows of this size; whole pictures would cost as much as enlarging them."""
_SMALLEST_PROBE_PX = 32

Pixels = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True)
class Explanation:
    """How a picture was taken to be degraded: what the encoder estimated and what the network was told, by factor."""

    estimated: dict[str, float]
    told: dict[str, float]


@cache
def shipped_model() -> CausalSR:
    """The network with the weights of the package."""
    with as_file(files("deblurgs.restore") / "data" / "causal_sr.safetensors") as path:
        return load_model(path)


def load_model(path: Path) -> CausalSR:
    """The network with the weights of a safetensors file; code in a file is never run.

    Raises UsageError when the file is missing, damaged, of another kind or of another network.
    """
    try:
        state = load_file(path)
        width, blocks = state["net.stem.weight"].shape[0], sum(k.endswith("film.weight") for k in state)
        model = CausalSR(width, blocks)
        model.load_state_dict({name: value.float() for name, value in state.items()})
    except (SafetensorError, KeyError, RuntimeError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0][:200]
        raise UsageError(
            f"{path} does not hold weights of the enlarging network ({reason}). It must be a safetensors file as "
            "tools/train_causal_sr.py writes it; leave --weights out for the ones that ship."
        ) from error
    return model.eval().requires_grad_(False)


def parse_do(operations: tuple[str, ...]) -> dict[str, float]:
    """("noise=0", "blur=0.5") -> {"noise": 0.0, "blur": 0.5}. Raises UsageError for anything else."""
    out: dict[str, float] = {}
    for operation in operations:
        name, _, text = operation.partition("=")
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if name not in FACTORS or not 0.0 <= value <= 1.0:
            raise UsageError(
                f"--do {operation}: must be FACTOR=VALUE with a factor of {', '.join(FACTORS)} and a value from 0 "
                "(absent) to 1 (strongest), for example --do noise=0"
            )
        out[name] = value
    return out


@torch.no_grad()
def estimate(model: CausalSR, pixels: Pixels) -> Posterior:
    """q(z | picture) of an upright picture [H,W,3], from up to nine windows. -> mean and log variance [1,3]."""
    height, width = pixels.shape[:2]
    windows = [
        as_planes(pixels[y : y + PROBE_PX, x : x + PROBE_PX]) for y in _probes(height) for x in _probes(width)
    ]
    found = [model.encoder(_at_least(window)) for window in windows]
    mean = torch.stack([p.mean for p in found]).mean(0)
    return Posterior(mean, torch.stack([p.log_variance for p in found]).mean(0))


def _probes(size: int) -> list[int]:
    """Starts of up to three windows along one side, on the 8-pixel grid of JPEG."""
    last = max(0, size - PROBE_PX)
    return sorted({start // 8 * 8 for start in (0, last // 2, last)})


def _at_least(planes: Tensor) -> Tensor:
    height, width = planes.shape[-2:]
    more = (0, max(0, _SMALLEST_PROBE_PX - width), 0, max(0, _SMALLEST_PROBE_PX - height))
    return torch.nn.functional.pad(planes, more, mode="replicate")


@torch.no_grad()
def explain(
    model: CausalSR, pixels: Pixels, do: Mapping[str, float] | None = None, strength: float = 1.0
) -> tuple[Tensor, Explanation]:
    """What the network is told about a picture: z [1,3] after the learnt intervention and the do-operations.

    strength in [0,1] scales the learnt intervention. A do-operation sets its coordinate whatever was estimated, and
    touches no other.
    """
    posterior = estimate(model, pixels)
    told, _ = model.intervention(posterior, strength)
    told = told.clone()
    for name, value in (do or {}).items():
        told[0, FACTORS.index(name)] = value
    as_dict = [
        {n: round(float(v), 4) for n, v in zip(FACTORS, z[0], strict=True)} for z in (posterior.mean, told)
    ]
    return told, Explanation(*as_dict)


@torch.no_grad()
def enlarge_pixels(
    model: CausalSR, pixels: Pixels, told: Tensor, scale: int, tile_px: int = TILE_PX
) -> Pixels:
    """Upright sRGB [H,W,3], uint8 or uint16 -> the same type [scale H, scale W, 3]; told [1,3] as from `explain`.

    Memory beyond input and output is that of one tile. Raises ValueError for a scale without a tail.
    """
    if scale not in SCALES:
        raise ValueError(f"scale must be one of {SCALES}, not {scale}")
    height, width = pixels.shape[:2]
    out = np.empty((height * scale, width * scale, 3), pixels.dtype)
    top = float(np.iinfo(pixels.dtype).max)
    for tile in tiles(height, width, tile_px, model.net.reach_px):
        answer = model.net(as_planes(pixels[tile.outer]), told, scale)[0].permute(1, 2, 0)
        kept = answer[scaled_slices(tile.kept, scale)].clamp(0, 1) * top + 0.5
        out[scaled_slices(tile.inner, scale)] = kept.numpy().astype(pixels.dtype)
    return out  # pyright: ignore[reportReturnType]


def as_planes(pixels: Pixels) -> Tensor:
    """[H,W,3] integers -> float32 [1,3,H,W] in [0,1]."""
    scaled = pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)
    return torch.from_numpy(np.ascontiguousarray(scaled)).permute(2, 0, 1)[None]
