"""Pictures of a trained scene: sharp frames, re-blurred frames, novel views."""

import torch
from torch import Tensor

from deblurgs.raster.api import rasterize
from deblurgs.render.detail import add_detail, pixel_paths
from deblurgs.scene.camera import Camera
from deblurgs.scene.shutter import sample_exposure
from deblurgs.train.loop import TrainedScene
from deblurgs.train.model import frame_light


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
    """The scene at the middle of one frame's exposure, u = 0.5, in the frame's own brightness and colour."""
    pose = scene.trajectory(torch.tensor([frame]), torch.tensor([0.5]))[0, 0]
    return scene.photometry.photo(sharp_view(scene, pose, camera), frame)


@torch.no_grad()
def restored_frame(
    scene: TrainedScene,
    frame: int,
    camera: Camera,
    observed: Tensor,
    reblur: Tensor,
    num_views: int,
    mask: Tensor | None = None,
) -> Tensor:
    """The sharp frame with the detail that only its own photo has. observed, reblur [H,W,3] encoded sRGB; mask [H,W]: 0
    where the photo shows nothing.

    Not with a rolling shutter: the photo's rows then lie elsewhere than those of the sharp frame.
    """
    sharp = sharp_frame(scene, frame, camera)
    if scene.trajectory.rolling:
        return sharp
    if mask is not None:
        observed = torch.where(mask[..., None] > 0, observed, reblur)
    depth = frame_depth(scene, frame, camera)
    return add_detail(sharp, reblur, observed, pixel_paths(scene.trajectory, frame, camera, depth, num_views))


@torch.no_grad()
def path_explains(
    scene: TrainedScene,
    frame: int,
    camera: Camera,
    observed: Tensor,
    reblur: Tensor,
    mask: Tensor | None = None,
) -> bool:
    """Whether the photo looks more like its reblur than like the sharp render: a path that fails this is no use.

    observed, reblur [H,W,3] encoded sRGB; mask [H,W]: 0 where the photo shows nothing. Compared by mean square, which
    prefers the blurrier of two guesses, so that only paths that are plainly wrong fail.
    """
    still = sharp_frame(scene, frame, camera)
    weight = torch.ones(()) if mask is None else mask[..., None]
    return bool(((observed - reblur).square() * weight).sum() <= ((observed - still).square() * weight).sum())


@torch.no_grad()
def frame_depth(scene: TrainedScene, frame: int, camera: Camera) -> Tensor:
    """Depth (camera z, scene units) at mid-exposure, [H,W]; 0 where the model shows nothing."""
    g = scene.gaussians
    pose = scene.trajectory(torch.tensor([frame]), torch.tensor([0.5]))[0, 0]
    rendered = rasterize(g.means, g.quats, g.scales, g.opacities, g.sh0, g.shN, pose, camera)
    seen = rendered.alpha > 0.05
    return torch.where(seen, rendered.depth / rendered.alpha.clamp_min(0.05), torch.zeros(()))


@torch.no_grad()
def reblurred_frame(scene: TrainedScene, frame: int, camera: Camera, num_views: int) -> Tensor:
    """What the model thinks the camera recorded: the mean over the exposure, encoded sRGB in [0,1]."""
    u, weights = sample_exposure(num_views)
    light = frame_light(
        scene.gaussians, scene.trajectory, frame, camera, u, weights, antialiased=scene.config.antialiased
    )
    photometry = scene.photometry
    return photometry.developed(photometry.exposed(light, frame)).clamp(0.0, 1.0)
