"""What a vectorised torch rasterizer costs: pair list, one sort, log-space compositing, autograd.

The stand-in for "no kernel": every (Gaussian, pixel) pair with alpha >= 1/255 is one row of a few long tensors, so no
Python loop runs over Gaussians, tiles or pixels. Semantics are those of deblurgs.raster.api (without statistics).
"""

import torch
import torch.nn.functional as F
from bench_work import WorkItem
from torch import Tensor

from deblurgs.math.color import linear_from_srgb, srgb_from_linear
from deblurgs.math.quaternion import normalize, to_matrix
from deblurgs.math.sh import sh_to_color
from deblurgs.raster.api import ALPHA_CUTOFF, EPS2D, FRUSTUM_MARGIN, NEAR, OPACITY_MAX, TRANSMITTANCE_STOP
from deblurgs.scene.camera import Camera


def render_exposure(item: WorkItem, tensors: tuple[Tensor, ...], linear_mean: bool = True) -> Tensor:
    """Mean image [H,W,3] of all views; black background."""
    *gaussians, viewmats = tensors
    image = torch.zeros(item.camera.height * item.camera.width, 3)
    for viewmat, weight in zip(viewmats, item.weights, strict=True):
        view = _render_view(gaussians, viewmat, item.camera)
        image = image + weight * (linear_from_srgb(view) if linear_mean else view)
    return image.view(item.camera.height, item.camera.width, 3)


def _render_view(gaussians: list[Tensor], viewmat: Tensor, camera: Camera) -> Tensor:
    means, quats, scales, opacities, sh0, sh_rest = gaussians
    rotation, translation = viewmat[:3, :3], viewmat[:3, 3]
    x, y, z = (means @ rotation.T + translation).unbind(-1)
    u, v = x / z, y / z
    limit_u = FRUSTUM_MARGIN * max(camera.cx, camera.width - camera.cx) / camera.fx
    limit_v = FRUSTUM_MARGIN * max(camera.cy, camera.height - camera.cy) / camera.fy
    zero = torch.zeros_like(z)
    jacobian = torch.stack(
        [
            torch.stack([camera.fx / z, zero, -camera.fx * u.clamp(-limit_u, limit_u) / z], -1),
            torch.stack([zero, camera.fy / z, -camera.fy * v.clamp(-limit_v, limit_v) / z], -1),
        ],
        -2,
    )  # [N,2,3]
    half = jacobian @ rotation @ (to_matrix(normalize(quats)) * scales[:, None])
    covariance = half @ half.transpose(1, 2)
    xx, xy, yy = covariance[:, 0, 0] + EPS2D, covariance[:, 0, 1], covariance[:, 1, 1] + EPS2D
    determinant = xx * yy - xy * xy
    mean_x, mean_y = camera.fx * u + camera.cx, camera.fy * v + camera.cy
    opacity = opacities.clamp(max=OPACITY_MAX)
    direction = F.normalize(means + rotation.T @ translation, dim=-1)
    color = sh_to_color(torch.cat([sh0, sh_rest], 1), direction).clamp(min=0.0)

    with torch.no_grad():
        gaussian, pixel = _pairs(mean_x, mean_y, z, xx, xy, yy, opacity, camera)
    px, py = (pixel % camera.width) + 0.5, (pixel // camera.width) + 0.5
    per_gaussian = torch.stack(
        [mean_x, mean_y, yy / determinant, xy / determinant, xx / determinant, opacity], -1
    )
    mx, my, a, b, c, o = per_gaussian[gaussian].unbind(-1)
    dx, dy = px - mx, py - my
    alpha = o * torch.exp(-0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy)
    passed = torch.log1p(-alpha)
    # The running sum over all pairs minus its value where the pixel begins; float64, because it grows long.
    running = passed.double().cumsum(0)
    exclusive = running - passed
    first = torch.ones_like(pixel, dtype=torch.bool)
    first[1:] = pixel[1:] != pixel[:-1]
    segment = first.cumsum(0) - 1
    before = torch.exp((exclusive - exclusive[first][segment]).float())
    weight = alpha * before * (before.detach() >= TRANSMITTANCE_STOP)
    image = torch.zeros(camera.height * camera.width, 3)
    return image.index_add(0, pixel, weight[:, None] * color[gaussian])


def _pairs(
    mean_x: Tensor,
    mean_y: Tensor,
    z: Tensor,
    xx: Tensor,
    xy: Tensor,
    yy: Tensor,
    opacity: Tensor,
    camera: Camera,
) -> tuple[Tensor, Tensor]:
    """(Gaussian, pixel) of every pair that reaches the cut-off, by pixel and then by depth. Opacity-aware boxes."""
    level = 2 * torch.log(opacity / ALPHA_CUTOFF)
    extent_x, extent_y = (level.clamp(min=0) * xx).sqrt(), (level.clamp(min=0) * yy).sqrt()
    x0 = (mean_x - extent_x - 0.5).ceil().clamp(0, camera.width).long()
    x1 = (mean_x + extent_x - 0.5).floor().clamp(-1, camera.width - 1).long() + 1
    y0 = (mean_y - extent_y - 0.5).ceil().clamp(0, camera.height).long()
    y1 = (mean_y + extent_y - 0.5).floor().clamp(-1, camera.height - 1).long() + 1
    wide, tall = (x1 - x0).clamp(min=0), (y1 - y0).clamp(min=0)
    count = torch.where((z >= NEAR) & (level >= 0), wide * tall, 0)
    order = torch.argsort(z, stable=True)
    gaussian = order.repeat_interleave(count[order])
    start = count[order].cumsum(0) - count[order]
    rank = torch.arange(gaussian.shape[0]) - start.repeat_interleave(count[order])
    px, py = x0[gaussian] + rank % wide[gaussian], y0[gaussian] + rank // wide[gaussian]
    determinant = xx * yy - xy * xy
    dx, dy = px + 0.5 - mean_x[gaussian], py + 0.5 - mean_y[gaussian]
    power = (yy[gaussian] * dx * dx - 2 * xy[gaussian] * dx * dy + xx[gaussian] * dy * dy) / determinant[
        gaussian
    ]
    near = power <= level[gaussian]
    gaussian, pixel = gaussian[near], (py * camera.width + px)[near]
    by_pixel = torch.argsort(pixel, stable=True)
    return gaussian[by_pixel], pixel[by_pixel]


def photometric_loss(prediction: Tensor, observed: Tensor, ssim_weight: float = 0.2) -> Tensor:
    """The loss of deblurgs.train.losses by depthwise 11x11 convolutions. [H,W,3] linear, [H,W,3] display values."""
    shown = srgb_from_linear(prediction)
    x, y = observed.permute(2, 0, 1)[None], shown.permute(2, 0, 1)[None]
    taps = torch.exp(-0.5 * ((torch.arange(11) - 5) / 1.5) ** 2)
    taps = taps / taps.sum()
    window = (taps[:, None] * taps[None]).expand(3, 1, 11, 11).contiguous()

    def blur(image: Tensor) -> Tensor:
        return F.conv2d(image, window, padding=5, groups=3)

    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    cov = blur(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    ssim = (2 * mean_x * mean_y + c1) * (2 * cov + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return (1 - ssim_weight) * (shown - observed).abs().mean() + ssim_weight * (1 - ssim.mean())
