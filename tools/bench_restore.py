"""How much `deblurgs deblur` gains, beside simple baselines, on held-out synthetic shake and on real pairs.

    python tools/collect_photos.py --budgie budgie-backgrounds --output photos
    python tools/bench_restore.py --photos photos/test --output benchmarks/restore.json
    python tools/bench_restore.py --photos photos/test --draws 8 --skip-large --output benchmarks/restore_draws.json
    python tools/bench_restore.py --photos photos/test --pairs FOLDER --weights other.safetensors --output out.json

FOLDER holds NAME.png (blurred) and NAME_gt.png (sharp). Bicubic is the photo reduced and enlarged by two. `--maxim`
names a folder that `tools/maxim_baseline.py fetch` has filled; mind that MAXIM was trained on GoPro. Needs
scikit-image. The photos of the test split are never trained on (split by source photo).

Times and peak memory are those of a whole `deblurgs deblur` of a JPEG file, each in a process of its own: 1280x720 with
the thin and with the base network (its time does not depend on its weights), and 24 megapixels with the thin one.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from maxim_baseline import maxim
from PIL import Image, ImageFilter
from restore_pairs import mean_kernel
from results import commit, today
from skimage.restoration import richardson_lucy
from torch import Tensor

from deblurgs.files import write_json_atomic
from deblurgs.log import Log
from deblurgs.machine import PeakMemory, num_threads, package_versions
from deblurgs.math.metrics import psnr, ssim
from deblurgs.restore.deconvolution import TRIALS, trial_deconvolutions
from deblurgs.restore.mimo_unet import MIMO_UNET, SIZE_MULTIPLE, MimoUNet
from deblurgs.restore.shake import ShakenPhoto, kernel_size, shake_image
from deblurgs.restore.tiling import restore_pixels
from deblurgs.restore.weights import SHIPPED, load_network, read_notes, save_weights
from deblurgs.sfm.restored import wiener
from deblurgs.stages.deblur import DeblurConfig, deblur

Pixels = np.ndarray
Method = Callable[[Pixels], Pixels]
MEDIAN_PX = 10.0
NOISE = 0.005
LARGE = (("thin", 1280, 720), ("base", 1280, 720), ("thin", 6000, 4000))


def drawn_pairs(folder: Path, crop: int, draws: int) -> list[tuple[str, Pixels, Pixels]]:
    """`synthetic_pairs` of the seeds 0, 1 and so on."""
    return [pair for seed in range(draws) for pair in synthetic_pairs(folder, crop, seed)]


def synthetic_pairs(folder: Path, crop: int, seed: int) -> list[tuple[str, Pixels, Pixels]]:
    """(name, blurred, sharp) uint8 [H,W,3]: one shake per photo, extents log-normal with the median 10 px."""
    return [
        (name, blurred, _bytes(shaken.sharp)) for name, blurred, shaken in shaken_photos(folder, crop, seed)
    ]


def shaken_photos(folder: Path, crop: int, seed: int) -> list[tuple[str, Pixels, ShakenPhoto]]:
    """(name, blurred with noise uint8 [H,W,3], what it was made of)."""
    photos = []
    paths = sorted(folder.glob("*.png"))
    for index, path in enumerate(paths):
        rng = np.random.default_rng([seed, index])
        # Evenly spread quantiles, so that a small set has the median it should have.
        extent = MEDIAN_PX * float(np.exp(0.45 * np.sqrt(2) * _erfinv(2 * (index + 0.5) / len(paths) - 1)))
        size = kernel_size(1.25 * extent) - 1 + crop
        pixels = np.array(Image.open(path).convert("RGB"))[:size, :size]
        photo = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
        shaken = shake_image(rng, photo, extent, segments=2)
        noise = torch.from_numpy(rng.normal(size=tuple(shaken.blurred.shape)).astype(np.float32)) * NOISE
        photos.append((path.stem, _bytes(shaken.blurred + noise), shaken))
    return photos


@torch.inference_mode()
def guidance(network: MimoUNet, folder: Path, crop: int, draws: int) -> dict[str, float]:
    """What a guided network loses to its estimator, in dB.

    The mean gain over the input when it is told the kernel, the mean over the photo, instead of reading it; the share
    of photos whose kernel it takes the wrong way round, so that exchanging the two gains more than 0.1, and the mean
    over all photos of what that would gain.
    """
    told, lost = [], []
    for seed in range(draws):
        for _, blurred, shaken in shaken_photos(folder, crop, seed):
            height, width = (size - size % SIZE_MULTIPLE for size in blurred.shape[:2])
            photo = _tensor(blurred).permute(2, 0, 1)[None, :, :height, :width]
            sharp = shaken.sharp.permute(1, 2, 0)[:height, :width]
            trials = trial_deconvolutions(photo, network.estimator(photo))
            true = trial_deconvolutions(photo, mean_kernel(shaken)[None])
            before, given, exchanged, knowing = (
                float(psnr(x[0].permute(1, 2, 0).clamp(0, 1), sharp))
                for x in (
                    photo,
                    network(photo, trials)[-1],
                    network(photo, trials.roll(TRIALS // 2, 1))[-1],
                    network(photo, true)[-1],
                )
            )
            told.append(knowing - before)
            lost.append(max(0.0, exchanged - given))
    return {
        "told_the_kernel_gain_db": round(float(np.mean(told)), 3),
        "wrong_way_round_share": round(float(np.mean([x > 0.1 for x in lost])), 3),
        "wrong_way_round_loss_db": round(float(np.mean(lost)), 3),
    }


def real_pairs(folder: Path) -> list[tuple[str, Pixels, Pixels]]:
    """NAME.png beside NAME_gt.png."""
    return [
        (path.stem, *(np.array(Image.open(p).convert("RGB")) for p in (path, path.with_name(f"{path.stem}_gt.png"))))
        for path in sorted(folder.glob("*.png"))
        if path.with_name(f"{path.stem}_gt.png").exists()
    ]  # fmt: skip


def methods(weights: Path | None, ensemble: bool, maxim_folder: Path | None) -> dict[str, Method]:
    network = load_network(weights).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    known: dict[str, Method] = {
        "identity": lambda x: x,
        "bicubic": _bicubic,
        "unsharp mask": lambda x: np.asarray(Image.fromarray(x).filter(ImageFilter.UnsharpMask(2, 80, 0))),
        "wiener (gaussian, sigma 2)": wiener,
        "richardson-lucy (gaussian, 10)": _richardson_lucy,
        "mimo": lambda x: restore_pixels(network, x),
    }
    if ensemble:
        known["mimo, self-ensemble"] = lambda x: restore_pixels(network, x, ensemble=True)
    if maxim_folder is not None:
        known["maxim-3s (trained on gopro)"] = maxim(maxim_folder)
    return known


def score(pairs: list[tuple[str, Pixels, Pixels]], known: dict[str, Method]) -> dict[str, dict[str, float]]:
    """Means over the photos, gains over the blurred input, seconds per megapixel."""
    table: dict[str, dict[str, float]] = {}
    each: dict[str, list[float]] = {}
    for name, method in known.items():
        values, seconds, pixels = [], 0.0, 0
        for _, blurred, sharp in pairs:
            started = time.perf_counter()
            result = method(blurred)
            seconds += time.perf_counter() - started
            pixels += blurred.shape[0] * blurred.shape[1]
            a, b = _tensor(result), _tensor(sharp)
            values.append((float(psnr(a, b)), float(ssim(a, b))))
        mean = np.mean(values, axis=0)
        each[name] = [v[0] for v in values]
        table[name] = {
            "psnr": round(float(mean[0]), 3),
            "worst_psnr": round(min(each[name]), 3),
            "ssim": round(float(mean[1]), 4),
            "seconds_per_megapixel": round(seconds / pixels * 1e6, 3),
        }
    for name, row in table.items():
        gains = [a - b for a, b in zip(each[name], each["identity"], strict=True)]
        row["median_gain_db"] = round(float(np.median(gains)), 3)
        row["gain_db"] = round(row["psnr"] - table["identity"]["psnr"], 3)
        row["gain_over_bicubic_db"] = round(row["psnr"] - table["bicubic"]["psnr"], 3)
    return table


def large_photo(network: str, width: int, height: int, repeats: int = 3) -> dict[str, float | str]:
    """Seconds and peak memory (MB, interpreter and libraries included) of one photo from file to file.

    The fastest of several runs of a fresh process: the others waited for somebody else.
    """
    runs = []
    for _ in range(repeats if width * height < 4e6 else 1):
        command = [sys.executable, __file__, "--one", network, str(width), str(height)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    best = min(runs, key=lambda r: r["seconds"])
    megapixels = width * height / 1e6
    return {
        "network": network, "width": width, "height": height, "seconds": round(best["seconds"], 2),
        "seconds_per_megapixel": round(best["seconds"] / megapixels, 2), "peak_mb": best["peak_mb"],
    }  # fmt: skip


def one_photo(network: str, width: int, height: int) -> dict[str, float]:
    """What `large_photo` runs in its own process."""
    with tempfile.TemporaryDirectory() as folder:
        photo, weights = Path(folder) / "photo.jpg", None
        small = np.random.default_rng(0).integers(0, 255, (height // 20, width // 20, 3), dtype=np.uint8)
        Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(photo, quality=95)
        if network == "base":
            weights = Path(folder) / "base.safetensors"
            save_weights(weights, MimoUNet(MIMO_UNET), notes={})
        memory, started = PeakMemory(), time.perf_counter()
        deblur([photo], Path(folder) / "out", DeblurConfig(weights=weights, device="cpu"), Log(quiet=True))
        return {"seconds": time.perf_counter() - started, "peak_mb": round(memory.own_mb(), 0)}


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(one_photo(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="held-out tiles (collect_photos.py: test)")
    parser.add_argument("--pairs", type=Path, help="folder of NAME.png and NAME_gt.png")
    parser.add_argument("--weights", type=Path, help="default: the weights that ship")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument(
        "--draws", type=int, default=1, help="shakes of every photo; one draw is a small sample"
    )
    parser.add_argument("--ensemble", action="store_true")
    parser.add_argument("--maxim", type=Path, help="folder of `maxim_baseline.py fetch`")
    parser.add_argument(
        "--skip-large", action="store_true", help="leave out times and memory of large photos"
    )
    arguments = parser.parse_args()
    pairs = drawn_pairs(arguments.photos, arguments.crop, arguments.draws)
    known = methods(arguments.weights, arguments.ensemble, arguments.maxim)
    sharp = [(name, twin, twin) for name, _, twin in synthetic_pairs(arguments.photos, arguments.crop, 0)]
    file = arguments.weights or SHIPPED
    notes = read_notes(file) if file.suffix == ".safetensors" else {}
    controls = {name: known[name] for name in ("identity", "bicubic", "mimo")}
    machine = {"processor": platform.machine(), "threads": num_threads()}
    result: dict[str, object] = {
        "machine": {**machine, "torch_threads": torch.get_num_threads()},
        "date": today(),
        "commit": commit(),
        "versions": package_versions(("deblurgs", "torch", "numpy")),
        "weights": notes,
        "synthetic": {
            "pairs": len(pairs),
            "draws": arguments.draws,
            "median_px": MEDIAN_PX,
            "methods": score(pairs, known),
        },
        "sharp_input": {key: score(sharp, controls)["mimo"][key] for key in ("psnr", "worst_psnr")},
    }  # fmt: skip
    network = load_network(arguments.weights)
    if network.config.guided:
        result["guidance"] = guidance(network, arguments.photos, arguments.crop, arguments.draws)
    if arguments.pairs:
        found = real_pairs(arguments.pairs)
        if not found:
            parser.error(f"no NAME.png with NAME_gt.png in {arguments.pairs}")
        result["real"] = {"photos": len(found), "methods": score(found, known)}
    if not arguments.skip_large:
        result["large"] = [large_photo(*case) for case in LARGE]
    write_json_atomic(arguments.output, result)
    print(arguments.output.read_text())


def _bicubic(pixels: Pixels) -> Pixels:
    image = Image.fromarray(pixels)
    half = image.resize((max(image.width // 2, 1), max(image.height // 2, 1)), Image.Resampling.BICUBIC)
    return np.asarray(half.resize(image.size, Image.Resampling.BICUBIC))


def _richardson_lucy(pixels: Pixels) -> Pixels:
    x = np.arange(-6, 7)
    kernel = np.exp(-(x[:, None] ** 2 + x[None, :] ** 2) / (2 * 2.0**2))
    kernel /= kernel.sum()
    channels = [richardson_lucy(pixels[..., c] / 255.0, kernel, num_iter=10) for c in range(3)]
    return (np.clip(np.stack(channels, axis=-1), 0, 1) * 255 + 0.5).astype(np.uint8)


def _erfinv(value: float) -> float:
    return float(torch.erfinv(torch.tensor(value, dtype=torch.float64)))


def _bytes(image: Tensor) -> Pixels:
    return (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def _tensor(pixels: Pixels) -> Tensor:
    return torch.from_numpy(np.array(pixels)).float() / 255


if __name__ == "__main__":
    main()
