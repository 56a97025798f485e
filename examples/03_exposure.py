"""The same moment with another shutter time: what the camera would have recorded.

    python examples/03_exposure.py RUN --frame 3

- loads the Gaussians and the camera's path during one exposure
- draws the instant in its middle, a quarter of the exposure, half of it and all of it, next to the photo
- blur is a mean of light, so the mean is taken before the sRGB curve (docs/conventions.md)
"""

import sys
from pathlib import Path

import numpy as np
import torch
import tyro

from deblurgs.capture.image import read_rgb, write_png
from deblurgs.errors import DeblurgsError
from deblurgs.render.render import sharp_frame
from deblurgs.scene.shutter import sample_exposure
from deblurgs.sfm.model import load_model
from deblurgs.train.checkpoint import load_scene
from deblurgs.train.model import frame_light

NUM_VIEWS = 16


@torch.no_grad()
def main(run: Path, /, frame: int = 0, output: Path = Path("exposure.png")) -> None:
    """Draw one frame with shorter shutter times.

    Args:
        run: The run folder.
        frame: Number of the frame, from 0.
        output: The picture: sharp, a quarter, half, the whole exposure, the photo.
    """
    scene, names, _ = load_scene(run / "checkpoint" / "scene.safetensors")
    model = load_model(run / "sfm")
    camera = model.cameras[frame]
    panels = [sharp_frame(scene, frame, camera)]  # [H,W,3], sRGB-encoded
    for share in (0.25, 0.5, 1.0):
        u, weights = sample_exposure(NUM_VIEWS)  # [V] within [0,1], [V] with sum 1
        u = 0.5 + share * (u - 0.5)  # the shutter opens later and closes earlier
        light = frame_light(scene.gaussians, scene.trajectory, frame, camera, u, weights)  # [H,W,3], linear
        counted = scene.photometry.exposed(light, frame)  # brightness and white balance of this photo
        panels.append(scene.photometry.developed(counted).clamp(0, 1))
    observed = read_rgb(model.image_paths[frame])
    write_png(output, np.concatenate([*(panel.numpy() for panel in panels), observed], axis=1))
    print(f"{output}: {names[frame]}, sharp, 1/4, 1/2, 1/1 of the exposure, and the photo")


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except (DeblurgsError, OSError) as error:  # a file that is missing or cannot be read
        sys.exit(f"error: {error}")
