"""Pictures of a trained scene: sharp frames, re-blurred frames, novel views."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from deblurgs.math.color import downscale_linear
from deblurgs.raster.api import Rendered, rasterize
from deblurgs.render.detail import add_detail, pixel_paths
from deblurgs.scene.camera import Camera
from deblurgs.train.model import exposed_light, gathered, supersampled
from deblurgs.train.trained import TrainedScene


@torch.no_grad()
def sharp_view(scene: TrainedScene, camera_from_world: Tensor, camera: Camera) -> Tensor:
    """One instant, [H,W,3] encoded sRGB in [0,1]. camera_from_world [4,4] in the scene frame."""
    return rendered_view(scene, camera_from_world, camera).image.clamp(0.0, 1.0)


@torch.no_grad()
def sharp_frame(
    scene: TrainedScene, frame: int, camera: Camera, u: float = 0.5, *, pixel_share: int = 1
) -> Tensor:
    """The scene at one instant of a frame's exposure, by default its middle, in the frame's own brightness and colour.

    pixel_share: how many pixels of `camera` lie side by side in one of the photo's.
    """
    pose = scene.trajectory.of_frame(frame, torch.tensor([u]))[0]
    # Not cut at white before the gain: where photos are clipped the scene is brighter than they could tell.
    return scene.photometry.photo(rendered_view(scene, pose, camera, pixel_share).image, frame)


@dataclass(frozen=True)
class Restored:
    """The frame that is handed out, [H,W,3] encoded sRGB in [0,1]; explained: whether its path explains its blur."""

    image: Tensor
    explained: bool


@torch.no_grad()
def restored_frame(
    scene: TrainedScene,
    frame: int,
    camera: Camera,
    observed: Tensor,
    reblur: Tensor,
    num_views: int,
    mask: Tensor | None = None,
) -> Restored:
    """The sharp frame with the detail that only its own photo has. observed, reblur [H,W,3] encoded sRGB; mask [H,W]: 0
    where the photo shows nothing.

    A path that leaves the photo less like its reblur than like the sharp render is no use; plain splats would do as
    well, the photo itself is better than either, and it is handed back. With a rolling shutter no detail is added: the
    photo's rows lie elsewhere than those of the sharp frame.
    """
    sharp = sharp_frame(scene, frame, camera)
    if mask is not None:
        observed = torch.where(mask[..., None] > 0, observed, reblur)
    if scene.trajectory.kind != "static" and not path_explains(observed, reblur, sharp):
        back = observed if mask is None else torch.where(mask[..., None] > 0, observed, sharp)
        return Restored(back, explained=False)
    if scene.trajectory.rolling:
        return Restored(sharp, explained=True)
    depth = frame_depth(scene, frame, camera)
    paths = pixel_paths(scene.trajectory, frame, camera, depth, num_views)
    return Restored(add_detail(sharp, reblur, observed, paths), explained=True)


@torch.no_grad()
def enlarged_frame(scene: TrainedScene, frame: int, camera: Camera, restored: Tensor, scale: int) -> Tensor:
    """The frame with `scale` times as many pixels per side, drawn from a scene trained with `train_scale` > 1.

    restored [H,W,3], encoded sRGB: the frame at its own size, with the detail of its own photo. The result averages to
    it: the difference, which holds no finer detail, is enlarged smoothly and added (back-projection: Irani and Peleg,
    "Improving resolution by image registration", 1991).
    """
    fine = sharp_frame(scene, frame, supersampled(camera, scale), pixel_share=scale)
    lacking = restored - downscale_linear(fine, camera.width, camera.height)
    return (fine + enlarged_smoothly(lacking, scale)).clamp(0.0, 1.0)


def enlarged_smoothly(image: Tensor, scale: int) -> Tensor:
    """Bicubic, [H,W,C] -> [scale H, scale W, C]."""
    size = (scale * image.shape[0], scale * image.shape[1])
    planes = F.interpolate(image.permute(2, 0, 1)[None], size, mode="bicubic", antialias=True)
    return planes[0].permute(1, 2, 0)


def path_explains(observed: Tensor, reblur: Tensor, sharp: Tensor) -> bool:
    """Whether a photo looks more like its reblur than like the sharp render, all [H,W,3] encoded sRGB.

    With a margin, since of a frame without motion both are the same.
    """
    return bool((observed - reblur).square().sum() <= 1.02 * (observed - sharp).square().sum())


@torch.no_grad()
def frame_depth(scene: TrainedScene, frame: int, camera: Camera) -> Tensor:
    """Depth (camera z, scene units) at mid-exposure, [H,W]; 0 where the model shows nothing."""
    rendered = rendered_view(scene, scene.trajectory.of_frame(frame, torch.tensor([0.5]))[0], camera)
    seen = rendered.alpha > 0.05
    return torch.where(seen, rendered.depth / rendered.alpha.clamp_min(0.05), torch.zeros(()))


@torch.no_grad()
def reblurred_frame(scene: TrainedScene, frame: int, camera: Camera, num_views: int) -> Tensor:
    """What the model thinks the camera recorded: the mean over the exposure, encoded sRGB in [0,1]."""
    light = exposed_light(
        scene.splats(), scene.trajectory, frame, camera, scene.depths[frame], num_views,
        antialiased=scene.config.antialiased, supersample=scene.config.train_scale,
    ).cpu()  # fmt: skip
    photometry = scene.photometry
    return photometry.developed(photometry.exposed(light, frame)).clamp(0.0, 1.0)


def rendered_view(
    scene: TrainedScene, camera_from_world: Tensor, camera: Camera, pixel_share: int = 1
) -> Rendered:
    """What the rasterizer makes of the scene at one instant, brought to host memory. camera_from_world [4,4].

    Drawn with the pixels that the scene was trained with, then averaged to those of `camera`.
    """
    factor = max(1, scene.config.train_scale // pixel_share)
    g = scene.splats()
    drawn = rasterize(
        g.means, g.quats, g.scales, g.opacities, g.sh0, g.shN, camera_from_world.to(g.means.device),
        supersampled(camera, factor), antialiased=scene.config.antialiased,
    )  # fmt: skip
    image, alpha, depth = drawn.image.cpu(), drawn.alpha.cpu(), drawn.depth.cpu()
    if factor == 1:
        return Rendered(image, alpha, depth)
    depth, alpha = (gathered(x[..., None], factor)[..., 0] for x in (depth, alpha))
    return Rendered(gathered(image, factor), alpha, depth)
