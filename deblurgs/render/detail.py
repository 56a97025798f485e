"""Detail that the scene model lacks, taken back from the observed frame.

What an observed frame shows beyond its own re-blurred render is detail too fine for the Gaussians, seen through the
frame's blur (and noise). The blur is known: every pixel took a path through the picture. So the difference is carried
back along these paths and added to the sharp render, a few times over (Landweber, "An iteration formula for Fredholm
integral equations of the first kind", Amer. J. Math. 73, 1951):

    detail <- detail + K^T (observed - reblur - K detail),     K = mean over instants along each pixel's path.

For an exposure without motion K is the identity and the result is the observed frame itself: no frame comes back
softer than it came in. Of smeared detail only what the blur let through returns; few steps keep noise from being
amplified.

Where a path was estimated too short the photo is softer than its reblur, and the difference would carry that softness
into the sharp frame. Such a difference is a negative multiple of the reblur's own fine structure, which is left out.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from deblurgs.scene.camera import Camera
from deblurgs.train.model import AnyTrajectory

STEPS = 2
GRID_PX = 2
FINE_PX = 5
"""Fine structure is what a mean over this many pixels, taken twice, removes."""
WINDOW_PX = 15
"""How much softer the photo is than its reblur is decided within windows of this size."""


@dataclass(frozen=True)
class PixelPaths:
    """Where the pixels of a sharp frame go while the shutter is open.

    coarse [V,2,h,w]: offsets (x, y) in pixels of the full picture at V times, on a grid of every `GRID_PX`-th pixel:
    they vary slowly, and V full maps would not fit for large frames.
    """

    coarse: Tensor
    height: int
    width: int

    def offset(self, view: int) -> Tensor:
        """Offsets [H,W,2] at one of the times."""
        size = (self.height, self.width)
        full = F.interpolate(self.coarse[view][None], size, mode="bilinear", align_corners=False)
        return full[0].permute(1, 2, 0)

    @property
    def num_views(self) -> int:
        return len(self.coarse)


@torch.no_grad()
def pixel_paths(
    trajectory: AnyTrajectory, frame: int, camera: Camera, depth: Tensor, num_views: int
) -> PixelPaths:
    """The paths of one frame. depth [H,W]: camera z at mid-exposure; the median where it is 0."""
    known = depth[depth > 0]
    z = torch.where(depth > 0, depth, known.median() if len(known) else torch.ones(()))
    z = F.avg_pool2d(z[None, None], GRID_PX, ceil_mode=True, count_include_pad=False)[0, 0]
    rows, columns = z.shape
    x = ((torch.arange(columns) + 0.5) * (camera.width / columns) - camera.cx) / camera.fx
    y = ((torch.arange(rows) + 0.5) * (camera.height / rows) - camera.cy) / camera.fy
    rays = torch.stack(
        [x.expand(rows, -1), y[:, None].expand(-1, columns), torch.ones(rows, columns)], dim=-1
    )
    u = (torch.arange(num_views) + 0.5) / num_views
    poses = trajectory(torch.tensor([frame]), torch.cat([u, torch.tensor([0.5])]))[0]
    middle = poses[-1]
    world = (rays * z[..., None] - middle[:3, 3]) @ middle[:3, :3]  # R^T (x - t)
    offsets = torch.empty(num_views, 2, rows, columns)
    for v in range(num_views):
        moved = world @ poses[v, :3, :3].T + poses[v, :3, 3]
        ahead = moved[..., 2].clamp_min(1e-6)
        offsets[v, 0] = camera.fx * (moved[..., 0] / ahead - x)
        offsets[v, 1] = camera.fy * (moved[..., 1] / ahead - y[:, None])
    return PixelPaths(offsets, camera.height, camera.width)


@torch.no_grad()
def add_detail(sharp: Tensor, reblur: Tensor, observed: Tensor, paths: PixelPaths) -> Tensor:
    """sharp, reblur, observed [H,W,3] encoded sRGB in [0,1] -> [H,W,3] in [0,1]."""
    lacking = without_softening(observed - reblur, reblur)
    detail = along_paths(lacking, paths)
    for _ in range(STEPS - 1):
        detail = detail + along_paths(lacking - along_paths(detail, paths, sign=-1.0), paths)
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


def along_paths(image: Tensor, paths: PixelPaths, *, sign: float = 1.0) -> Tensor:
    """Mean of an image [H,W,3] over the places that its pixels' paths lead to; beyond the border its last pixels.

    sign -1 walks the paths backwards: to first order the transpose, which is what blurs.
    """
    height, width = image.shape[:2]
    x = torch.arange(width) + 0.5
    y = torch.arange(height)[:, None] + 0.5
    planes = image.permute(2, 0, 1)[None]
    total = torch.zeros_like(planes)
    for view in range(paths.num_views):
        offset = sign * paths.offset(view)
        at = torch.stack(
            [(x + offset[..., 0]) * (2 / width) - 1, (y + offset[..., 1]) * (2 / height) - 1], dim=-1
        )
        total += F.grid_sample(planes, at[None], padding_mode="border", align_corners=False)
    return total[0].permute(1, 2, 0) / paths.num_views
