"""Measure triage: order of blurred and sharp twins, choice of frames, direction and extent against known paths, seconds
beside VGG16.

    python tools/bench_triage.py --twins FOLDER... [--film VIDEO] [--json benchmarks/triage.json]

FOLDER: images/ (blurred) and sharp/ (twins of the same names); with a cameras.json of exact sub-frame poses, direction
and extent are measured too. Of VIDEO, filmed sharply, a film of changing exposure is made: every frame is the mean of 1
to 9 frames around it, in linear light, how many is drawn at random; what counts is how long the chosen ones are
exposed. VGG16 is its 13 convolutions and 5 poolings in torch with random weights, on the same
working picture and on 224x224, one thread each.
"""

import argparse
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deblurgs.capture.detect import detect_source
from deblurgs.capture.greys import grey_picture
from deblurgs.capture.image import read_pixels
from deblurgs.capture.triage import MotionPath, choose_frames, motion_picture, sharpness
from deblurgs.capture.video import VideoReader, upright_rgb
from deblurgs.files import write_json_atomic
from deblurgs.log import Log
from deblurgs.math.color import linear_from_srgb_numpy, srgb_from_linear_numpy
from deblurgs.math.patches import WORKING_SIDE, fine_detail
from deblurgs.restore.classifier import SHIPPED, shipped_classifier

VGG16 = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)
"""Widths of the convolutions of Simonyan and Zisserman 2015, configuration D; 0 is a pooling."""
SCENE_DEPTH = 1.9
"""Median depth of scenes/desk, at which the path in pixels is measured."""


def grey_of(path: Path) -> NDArray[np.float32]:
    return grey_picture(path.name, read_pixels(path), WORKING_SIDE).grey


def order(folder: Path) -> dict[str, Any]:
    """Share of right orders: each frame against its own twin, and against every sharp frame of the sequence."""
    judge = shipped_classifier().judge
    pairs = [(p, folder / "sharp" / p.name) for p in sorted((folder / "images").iterdir())]
    pairs = [(a, b) for a, b in pairs if b.is_file()]
    greys = [(grey_of(a), grey_of(b)) for a, b in pairs]
    blurs = [(judge(a), judge(b)) for a, b in greys]

    def shares(values: list[tuple[float, float]]) -> dict[str, float]:
        blurred, sharp = (np.array(v) for v in zip(*values, strict=True))
        return {
            "own_twin": round(float((sharp > blurred).mean()), 4),
            "all_pairs": round(float((sharp[:, None] > blurred).mean()), 4),
        }

    result: dict[str, Any] = {
        "pairs": len(pairs),
        "detail": shares([(a.detail, b.detail) for a, b in blurs]),
        "probability": shares([(-(a.probability or 0.0), -(b.probability or 0.0)) for a, b in blurs]),
        "sharpness": shares([(sharpness(a), sharpness(b)) for a, b in greys]),
        "sharp_twins_chosen": twins_chosen(greys),
        "called_blurred": {
            "blurred": round(float(np.mean([(a.probability or 0) >= 0.5 for a, _ in blurs])), 3),
            "sharp": round(float(np.mean([(b.probability or 0) >= 0.5 for _, b in blurs])), 3),
        },
    }
    cameras = folder / "cameras.json"
    if cameras.is_file():
        truth = true_paths(json.loads(cameras.read_text(encoding="utf-8")))
        result["path"] = path_errors(
            [(p.stem, grey) for (p, _), (grey, _) in zip(pairs, greys, strict=True)], truth
        )
    return result


MEASURES = {"detail": fine_detail, "sharpness": sharpness}
"""What frame choice follows, and what it followed before."""


def twins_chosen(greys: list[tuple[NDArray[np.float32], NDArray[np.float32]]]) -> dict[str, float]:
    """Share of sharp twins among the frames that are chosen from a sequence in which each follows its blurred one."""
    motion, sequence = MotionPath(), [grey for pair in greys for grey in pair]
    positions = [motion.push(motion_picture(grey)) for grey in sequence]
    found = {}
    for name, measure in MEASURES.items():
        scores = [measure(grey) for grey in sequence]
        chosen = [choose_frames(positions, scores, len(greys) // k, 1e-4) for k in (1, 2, 3)]
        found[name] = round(float(np.mean([i % 2 for picks in chosen for i in picks])), 4)
    return found


def exposures_chosen(video: Path, longest: int = 9, seed: int = 0) -> dict[str, Any]:
    """Mean number of frames in the exposures of those that are chosen; chance is the mean of all, the least 1."""
    found = detect_source(video)
    if found.container is None:
        raise SystemExit(f"{video} is no film")
    reader = VideoReader(video, found.container, Log(quiet=True))
    pictures = [reduced(upright_rgb(p.frame)) for p in reader.pictures()]
    linear = linear_from_srgb_numpy(np.arange(256, dtype=np.float32) / 255)
    rng = np.random.default_rng(seed)
    lengths = 1 + 2 * rng.integers(0, (longest + 1) // 2, len(pictures))
    greys, motion, positions = [], MotionPath(), []
    for i, length in enumerate(lengths):
        window = pictures[max(i - length // 2, 0) : i + length // 2 + 1]
        pixels = srgb_from_linear_numpy(np.mean([linear[p] for p in window], axis=0))
        greys.append(grey_picture("", (pixels * 255 + 0.5).astype(np.uint8), WORKING_SIDE).grey)
        positions.append(motion.push(motion_picture(greys[-1])))
    result: dict[str, Any] = {"frames": len(greys), "all": round(float(lengths.mean()), 3)}
    for name, measure in {**MEASURES, "oracle": None}.items():
        scores = [float(-n) for n in lengths] if measure is None else [measure(grey) for grey in greys]
        chosen = [lengths[choose_frames(positions, scores, budget)].mean() for budget in (24, 40, 60)]
        result[name] = {f"best_{b}": round(float(v), 3) for b, v in zip((24, 40, 60), chosen, strict=True)}
    return result


def reduced(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    image = Image.fromarray(pixels)
    scale = min(1.0, WORKING_SIDE / max(image.size))
    size = (round(image.width * scale), round(image.height * scale))
    return np.asarray(image.resize(size, Image.Resampling.BOX))


def true_paths(cameras: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Frame -> direction in degrees and extent in pixels of the mean image path at `SCENE_DEPTH`."""
    u, v = np.meshgrid(np.linspace(0.1, 0.9, 7) * cameras["w"], np.linspace(0.1, 0.9, 5) * cameras["h"])
    rays = [(u - cameras["cx"]) / cameras["fl_x"], (v - cameras["cy"]) / cameras["fl_y"], np.ones_like(u)]
    points = SCENE_DEPTH * np.stack(rays, axis=-1).reshape(-1, 3)
    found = {}
    for frame in cameras["frames"]:
        if not frame.get("subframes"):
            continue
        poses = np.asarray(frame["subframes"])
        middle = poses[len(poses) // 2]
        world = points @ middle[:3, :3].T + middle[:3, 3]
        seen = np.stack([(world - pose[:3, 3]) @ pose[:3, :3] for pose in poses])
        pixels = seen[..., :2] / seen[..., 2:] * (cameras["fl_x"], cameras["fl_y"])
        path = pixels.mean(1) - pixels.mean((0, 1))
        main = np.linalg.svd(path, full_matrices=False)[2][0]
        found[Path(frame["name"]).stem] = (
            float(np.degrees(np.arctan2(main[1], main[0])) % 180), float(np.ptp(path @ main)),
        )  # fmt: skip
    return found


def path_errors(
    greys: list[tuple[str, NDArray[np.float32]]], truth: dict[str, tuple[float, float]]
) -> dict[str, float]:
    from deblurgs.math.blur_spectrum import motion_direction

    rows = [
        (motion_direction(g), shipped_classifier().judge(g).extent_px or 0.0, *truth[n])
        for n, g in greys
        if n in truth
    ]
    angle, extent, true_angle, true_extent = np.asarray(rows).T
    error = np.abs((angle - true_angle + 90) % 180 - 90)
    return {
        "frames": len(rows), "direction_median_deg": round(float(np.median(error)), 2),
        "direction_within_20_deg": round(float((error < 20).mean()), 3),
        "extent_median_ratio": round(float(np.median(extent / true_extent)), 3),
        "extent_correlation_of_logs": round(float(np.corrcoef(np.log(extent), np.log(true_extent))[0, 1]), 3),
    }  # fmt: skip


def fastest(work: Any, repeats: int) -> float:
    """Seconds of the quickest of several runs: what the machine can do when nobody else disturbs."""
    work()
    times = []
    for _ in range(repeats):
        begun = time.process_time()
        work()
        times.append(time.process_time() - begun)
    return min(times)


def timing(repeats: int) -> dict[str, Any]:
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    weights, last = [], 3
    for width in VGG16:
        if width:
            weights.append(0.05 * torch.randn(width, last, 3, 3, generator=generator))
            last = width

    @torch.no_grad()
    def vgg16(height: int, width: int) -> None:
        x, kernels = torch.rand(1, 3, height, width), iter(weights)
        for layer in VGG16:
            x = F.relu(F.conv2d(x, next(kernels), padding=1)) if layer else F.max_pool2d(x, 2)

    judge = shipped_classifier().judge
    rng = np.random.default_rng(0)

    def picture(height: int, width: int) -> NDArray[np.float32]:
        rough = rng.random((height // 8 + 1, width // 8 + 1), dtype=np.float32)
        return np.kron(rough, np.ones((8, 8), np.float32))[:height, :width]

    sizes = ((160, 284), (226, 402), (320, 568), (360, 640), (452, 804), (640, 1136))
    rows = []
    for height, width in sizes:
        seconds = fastest(partial(judge, picture(height, width)), repeats)
        rows.append({"size": [width, height], "cpu_ms": round(1e3 * seconds, 2)})
    pixels = np.array([r["size"][0] * r["size"][1] for r in rows], float)
    cost = np.array([r["cpu_ms"] for r in rows])
    slope = np.polyfit(np.log(pixels), np.log(cost), 1)[0]
    frame = picture(360, 640)
    choice = {name: fastest(partial(measure, frame), repeats) for name, measure in MEASURES.items()}
    same, standard = fastest(lambda: vgg16(360, 640), 2), fastest(lambda: vgg16(224, 224), 3)
    ours = next(r["cpu_ms"] for r in rows if r["size"] == [640, 360]) / 1e3
    return {
        "frame_choice_640x360_ms": {name: round(1e3 * s, 2) for name, s in choice.items()},
        "triage": rows, "exponent_of_cost_in_pixels": round(float(slope), 3),
        "vgg16_640x360_ms": round(1e3 * same, 1), "vgg16_224x224_ms": round(1e3 * standard, 1),
        "times_faster_same_picture": round(same / ours, 1), "times_faster_than_224": round(standard / ours, 1),
    }  # fmt: skip


def main() -> None:
    from bench_raster import machine

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--twins", type=Path, nargs="*", default=[])
    parser.add_argument("--film", type=Path)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result = {
        "machine": machine(), "timing": timing(options.repeats),
        "order": {folder.resolve().name: order(folder) for folder in options.twins},
        **({"film_of_changing_exposure": exposures_chosen(options.film)} if options.film else {}),
        "training": json.loads(SHIPPED.read_text(encoding="ascii"))["measured"],
    }  # fmt: skip
    print(json.dumps(result, indent=1))
    if options.json:
        write_json_atomic(options.json, result)


if __name__ == "__main__":
    main()
