"""Find the camera of a picture by gradient descent through the rasterizer.

    python examples/06_fit_pose.py scene.ply

- draws a picture from a known pose, forgets the pose, and starts beside it
- the gradient reaches all of the pose: place and orientation, also through covariances and view-dependent colour
- a pose is changed by a tangent (v, omega) from the right: `pose @ se3_exp(xi)`
"""

import sys
from pathlib import Path

import torch
import tyro

from deblurgs.errors import DeblurgsError
from deblurgs.export.ply import read_ply
from deblurgs.math.lie import se3_exp
from deblurgs.raster.api import rasterize
from deblurgs.scene.camera import Camera
from deblurgs.stages.splats import gaussians_from_arrays

CAMERA = Camera(width=160, height=120, fx=140.0, fy=140.0, cx=80.0, cy=60.0)


def main(ply: Path, /, steps: int = 60) -> None:
    """Fit the pose of a picture.

    Args:
        ply: The splat file.
        steps: Steps of Adam.
    """
    g = gaussians_from_arrays(read_ply(ply).finite()).requires_grad_(False)
    centre = g.means.median(dim=0).values
    unit = float((g.means - centre).norm(dim=1).quantile(0.8))
    true = torch.eye(4)
    true[:3, 3] = torch.tensor([0.0, 0.0, 2.0 * unit]) - centre

    def picture(pose: torch.Tensor) -> torch.Tensor:
        return rasterize(g.means, g.quats, g.scales, g.opacities, g.sh0, g.shN, pose, CAMERA).image

    target = picture(true)
    # Lengths in units of the scene's size, so that one learning rate serves place and orientation.
    scale = torch.tensor([unit, unit, unit, 1.0, 1.0, 1.0])
    xi = torch.tensor([0.03, -0.02, 0.03, 0.01, 0.02, -0.01], requires_grad=True)
    optimizer = torch.optim.Adam([xi], lr=2e-3)
    for step in range(steps + 1):
        loss = (picture(true @ se3_exp(scale * xi)) - target).abs().mean()
        if step % 20 == 0 or step == steps:
            print(f"step {step:3d}  loss {loss.item():.5f}  off by {xi.norm().item():.4f}")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except (DeblurgsError, OSError) as error:  # a file that is missing or cannot be read
        sys.exit(f"error: {error}")
