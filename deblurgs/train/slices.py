"""What lies between virtual views: each stands for a slice of the exposure, during which every pixel moved on a little.

The mean over V instants has the photo's blur for coarse structure; what is as fine as the way between two views it
blurs too little, and a scene that matches the photos all the same comes out soft. What is missing is a blur along the
way of a pixel within one slice: in uniform motion the mean over V instants, blurred once more by a box as long as a
slice, is exactly the mean over the exposure. A box that short does to an image what diffusion with its covariance does.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from deblurgs.raster import native
from deblurgs.scene.camera import Camera
from deblurgs.scene.continuous import ContinuousTrajectory
from deblurgs.scene.trajectory import Trajectory

ROWS, COLUMNS = 6, 8
"""The ways of pixels vary slowly over the picture: a coarse grid of them does."""
_MOST = 0.5
"""Variance in square pixels, of both directions together, that one step of diffusion spreads at most: with more, a
pattern of alternating pixels would come out inverted. Slices are longer (over 2.4 px) only where the number of views is
bounded."""


@torch.no_grad()
def slice_covariance(
    trajectory: Trajectory | ContinuousTrajectory, frame: int, camera: Camera, depth: Tensor, num_views: int
) -> Tensor:
    """Covariance (xx, xy, yy) [3,ROWS,COLUMNS], in square pixels, of where a point at `depth` (camera z, scene units)
    is during one of `num_views` slices of the exposure; the mean over the slices, at places spread over the picture."""
    device = trajectory.knots.device
    u = torch.linspace(0.0, 1.0, num_views + 1, device=device)
    rows = [(r + 0.5) / ROWS for r in range(ROWS)] if trajectory.rolling else [0.5]
    edges = torch.stack([trajectory.of_frame(frame, u, row) for row in rows]).expand(ROWS, -1, -1, -1)
    middle = trajectory.of_frame(frame, u.new_full((1,), 0.5))[0]
    x = ((torch.arange(COLUMNS, device=device) + 0.5) * (camera.width / COLUMNS) - camera.cx) / camera.fx
    y = ((torch.arange(ROWS, device=device) + 0.5) * (camera.height / ROWS) - camera.cy) / camera.fy
    rays = torch.stack(
        [x.expand(ROWS, -1), y[:, None].expand(-1, COLUMNS), x.new_ones(ROWS, COLUMNS)], dim=-1
    )
    world = (rays * depth - middle[:3, 3]) @ middle[:3, :3]  # R^T (x - t)
    seen = torch.einsum("yvij,yxj->vyxi", edges[..., :3, :3], world)
    seen = seen + edges[..., :3, 3].transpose(0, 1)[:, :, None]
    at = seen[..., :2] / seen[..., 2:].clamp_min(1e-6)
    dx, dy = (at[1:] - at[:-1]).unbind(-1)
    dx, dy = dx * camera.fx, dy * camera.fy
    # A box of length l has the variance l^2 / 12.
    return torch.stack([(dx * dx).mean(0), (dx * dy).mean(0), (dy * dy).mean(0)]) / 12.0


def spread(light: Tensor, covariance: Tensor) -> Tensor:
    """light [H,W,3] blurred by kernels of these covariances [3,h,w] (xx, xy, yy; square pixels), which vary over it.

    A step of diffusion: pixels trade with their eight neighbours, so that no light is lost, and nothing crosses the
    border. Of oblique motion the mixed derivative takes a little (at most a sixteenth) from two of the corners.
    Differentiable in `light`; the covariance is taken for constant.
    """
    covariance = covariance * (_MOST / (covariance[0] + covariance[2]).clamp_min(_MOST))
    return _Diffusion.apply(light, covariance)  # type: ignore[return-value]


class _Diffusion(torch.autograd.Function):
    """light + div(D grad light), D half the covariance; what pixels trade is symmetric, so it is its own transpose."""

    @staticmethod
    def forward(ctx: Any, light: Tensor, covariance: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(covariance)
        return _diffused(light, covariance)

    @staticmethod
    def backward(ctx: Any, *output_gradients: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        return _diffused(output_gradients[0], *ctx.saved_tensors), None


def _diffused(light: Tensor, covariance: Tensor) -> Tensor:
    library = native.load()[0]
    if library is None or light.device.type != "cpu" or light.dtype != torch.float32:
        return torch_diffused(light, covariance)
    light, covariance = light.contiguous(), covariance.float().contiguous()
    out = torch.empty_like(light)
    status = library.deblurgs_cpu_spread(
        light.data_ptr(), covariance.data_ptr(), covariance.shape[1], covariance.shape[2], light.shape[1],
        light.shape[0], out.data_ptr(), native.threads(),
    )  # fmt: skip
    if status != 0:
        raise ValueError(f"an image of {light.shape[1]}x{light.shape[0]} was refused (status {status})")
    return out


def torch_diffused(light: Tensor, covariance: Tensor) -> Tensor:
    """One step of diffusion in plain torch, on any device, in any precision. It defines what the kernel computes."""
    height, width = light.shape[:2]
    half = F.interpolate(0.5 * covariance[None], size=(height, width), mode="bilinear", align_corners=False)[
        0
    ]
    # Rows of interleaved channels: a step to the right is three numbers on.
    xx, xy, yy = half.repeat_interleave(3, dim=2)
    p = light.reshape(height, -1)
    out = p.clone()
    trades = (
        (p[:, 3:], p[:, :-3], xx[:, 3:], out[:, 3:], out[:, :-3]),
        (p[1:], p[:-1], yy[1:], out[1:], out[:-1]),
        # The mixed derivative, from the two diagonals.
        (p[1:, 3:], p[:-1, :-3], 0.5 * xy[1:, 3:], out[1:, 3:], out[:-1, :-3]),
        (p[1:, :-3], p[:-1, 3:], -0.5 * xy[1:, 3:], out[1:, :-3], out[:-1, 3:]),
    )
    for there, here, share, to, source in trades:
        flow = (there - here) * share
        to -= flow
        source += flow
    return out.reshape(light.shape)
