"""Draw a splat file, seen from a place in front of it.

    python examples/01_render_ply.py scene.ply --turn 20

- reads the PLY of any splat program
- places a camera: pixels, axes and the matrix `camera_from_world` are explained in docs/conventions.md
- draws colour, coverage and depth in one call
"""

import sys
from math import radians
from pathlib import Path

import torch
import tyro

from deblurgs.capture.image import write_png
from deblurgs.errors import DeblurgsError
from deblurgs.export.ply import read_ply
from deblurgs.math.lie import so3_exp
from deblurgs.raster.api import rasterize
from deblurgs.scene.camera import Camera
from deblurgs.stages.splats import gaussians_from_arrays


def main(ply: Path, /, turn: float = 0.0, output: Path = Path("view.png")) -> None:
    """Draw a splat file.

    Args:
        ply: The splat file.
        turn: Degrees to walk round the scene, to the right.
        output: The picture.
    """
    arrays = read_ply(ply).finite()
    g = gaussians_from_arrays(arrays)
    camera = Camera(width=640, height=480, fx=560.0, fy=560.0, cx=320.0, cy=240.0)
    pose = facing(g.means.detach(), turn)
    with torch.no_grad():
        drawn = rasterize(
            g.means, g.quats, g.scales, g.opacities, g.sh0, g.shN, pose, camera,
            antialiased=arrays.antialiased,
        )  # fmt: skip
    write_png(output, drawn.image.clamp(0, 1).numpy())  # [H,W,3], sRGB-encoded
    seen = drawn.alpha > 0.5  # [H,W]
    depth = (drawn.depth / drawn.alpha)[seen]  # depth is weighted by alpha
    near = f"; the nearest lies at {float(depth.min()):.2f} units" if len(depth) else ""
    print(f"{output}: {len(arrays)} Gaussians cover {float(seen.float().mean()):.0%} of the picture{near}")


def facing(means: torch.Tensor, turn_deg: float) -> torch.Tensor:
    """camera_from_world [4,4] of a camera that looks at the middle of the Gaussians, far enough away to see most."""
    centre = means.median(dim=0).values
    distance = 2.0 * float((means - centre).norm(dim=1).quantile(0.8))
    pose = torch.eye(4)
    pose[:3, :3] = so3_exp(torch.tensor([0.0, radians(turn_deg), 0.0]))  # +y points down
    pose[:3, 3] = torch.tensor([0.0, 0.0, distance]) - pose[:3, :3] @ centre
    return pose


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except (DeblurgsError, OSError) as error:  # a file that is missing or cannot be read
        sys.exit(f"error: {error}")
