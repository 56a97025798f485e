"""Detail that the scene model lacks, taken back from the observed frame.

What an observed frame shows beyond its own re-blurred render is detail too fine for the Gaussians, seen through the
frame's blur (and noise). The blur is known: every pixel took a path through the picture. So the difference is carried
back along these paths and added to the sharp render, a few times over (Landweber, "An iteration formula for Fredholm
integral equations of the first kind", Amer. J. Math. 73, 1951):

    detail <- detail + K^T (observed - reblur - K detail),     K = mean over the exposure along each pixel's path.

For an exposure without motion K is the identity and the result is the observed frame itself: no frame comes back
softer than it came in. Of smeared detail only what the blur let through returns; few steps keep noise from being
amplified.

Where a path was estimated too short the photo is softer than its reblur, and the difference would carry that softness
into the sharp frame. Such a difference is a negative multiple of the reblur's own fine structure, which is left out.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from deblurgs.scene.camera import Camera
from deblurgs.train.model import AnyTrajectory

STEPS = 2
FINE_PX = 5
"""Fine structure is what a mean over this many pixels, taken twice, removes."""
WINDOW_PX = 15
"""How much softer the photo is than its reblur is decided within windows of this size."""


@torch.no_grad()
def pixel_paths(
    trajectory: AnyTrajectory, frame: int, camera: Camera, depth: Tensor, num_views: int
) -> Tensor:
    """Offsets [V,H,W,2] (x, y in pixels) of what each pixel of the sharp frame shows, at V times of the exposure.

    depth [H,W]: camera z at mid-exposure, 0 where nothing is; such pixels take the median depth.
    """
    x = (torch.arange(camera.width) + 0.5 - camera.cx) / camera.fx
    y = (torch.arange(camera.height) + 0.5 - camera.cy) / camera.fy
    rays = torch.stack(
        [x.expand(len(y), -1), y[:, None].expand(-1, len(x)), torch.ones(len(y), len(x))], dim=-1
    )
    known = depth[depth > 0]
    z = torch.where(depth > 0, depth, known.median() if len(known) else torch.ones(()))
    u = (torch.arange(num_views) + 0.5) / num_views
    poses = trajectory(torch.tensor([frame]), torch.cat([u, torch.tensor([0.5])]))[0]
    middle = poses[-1]
    world = (rays * z[..., None] - middle[:3, 3]) @ middle[:3, :3]  # R^T (x - t)
    offsets = torch.empty(num_views, camera.height, camera.width, 2)
    for v in range(num_views):
        moved = world @ poses[v, :3, :3].T + poses[v, :3, 3]
        ahead = moved[..., 2].clamp_min(1e-6)
        offsets[v, ..., 0] = camera.fx * (moved[..., 0] / ahead - x)
        offsets[v, ..., 1] = camera.fy * (moved[..., 1] / ahead - y[:, None])
    return offsets


@torch.no_grad()
def add_detail(sharp: Tensor, reblur: Tensor, observed: Tensor, offsets: Tensor) -> Tensor:
    """sharp, reblur, observed [H,W,3] encoded sRGB in [0,1], offsets [V,H,W,2] -> [H,W,3] in [0,1]."""
    lacking = without_softening(observed - reblur, reblur)
    detail = torch.zeros_like(sharp)
    for _ in range(STEPS):
        unexplained = lacking - along_paths(detail, -offsets) if detail.any() else lacking
        detail = detail + along_paths(unexplained, offsets)
    return (sharp + detail).clamp(0.0, 1.0)


def without_softening(difference: Tensor, reblur: Tensor) -> Tensor:
    """The difference [H,W,3] less the part in which the photo merely lacks fine structure that the reblur has."""
    fine = reblur - _mean(_mean(reblur, FINE_PX), FINE_PX)
    along = _mean((difference * fine).sum(-1, keepdim=True), WINDOW_PX)
    power = _mean(fine.square().sum(-1, keepdim=True), WINDOW_PX)
    return difference - (along / (power + 1e-5)).clamp(-1.0, 0.0) * fine


def _mean(image: Tensor, side: int) -> Tensor:
    """Mean over squares of `side` pixels (odd), cut at the border: rows, then columns."""
    planes = image.permute(2, 0, 1)[None]
    planes = F.avg_pool2d(planes, (side, 1), 1, (side // 2, 0), count_include_pad=False)
    planes = F.avg_pool2d(planes, (1, side), 1, (0, side // 2), count_include_pad=False)
    return planes[0].permute(1, 2, 0)


def along_paths(image: Tensor, offsets: Tensor) -> Tensor:
    """Mean of an image [H,W,3] over the places that offsets [V,H,W,2] lead to; beyond the border its last pixels."""
    height, width = image.shape[:2]
    x = torch.arange(width) + 0.5
    y = torch.arange(height)[:, None] + 0.5
    planes = image.permute(2, 0, 1)[None]
    total = torch.zeros_like(planes)
    for offset in offsets:  # one by one: V images would not fit for large frames
        at = torch.stack(
            [(x + offset[..., 0]) * (2 / width) - 1, (y + offset[..., 1]) * (2 / height) - 1], dim=-1
        )
        total += F.grid_sample(planes, at[None], padding_mode="border", align_corners=False)
    return total[0].permute(1, 2, 0) / len(offsets)
