"""Per-view pose refinement with frozen Gaussians: the third column of the protocol, equal for every method."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from deblurgs.math.lie import se3_exp
from deblurgs.raster.api import rasterize
from deblurgs.scene.camera import Camera
from deblurgs.scene.gaussians import Gaussians
from deblurgs.train.data import pyramid_level, scaled
from deblurgs.train.losses import photometric_loss
from deblurgs.train.model import gathered, supersampled
from deblurgs.train.optimizer import exponential


@dataclass(frozen=True)
class RefineSettings:
    """Fixed for all methods and scenes: changing any of them changes every number of the refined column."""

    scales: tuple[float, ...] = (0.25, 0.5, 1.0)
    steps: tuple[int, ...] = (40, 40, 80)
    lr: float = 5e-3
    lr_end: float = 1e-4
    ssim_weight: float = 0.2


@torch.no_grad()
def sharp_image(
    gaussians: Gaussians,
    camera_from_world: Tensor,
    camera: Camera,
    *,
    antialiased: bool,
    develop: Callable[[Tensor], Tensor] | None = None,
    supersample: int = 1,
) -> Tensor:
    """One sharp view [H,W,3], encoded and clamped to [0,1], in host memory; develop: to the colours of a certain photo.

    Rendered, and developed, where the Gaussians are. supersample: the `train_scale` of the scene; it is drawn with that
    many times as many pixels per side, which are averaged, as the frames that are handed out.
    """
    pose = camera_from_world.to(gaussians.means.device)
    image = _render(gaussians, pose, camera, antialiased, supersample)
    return (image if develop is None else develop(image)).clamp(0.0, 1.0).cpu()


def refine_pose(
    gaussians: Gaussians,
    camera_from_world: Tensor,
    camera: Camera,
    target: Tensor,
    *,
    antialiased: bool,
    settings: RefineSettings | None = None,
    develop: Callable[[Tensor], Tensor] | None = None,
    mask: Tensor | None = None,
    supersample: int = 1,
) -> Tensor:
    """The pose [4,4] near the given one whose sharp render matches `target` [H,W,3] best; Gaussians stay fixed.

    develop: what turns a render into a photo like the target, without parameters to learn. mask [H,W]: 0 where the
    target shows nothing that counts. supersample: as for `sharp_image`.
    """
    s = settings or RefineSettings()
    frozen = Gaussians(**gaussians.tensors())
    frozen.requires_grad_(False)
    device = frozen.means.device
    target, camera_from_world = target.to(device), camera_from_world.to(device)
    mask = None if mask is None else mask.to(device)
    xi = torch.zeros(6, requires_grad=True, device=device)
    adam = torch.optim.Adam([xi], betas=(0.9, 0.99))
    total, done = sum(s.steps), 0
    for factor, steps in zip(s.scales, s.steps, strict=True):
        level = pyramid_level([target], [scaled(camera, factor)], [mask])
        for _ in range(steps):
            adam.param_groups[0]["lr"] = exponential(s.lr, s.lr_end, done / total)
            pose = se3_exp(-xi) @ camera_from_world
            image = _render(frozen, pose, level.cameras[0], antialiased, supersample)
            image = image if develop is None else develop(image)
            loss = photometric_loss(
                image, level.images[0], ssim_weight=s.ssim_weight, encode_srgb=False, mask=level.masks[0]
            )
            adam.zero_grad()
            loss.backward()
            adam.step()
            done += 1
    return (se3_exp(-xi) @ camera_from_world).detach().cpu()


def _render(g: Gaussians, pose: Tensor, camera: Camera, antialiased: bool, supersample: int) -> Tensor:
    image = rasterize(
        g.means, g.quats, g.scales, g.opacities, g.sh0, g.shN, pose, supersampled(camera, supersample),
        antialiased=antialiased,
    ).image  # fmt: skip
    return gathered(image, supersample)
