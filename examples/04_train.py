"""Train from Python, with settings and a look at the loss of your own.

    deblurgs process clip.mp4 --output RUN
    python examples/04_train.py RUN --steps 600 --output quick.ply

- takes frames and cameras from a run folder that `deblurgs process` (or `run`) filled, and writes nothing there
- watches the optimisation: a report every 50 steps
- writes the scene as a splat file in the world of sfm/sparse/0
"""

import sys
from pathlib import Path

import tyro

from deblurgs.capture.dataset import load_capture
from deblurgs.config import DensityConfig, TrainConfig
from deblurgs.errors import DeblurgsError
from deblurgs.export.ply import write_ply
from deblurgs.log import Log
from deblurgs.sfm.model import load_model
from deblurgs.stages.data import training_set
from deblurgs.stages.splats import sfm_from_scene, splat_arrays
from deblurgs.train.loop import Trainer


def main(run: Path, /, steps: int = 600, max_side: int = 320, output: Path = Path("quick.ply")) -> None:
    """Train a quick scene.

    Args:
        run: A run folder with frames and cameras.
        steps: Steps at half size, and again as many at full size.
        max_side: Longer side of the training images in pixels.
        output: The splat file.
    """
    few = DensityConfig(max_gaussians=10_000)
    config = TrainConfig(max_side=max_side, scales=(0.5, 1.0), steps=(steps, steps), density=few)
    data = training_set(load_model(run / "sfm"), load_capture(run))  # frames at full size, in the scene frame
    trainer = Trainer(data, config, Log(quiet=True), report=show)
    scene = trainer.train()
    for name, pixels in zip(data.names, scene.path_lengths_px(scene.training_cameras), strict=True):
        print(f"{name}: the camera's path is {pixels:.1f} px long")
    arrays = splat_arrays(scene, sfm_from_scene(scene, data.scene_from_sfm))
    write_ply(output, arrays)
    print(f"{output}: {len(arrays)} Gaussians after {scene.seconds:.0f} s")


def show(line: dict[str, float]) -> None:
    """One line of what metrics.jsonl holds for `deblurgs train`."""
    print(f"step {line['step']:5.0f}  loss {line['loss']:.4f}  {line['num_gaussians']:.0f} Gaussians")


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except (DeblurgsError, OSError) as error:  # a file that is missing or cannot be read
        sys.exit(f"error: {error}")
