"""The self-check on the scene itself: every Gaussian in the colour of how far the frames vouch for it."""

import torch
import torch.nn.functional as F
from torch import Tensor

from deblurgs.math.sh import rgb_to_sh0, sh0_to_rgb
from deblurgs.render.trust import judge_frame, trace_scene
from deblurgs.render.trust_report import GUESS_RGB, RECOVERED_RGB
from deblurgs.scene.camera import Camera
from deblurgs.scene.gaussians import Gaussians
from deblurgs.train.data import as_tensor
from deblurgs.view.content import Frames

_DEPTH_TOLERANCE = 0.1
"""A Gaussian further behind the visible surface than this share of its depth is hidden in that frame."""


@torch.no_grad()
def tinted_by_trust(frames: Frames) -> Gaussians:
    """The scene in green where frames recorded its detail and agree, red where it is a guess, its brightness kept."""
    trust = gaussian_trust(frames)
    scene = frames.scene.gaussians
    t = scene.tensors()
    grey = sh0_to_rgb(t["sh0"][:, 0]).clamp(0.0, 1.0).mean(dim=-1, keepdim=True)
    good, bad = grey.new_tensor(RECOVERED_RGB), grey.new_tensor(GUESS_RGB)
    tint = trust[:, None] * good + (1.0 - trust[:, None]) * bad
    t["sh0"] = rgb_to_sh0(tint * (0.35 + 0.65 * grey))[:, None]
    t["shN"] = torch.zeros_like(t["shN"])
    return Gaussians(**t)


@torch.no_grad()
def gaussian_trust(frames: Frames) -> Tensor:
    """Mean trust of the frames that see each Gaussian, [N] in [0,1]; 0 where none does."""
    scene = frames.scene
    traced = trace_scene(scene, frames.cameras, lambda f: as_tensor(frames.observed(f)))
    total = scene.gaussians.means.new_zeros(scene.gaussians.num_gaussians)
    count = torch.zeros_like(total)
    poses = scene.trajectory.all_at(0.5)
    for f, camera in enumerate(scene.training_cameras):
        _, maps = judge_frame(traced, f, frames.names[f])
        x, y, z = _projected(scene.gaussians.means, poses[f], camera)
        grid = torch.stack([x, y], dim=-1)[None, None]
        surface = _sampled(traced.exposures.depths[f], grid)
        seen = (z > 0) & (x.abs() <= 1) & (y.abs() <= 1) & (z <= surface * (1.0 + _DEPTH_TOLERANCE))
        total += torch.where(seen, _sampled(maps.trust, grid), 0.0)
        count += seen
    return (total / count.clamp_min(1.0)).clamp(0.0, 1.0)


def _projected(means: Tensor, pose: Tensor, camera: Camera) -> tuple[Tensor, Tensor, Tensor]:
    """Places in the picture from -1 (left, top) to 1, and camera z, each [N]."""
    x, y, z = (means @ pose[:3, :3].T + pose[:3, 3]).unbind(-1)
    ahead = z.clamp_min(1e-6)
    px, py = camera.fx * x / ahead + camera.cx, camera.fy * y / ahead + camera.cy
    return 2.0 * px / camera.width - 1.0, 2.0 * py / camera.height - 1.0, z


def _sampled(field: Tensor, grid: Tensor) -> Tensor:
    """A map [h,w] read bilinearly at the places grid [1,1,N,2] -> [N]."""
    return F.grid_sample(
        field[None, None], grid, mode="bilinear", padding_mode="border", align_corners=False
    )[0, 0, 0]
