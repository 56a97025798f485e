"""Measure the enlarging network on pictures that it was not trained on -> benchmarks/upscale.json.

    python tools/bench_upscale.py PICTURES [--scales 2 4] [--out benchmarks/upscale.json]
    python tools/bench_upscale.py PICTURES --imdn IMDN_x2.pth IMDN_x4.pth

PICTURES: a folder of sharp pictures of sources that the training set does not have, PNG or JPEG; larger ones are first
reduced to 960 pixels, which removes traces of JPEG and softness. *matched*: degradations drawn from
the training distribution; *mismatched*: disk blur instead of Gaussian, box reduction instead of bicubic,
signal-dependent noise, WebP instead of JPEG. Methods: bicubic, the network with z estimated (as shipped), without the
learnt intervention, and with the true z. With `--imdn`, published checkpoints of IMDN are measured on the same
pictures; they were trained for bicubic reduction alone, so *clean* pictures, to which nothing else was done, are
measured then too.
"""

import argparse
import json
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from imdn_baseline import imdn
from PIL import Image
from results import commit
from torch import Tensor

from deblurgs.machine import PeakMemory
from deblurgs.math.color import linear_from_srgb, srgb_from_linear
from deblurgs.math.metrics import psnr, ssim
from deblurgs.restore import degradation as d
from deblurgs.restore.upscale import enlarge_pixels, explain, load_model, shipped_model

LONG_SIDE = 960
METHODS = ("bicubic", "network", "no_intervention", "true_z")


def pictures_in(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in (".png", ".jpg", ".jpeg"))


def read_picture(path: Path) -> np.ndarray:
    """uint8 [H,W,3], the longer side at most `LONG_SIDE`."""
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    picture.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.LANCZOS)
    return np.asarray(picture)


def to_pixels(planes: Tensor) -> np.ndarray:
    return (planes.clamp(0, 1).permute(1, 2, 0).numpy() * 255 + 0.5).astype(np.uint8)


def matched(sharp: Tensor, scale: int, generator: torch.Generator) -> tuple[np.ndarray, Tensor]:
    factors, shape = d.random_factors(1, generator), d.random_shape(1, generator)
    noise = torch.randn(1, 3, sharp.shape[2] // scale, sharp.shape[3] // scale, generator=generator)
    return to_pixels(d.observe(sharp, factors, shape, noise, scale).observed[0]), factors


def mismatched(sharp: Tensor, scale: int, generator: torch.Generator) -> tuple[np.ndarray, Tensor]:
    """Another camera than the model's; the nearest factors of the model stand for the true z."""
    factors = d.random_factors(1, generator)
    radius = (
        2.0 * float(factors[0, 0]) * d.MAX_BLUR_PX * scale
    )  # a disk of radius r has a deviation of r/2 per axis
    reach = int(np.ceil(radius + 1))
    y, x = torch.meshgrid(*[torch.arange(-reach, reach + 1.0)] * 2, indexing="ij")
    disk = (radius + 0.5 - (x.square() + y.square()).sqrt()).clamp(0, 1)
    linear = F.pad(linear_from_srgb(sharp), (reach,) * 4, mode="replicate").transpose(0, 1)
    blurred = F.conv2d(linear, (disk / disk.sum())[None, None]).transpose(0, 1)
    low = srgb_from_linear(F.avg_pool2d(blurred, scale))
    noise = torch.randn(low.shape, generator=generator)
    noisy = low + float(factors[0, 1]) * d.MAX_NOISE * noise * (0.5 + low)
    pixels = to_pixels(noisy[0])
    if factors[0, 2] > 0:
        buffer = BytesIO()
        Image.fromarray(pixels).save(buffer, "WEBP", quality=round(100 - 60 * float(factors[0, 2])))
        pixels = np.asarray(Image.open(BytesIO(buffer.getvalue())).convert("RGB"))
    return pixels, factors


def clean(sharp: Tensor, scale: int, generator: torch.Generator) -> tuple[np.ndarray, Tensor]:
    """Bicubic reduction and nothing else."""
    del generator
    none = torch.zeros(1, len(d.FACTORS))
    noise = torch.zeros(1, 3, sharp.shape[2] // scale, sharp.shape[3] // scale)
    shape = d.random_shape(1, torch.Generator().manual_seed(0))  # of a blur of no extent
    return to_pixels(d.observe(sharp, none, shape, noise, scale).observed[0]), none


def measure(
    folder: Path, scales: list[int], repeats: int, weights: Path | None, checkpoints: list[Path]
) -> dict[str, object]:
    others = dict(map(imdn, checkpoints))
    model = load_model(weights) if weights else shipped_model()
    rows: list[dict[str, object]] = []
    truths, guesses = [], []
    kinds = [("matched", matched), ("mismatched", mismatched), *([("clean", clean)] if others else [])]
    for kind, make in kinds:
        for scale in scales:
            generator = torch.Generator().manual_seed(1)
            methods = (*METHODS, *(["imdn"] if scale in others else []))
            scores: dict[str, list[tuple[float, float]]] = {m: [] for m in methods}
            for path in pictures_in(folder) * (1 if kind == "clean" else repeats):
                picture = read_picture(path)
                height, width = (n // (8 * scale) * 8 * scale for n in picture.shape[:2])
                sharp = torch.from_numpy(picture[:height, :width].astype(np.float32) / 255)
                planes = sharp.permute(2, 0, 1)[None]
                pixels, factors = make(planes, scale, generator)
                estimated, explanation = explain(model, pixels)
                plain, _ = explain(model, pixels, strength=0.0)
                if kind == "matched":
                    truths.append(factors[0].numpy())
                    guesses.append(list(explanation.estimated.values()))
                small = torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)[None]
                answers = {"bicubic": to_pixels(d.enlarge(small, scale)[0])}
                for name, told in (("network", estimated), ("no_intervention", plain), ("true_z", factors)):
                    answers[name] = enlarge_pixels(model, pixels, told, scale)
                if scale in others:
                    answers["imdn"] = others[scale](pixels)
                for name, answer in answers.items():
                    got = torch.from_numpy(answer.astype(np.float32) / 255)
                    scores[name].append((float(psnr(got, sharp)), float(ssim(got, sharp))))
            mean = {m: np.mean(v, 0) for m, v in scores.items()}
            row: dict[str, object] = {"degradation": kind, "scale": scale, "pictures": len(scores["bicubic"])}
            row |= {
                m: {"psnr": round(float(v[0]), 3), "ssim": round(float(v[1]), 4)} for m, v in mean.items()
            }
            row["gain_over_bicubic_db"] = round(float(mean["network"][0] - mean["bicubic"][0]), 3)
            rows.append(row)
            print(json.dumps(row), flush=True)
    correlation = {
        name: round(float(np.corrcoef(np.array(truths)[:, i], np.array(guesses)[:, i])[0, 1]), 3)
        for i, name in enumerate(d.FACTORS)
    }
    return {"scores": rows, "factor_correlation": correlation, "cost": cost(model)}


def cost(model: object) -> list[dict[str, float]]:
    """Seconds per megapixel of input, and peak memory, for one picture of 512x512."""
    pixels = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    out = []
    for scale in (2, 4):
        memory, start = PeakMemory(), time.process_time()
        told, _ = explain(model, pixels)  # pyright: ignore[reportArgumentType]
        enlarge_pixels(model, pixels, told, scale)  # pyright: ignore[reportArgumentType]
        seconds = time.process_time() - start
        out.append({
            "scale": scale, "cpu_seconds_per_input_megapixel": round(seconds / 0.262144, 2),
            "peak_memory_mb": round(memory.own_mb(), 1),
        })  # fmt: skip
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--scales", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--repeats", type=int, default=4, help="degradations per picture")
    parser.add_argument("--weights", type=Path)
    parser.add_argument(
        "--imdn", type=Path, nargs="+", default=[], help="published checkpoints, one per scale"
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/upscale.json"))
    arguments = parser.parse_args()
    head = {
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit(),
        "threads": torch.get_num_threads(),
    }
    head["held_out"] = [p.stem for p in pictures_in(arguments.pictures)]  # pyright: ignore[reportArgumentType]
    found = measure(
        arguments.pictures, arguments.scales, arguments.repeats, arguments.weights, arguments.imdn
    )
    arguments.out.write_text(json.dumps(head | found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found["factor_correlation"]), json.dumps(found["cost"]))


if __name__ == "__main__":
    main()
