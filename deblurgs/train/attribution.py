"""Which Gaussians show a photo, and on which its misfit falls.

E_k = sum over the pixels p of error(p) w_k(p), where w_k(p) is the share of Gaussian k in what pixel p shows (the
error of a primitive in Rota Bulo et al., "Revising Densification in Gaussian Splatting", arXiv 2404.06109); the sum of
w_k alone is the area it fills. A picture is linear in the colours of its Gaussians and w_k is their factor, so the
rasterizer's gradient with respect to the colours gives both sums, each in a channel of its own.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from deblurgs.math.sh import SH_C0
from deblurgs.scene.camera import Camera
from deblurgs.scene.gaussians import Gaussians
from deblurgs.scene.shutter import sample_exposure
from deblurgs.train.model import AnyTrajectory, frame_light

# Where an error falls need not be known as finely as the picture: this many virtual views do for the longest blur.
MOST_VIEWS = 3


@dataclass(frozen=True)
class Shares:
    """Of one frame, per Gaussian: `error` [N] in display values times pixels, `area` [N] in pixels. 0 for those that it
    does not see."""

    error: Tensor
    area: Tensor


def frame_shares(
    gaussians: Gaussians,
    trajectory: AnyTrajectory,
    frame: int,
    camera: Camera,
    error: Tensor,
    num_views: int,
    *,
    antialiased: bool = False,
) -> Shares:
    """What of `error` [H,W], and of the picture itself, belongs to each Gaussian.

    Costs as much as a training step of at most `MOST_VIEWS` virtual views.
    """
    count, g = gaussians.num_gaussians, gaussians
    splats = Gaussians(
        means=g.means, quats=g.quats, log_scales=g.log_scales, logit_opacities=g.logit_opacities,
        sh0=error.new_zeros(count, 1, 3), shN=error.new_zeros(count, 0, 3),
    ).requires_grad_(False)  # fmt: skip
    splats.sh0.requires_grad_(True)
    u, weights = sample_exposure(min(num_views, MOST_VIEWS), device=error.device)
    picture = frame_light(
        splats, trajectory, frame, camera, u, weights, antialiased=antialiased, linear_mean=False
    )
    channels = torch.stack([error, torch.ones_like(error), torch.zeros_like(error)], dim=-1)
    (gradient,) = torch.autograd.grad(picture, splats.sh0, channels)
    sums = gradient[:, 0] / SH_C0  # a colour is 0.5 + SH_C0 * sh0
    return Shares(sums[:, 0], sums[:, 1])
