"""Pictures of a trained scene: sharp frames, re-blurred frames, novel views."""

import torch
from torch import Tensor

from deblurgs.math.color import srgb_from_linear
from deblurgs.raster.api import rasterize
from deblurgs.scene.camera import Camera
from deblurgs.scene.shutter import sample_exposure
from deblurgs.train.loop import TrainedScene, exposure_image


@torch.no_grad()
def sharp_view(scene: TrainedScene, camera_from_world: Tensor, camera: Camera) -> Tensor:
    """One instant, [H,W,3] encoded sRGB in [0,1]. camera_from_world [4,4] in the scene frame."""
    g = scene.gaussians
    rendered = rasterize(
        g.means, g.quats, g.scales, g.opacities, g.sh0, g.shN, camera_from_world, camera,
        antialiased=scene.config.antialiased,
    )  # fmt: skip
    return rendered.image.clamp(0.0, 1.0)


@torch.no_grad()
def sharp_view_with_depth(
    scene: TrainedScene, camera_from_world: Tensor, camera: Camera, *, min_alpha: float = 0.9
) -> tuple[Tensor, Tensor]:
    """`sharp_view`, and the mean camera z [H,W] of what is seen; NaN where less than `min_alpha` is covered."""
    g = scene.gaussians
    rendered = rasterize(
        g.means, g.quats, g.scales, g.opacities, g.sh0, g.shN, camera_from_world, camera,
        antialiased=scene.config.antialiased,
    )  # fmt: skip
    covered = rendered.alpha >= min_alpha
    depth = torch.where(covered, rendered.depth / rendered.alpha.clamp_min(1e-6), torch.nan)
    return rendered.image.clamp(0.0, 1.0), depth


@torch.no_grad()
def sharp_frame(scene: TrainedScene, frame: int, camera: Camera) -> Tensor:
    """The scene at the middle of one frame's exposure, u = 0.5."""
    pose = scene.trajectory(torch.tensor([frame]), torch.tensor([0.5]))[0, 0]
    return sharp_view(scene, pose, camera)


@torch.no_grad()
def reblurred_frame(scene: TrainedScene, frame: int, camera: Camera, num_views: int) -> Tensor:
    """What the model thinks the camera recorded: the mean over the exposure, encoded sRGB in [0,1]."""
    u, weights = sample_exposure(num_views)
    poses = scene.trajectory(torch.tensor([frame]), u)[0]
    linear = exposure_image(
        scene.gaussians, poses, weights, camera, antialiased=scene.config.antialiased
    ).image
    return srgb_from_linear(linear).clamp(0.0, 1.0)
