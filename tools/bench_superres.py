"""Detail finer than a photo's pixel on a capture with sharp twins: from the scene, or from the network for one picture.

    python tools/bench_superres.py CAPTURE... --json benchmarks/superres.json [--docs docs/upscale.md]
                                   [--preset default]

The scene is trained on its blurred photos reduced by two, once as usual and once with `--train-scale 2`, and drawn at
the full size. What the usual training draws is enlarged bicubically, by the network, and by drawing the same Gaussians
finer. Each is compared with the sharp photo of full size, which no training sees; poses are refined on that photo
reduced by two, equally for all. Cameras are found in the blurred photos of full size. These are plain renders: what
`deblurgs render --scale 2` hands out holds the detail of each frame's own photo besides. Photos should have even sizes;
masks are not looked at.
"""

import dataclasses
import tempfile
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from results import capture_parser, commit, measure_captures, today
from torch import Tensor

from deblurgs.config import PresetName, TrainConfig, preset
from deblurgs.evaluate.protocol import EvaluationScene, Reference, taken_from
from deblurgs.evaluate.refine import refine_pose, sharp_image
from deblurgs.log import Log
from deblurgs.math.metrics import psnr, ssim
from deblurgs.render.render import enlarged_smoothly
from deblurgs.restore.upscale import enlarge_pixels, explain, shipped_model
from deblurgs.run import RunFolder
from deblurgs.stages.evaluate import prepared_scene
from deblurgs.train.data import pyramid_level, training_camera
from deblurgs.train.loop import train
from deblurgs.train.model import supersampled
from deblurgs.train.trained import TrainedScene

BEGIN, END = "<!-- table from benchmarks/superres.json -->", "<!-- end of the table -->"
FACTOR = 2
Method = Literal["bicubic", "network", "drawn finer", "train-scale 2"]
METHODS: tuple[Method, ...] = get_args(Method)


def measure(source: Path, name: PresetName) -> dict:
    """Mean PSNR and SSIM at full size by task and method."""
    config = dataclasses.replace(preset(name), downscale=float(FACTOR), max_side=100_000)
    log = Log()
    with tempfile.TemporaryDirectory() as folder, RunFolder(Path(folder) / "run", log=log) as run:
        scene = prepared_scene(run, source, config, log, sfm="blurry-only")
        usual = train(scene.training, config, log)
        fine = train(scene.training, dataclasses.replace(config, train_scale=FACTOR), log)
    tasks = {"novel": scene.novel, "deblurring": scene.twins}
    return {
        "date": today(), "commit": commit(), "preset": name, "size": _size(scene, config),
        "train_seconds": {"usual": round(usual.seconds, 1), "train-scale 2": round(fine.seconds, 1)},
        "scores": {
            task: _means([compared(scene, usual, fine, v) for v in views]) for task, views in tasks.items() if views
        },
    }  # fmt: skip


def _size(scene: EvaluationScene, config: TrainConfig) -> list[int]:
    large = supersampled(training_camera(scene.training.cameras[0], config), FACTOR)
    return [large.width, large.height]


def _means(views: list[dict[Method, tuple[float, float]]]) -> dict[Method, dict[str, float]]:
    return {
        method: {
            "psnr": round(float(np.mean([v[method][0] for v in views])), 3),
            "ssim": round(float(np.mean([v[method][1] for v in views])), 4),
        }
        for method in METHODS
    }


def compared(
    scene: EvaluationScene, usual: TrainedScene, fine: TrainedScene, view: Reference
) -> dict[Method, tuple[float, float]]:
    """PSNR and SSIM of one view at full size by method."""
    large = supersampled(training_camera(view.camera, usual.config), FACTOR)
    truth = pyramid_level([view.image], [large]).images[0]
    small, finer = (drawn(scene, usual, view, factor) for factor in (1, FACTOR))
    model, pixels = shipped_model(), (255.0 * small + 0.5).byte().numpy()
    told, _ = explain(model, pixels, {"blur": 0.0})
    answers: dict[Method, Tensor] = {
        "bicubic": enlarged_smoothly(small, FACTOR).clamp(0, 1),
        "network": torch.from_numpy(enlarge_pixels(model, pixels, told, FACTOR)).float() / 255.0,
        "drawn finer": finer,
        "train-scale 2": drawn(scene, fine, view, FACTOR),
    }
    return {method: (float(psnr(a, truth)), float(ssim(a, truth))) for method, a in answers.items()}


def drawn(scene: EvaluationScene, trained: TrainedScene, view: Reference, factor: int) -> Tensor:
    """The scene at `factor` times the size of training, from the pose refined at that size, [H,W,3]."""
    camera = training_camera(view.camera, trained.config)
    target = pyramid_level([view.image], [camera]).images[0]
    _, pose, develop = taken_from(scene, trained, view, trained.frame_drift())
    g, antialiased, share = trained.splats(), trained.config.antialiased, trained.config.train_scale
    refined = refine_pose(
        g, pose, camera, target, antialiased=antialiased, develop=develop, supersample=share
    )
    return sharp_image(
        g, refined, supersampled(camera, factor), antialiased=antialiased, develop=develop,
        supersample=max(1, share // factor),
    )  # fmt: skip


def table(results: dict[str, dict]) -> str:
    lines = [f"| scene | size | task | {' | '.join(METHODS)} |", f"|---|---|---|{'---|' * len(METHODS)}"]
    for name, result in results.items():
        for task, scores in result["scores"].items():
            cells = " | ".join(f"{scores[m]['psnr']:.2f} / {scores[m]['ssim']:.3f}" for m in METHODS)
            lines.append(f"| {name} | {result['size'][0]}x{result['size'][1]} | {task} | {cells} |")
    return "\n".join(lines)


def main() -> None:
    parser = capture_parser(__doc__)
    parser.add_argument("--preset", choices=get_args(PresetName), default="default")
    options = parser.parse_args()
    measure_captures(options, lambda capture: measure(capture, options.preset), table, BEGIN, END)


if __name__ == "__main__":
    main()
