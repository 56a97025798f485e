"""The reference rasterizer: dense torch, any floating dtype, slow and right. Every kernel must agree with it.

All semantics are those written down in `deblurgs.raster.api`. Projection follows Zwicker et al., "EWA Volume
Splatting", 2001, eq. 22-29 (first-order perspective), compositing Kerbl et al., "3D Gaussian Splatting",
2023, eq. 3. Gradients are those of torch's autograd through these formulas, including all 12 numbers of every
camera pose.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from deblurgs.math.color import linear_from_srgb
from deblurgs.math.quaternion import normalize, to_matrix
from deblurgs.math.sh import num_coefficients, sh_to_color
from deblurgs.raster.api import (
    ALPHA_CUTOFF,
    EPS2D,
    FRUSTUM_MARGIN,
    NEAR,
    OPACITY_MAX,
    TRANSMITTANCE_STOP,
    Rendered,
    ScreenStatistics,
)
from deblurgs.raster.backend import check_inputs
from deblurgs.scene.camera import Camera

# Gaussian-pixel pairs held at once; about ten tensors of this many numbers are alive.
_PAIRS_PER_CHUNK = 1 << 21
# Half width of the parabola that replaces the kink of max(0, colour) with `smooth_cutoff`.
_SMOOTH_COLOR_WIDTH = 0.02


@dataclass(frozen=True)
class _Projected:
    """Gaussians on the screen of one view. mean_px [M,2], conic [M,3] = (a, b, c) of a dx^2 + 2 b dx dy + c
    dy^2, opacity [M] clamped, color [M,3] encoded and not negative, depth [M] camera z; usable [M] bool."""

    mean_px: Tensor
    conic: Tensor
    opacity: Tensor
    color: Tensor
    depth: Tensor
    usable: Tensor


class ReferenceBackend:
    """`render_exposure` of this module as a `deblurgs.raster.backend.Backend`."""

    name = "reference"

    def available(self) -> str | None:
        return None

    def render_exposure(
        self,
        means: Tensor,
        quats: Tensor,
        scales: Tensor,
        opacities: Tensor,
        sh0: Tensor,
        shN: Tensor,
        viewmats: Tensor,
        weights: Tensor,
        camera: Camera,
        *,
        background: Tensor | None = None,
        sh_degree: int | None = None,
        linear_mean: bool = True,
        antialiased: bool = False,
        statistics: ScreenStatistics | None = None,
    ) -> Rendered:
        return render_exposure(
            means, quats, scales, opacities, sh0, shN, viewmats, weights, camera,
            background=background, sh_degree=sh_degree, linear_mean=linear_mean, antialiased=antialiased,
            statistics=statistics,
        )  # fmt: skip


def render_exposure(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    sh0: Tensor,
    shN: Tensor,
    viewmats: Tensor,
    weights: Tensor,
    camera: Camera,
    *,
    background: Tensor | None = None,
    sh_degree: int | None = None,
    linear_mean: bool = True,
    antialiased: bool = False,
    statistics: ScreenStatistics | None = None,
    smooth_cutoff: bool = False,
) -> Rendered:
    """`deblurgs.raster.api.render_exposure`, with alpha, depth and weights differentiable too.

    `smooth_cutoff` replaces the three steps of the definition (alpha cut-off, transmittance stop, colour
    clamp) by continuously differentiable ramps around the same thresholds, so that finite differences and
    analytic gradients can be compared honestly. It is a test mode: the image differs from the definition by
    about 1/255 per Gaussian. `statistics` is reset by every call: `visible` here, `gradient_px` during the
    backward pass.
    """
    degree = check_inputs(
        means, quats, scales, opacities, sh0, shN, viewmats, weights, camera, background, sh_degree
    )
    coefficients = torch.cat([sh0, shN[:, : num_coefficients(degree) - 1]], dim=1)  # [N,K,3]
    gaussians = (means, quats, scales, opacities, coefficients)
    if background is None:
        background = means.new_zeros(3)
    if statistics is not None:
        statistics.visible = torch.zeros(means.shape[0], dtype=torch.bool, device=means.device)
        statistics.gradient_px = torch.zeros(means.shape[0], dtype=torch.float32, device=means.device)

    image = means.new_zeros(camera.height, camera.width, 3)
    alpha = means.new_zeros(camera.height, camera.width)
    depth = means.new_zeros(camera.height, camera.width)
    for viewmat, weight in zip(viewmats, weights, strict=True):
        drawn_idx, projected = _project_drawn(gaussians, viewmat, camera, antialiased, smooth_cutoff)
        if statistics is not None and projected.mean_px.requires_grad:
            _record_gradient(projected.mean_px, drawn_idx, statistics)
        view_image, view_alpha, view_depth, touched = _composite(projected, camera, background, smooth_cutoff)
        if statistics is not None and statistics.visible is not None:
            statistics.visible[drawn_idx[touched]] = True
        image = image + weight * (linear_from_srgb(view_image) if linear_mean else view_image)
        alpha = alpha + weight * view_alpha
        depth = depth + weight * view_depth
    return Rendered(image, alpha, depth)


def _project_drawn(
    gaussians: tuple[Tensor, ...], viewmat: Tensor, camera: Camera, antialiased: bool, smooth: bool
) -> tuple[Tensor, _Projected]:
    """Project the Gaussians that this view draws, front to back. Returns their indices [M] and projections.

    Which ones and in which order is decided on a first pass without gradients. The second pass sees only rows
    that are fit for use, so a non-finite or culled Gaussian cannot poison a gradient through `0 * inf`.
    """
    with torch.no_grad():
        scout = _project(gaussians, viewmat, camera, antialiased, smooth)
        order = torch.argsort(scout.depth, stable=True)  # Ties keep the order of indices.
        drawn_idx = order[scout.usable[order]]
    drawn = tuple(values[drawn_idx] for values in gaussians)
    return drawn_idx, _project(drawn, viewmat, camera, antialiased, smooth)


def _project(
    gaussians: tuple[Tensor, ...], viewmat: Tensor, camera: Camera, antialiased: bool, smooth: bool
) -> _Projected:
    """EWA projection of Gaussians into one view; rows that must not be drawn are marked unusable."""
    means, quats, scales, opacities, coefficients = gaussians
    rotation, translation = viewmat[:3, :3], viewmat[:3, 3]
    mean_camera = means @ rotation.T + translation  # [N,3]
    x, y, z = mean_camera.unbind(-1)
    mean_px = torch.stack([camera.fx * x / z + camera.cx, camera.fy * y / z + camera.cy], dim=-1)

    limit_x, limit_y = (FRUSTUM_MARGIN * reach for reach in camera.extent)
    zero = torch.zeros_like(z)
    row_x = torch.stack([camera.fx / z, zero, -camera.fx * (x / z).clamp(-limit_x, limit_x) / z], dim=-1)
    row_y = torch.stack([zero, camera.fy / z, -camera.fy * (y / z).clamp(-limit_y, limit_y) / z], dim=-1)
    jacobian = torch.stack([row_x, row_y], dim=-2)  # [N,2,3] pixels per camera unit

    # Half of the covariance: Sigma_2d = half half^T with half = J W R S, so it is symmetric by construction.
    half = jacobian @ rotation @ (to_matrix(normalize(quats)) * scales[:, None, :])  # [N,2,3]
    xx = (half[:, 0] * half[:, 0]).sum(-1)
    xy = (half[:, 0] * half[:, 1]).sum(-1)
    yy = (half[:, 1] * half[:, 1]).sum(-1)
    blurred_xx, blurred_yy = xx + EPS2D, yy + EPS2D
    determinant = blurred_xx * blurred_yy - xy * xy
    conic = torch.stack([blurred_yy, -xy, blurred_xx], dim=-1) / determinant[:, None]

    opacity = opacities
    if antialiased:
        opacity = opacity * _sqrt_or_zero((xx * yy - xy * xy) / determinant)
    opacity = opacity.clamp(max=OPACITY_MAX)

    camera_center = -rotation.T @ translation
    offset = means - camera_center
    signed_color = sh_to_color(coefficients, offset / offset.norm(dim=-1, keepdim=True))
    usable = (
        (z >= NEAR)
        & (determinant > 0)
        & (quats != 0).any(-1)
        & torch.isfinite(torch.cat([mean_px, conic, signed_color, quats, scales], dim=-1)).all(-1)
        & torch.isfinite(torch.stack([z, opacities, opacity, determinant], dim=-1)).all(-1)
    )
    color = _smooth_positive(signed_color) if smooth else signed_color.clamp(min=0.0)
    return _Projected(mean_px, conic, opacity, color, z, usable)


def _sqrt_or_zero(ratio: Tensor) -> Tensor:
    """sqrt(max(ratio, 0)) with gradient zero where ratio <= 0: a flat Gaussian seen edge-on has none to
    give."""
    positive = ratio > 0
    return torch.where(positive, torch.where(positive, ratio, torch.ones_like(ratio)).sqrt(), 0.0)


def _composite(
    projected: _Projected, camera: Camera, background: Tensor, smooth: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Blend sorted Gaussians over every pixel: encoded image [H,W,3], alpha [H,W], depth [H,W], touched [M]
    bool."""
    num_drawn = projected.mean_px.shape[0]
    rows_per_chunk = max(1, _PAIRS_PER_CHUNK // max(1, num_drawn * camera.width))
    features = torch.cat([projected.color, projected.depth[:, None]], dim=-1)  # [M,4]
    touched = torch.zeros(num_drawn, dtype=torch.bool, device=features.device)
    chunks: list[Tensor] = []
    for first_row in range(0, camera.height, rows_per_chunk):
        last_row = min(camera.height, first_row + rows_per_chunk)
        arguments = (
            projected.mean_px, projected.conic, projected.opacity, features,
            camera.width, first_row, last_row, smooth,
        )  # fmt: skip
        # Recomputing in the backward pass keeps the memory at one chunk, whatever the picture and the number
        # of views.
        blended, touched_here = checkpoint(
            _composite_rows, *arguments, use_reentrant=False, preserve_rng_state=False
        )  # type: ignore[misc]
        chunks.append(blended)
        touched |= touched_here
    blended = torch.cat(chunks)  # [H,W,5] = color, depth, alpha
    alpha = blended[..., 4]
    image = blended[..., :3] + (1.0 - alpha)[..., None] * background
    return image, alpha, blended[..., 3], touched


def _composite_rows(
    mean_px: Tensor,
    conic: Tensor,
    opacity: Tensor,
    features: Tensor,
    width: int,
    first_row: int,
    last_row: int,
    smooth: bool,
) -> tuple[Tensor, Tensor]:
    """Rows first_row..last_row-1: sums of weight * (feature, 1) -> [rows,width,5], and touched [M] bool."""
    kind = {"dtype": mean_px.dtype, "device": mean_px.device}
    px = torch.arange(width, **kind)[None, None] + 0.5  # [1,1,W]
    py = torch.arange(first_row, last_row, **kind)[None, :, None] + 0.5  # [1,rows,1]
    dx, dy = px - mean_px[:, 0, None, None], py - mean_px[:, 1, None, None]
    a, b, c = (values[:, None, None] for values in conic.unbind(-1))
    alpha = opacity[:, None, None] * torch.exp(-0.5 * (a * dx * dx + 2.0 * b * dx * dy + c * dy * dy))
    alpha = alpha * _gate(alpha, ALPHA_CUTOFF, smooth)  # [M,rows,W]

    # Transmittance before each Gaussian if nothing were ever stopped. Up to the stop it is the true one, and
    # beyond it the gate is zero, so no sequential loop is needed.
    passed = torch.cumprod(1.0 - alpha, dim=0)
    before = torch.cat([torch.ones_like(alpha[:1]), passed[:-1]]) if alpha.shape[0] else passed
    weight = alpha * before * _gate(before, TRANSMITTANCE_STOP, smooth)
    touched = (weight.detach() > 0).flatten(1).any(1)
    blended = torch.einsum("myx,mf->yxf", weight, features)
    return torch.cat([blended, weight.sum(0)[..., None]], dim=-1), touched


def _gate(value: Tensor, threshold: float, smooth: bool) -> Tensor:
    """1 where value >= threshold, else 0; smooth: a quintic ramp from half to one and a half times the
    threshold."""
    if not smooth:
        return (value >= threshold).to(value.dtype)
    s = (value / threshold - 0.5).clamp(0.0, 1.0)
    return s * s * s * (s * (6.0 * s - 15.0) + 10.0)


def _smooth_positive(value: Tensor) -> Tensor:
    """max(0, value) with its kink replaced by a parabola; continuously differentiable."""
    w = _SMOOTH_COLOR_WIDTH
    parabola = (value + w).square() / (4.0 * w)
    return torch.where(value.abs() < w, parabola, value.clamp(min=0.0))


def _record_gradient(mean_px: Tensor, drawn_idx: Tensor, statistics: ScreenStatistics) -> None:
    """Add the norm of the gradient that reaches `mean_px` [M,2] to `statistics` during the backward pass."""
    target = statistics.gradient_px

    def add(gradient: Tensor) -> None:
        if target is not None:
            target.index_add_(0, drawn_idx, gradient.norm(dim=-1).to(target.dtype))

    mean_px.register_hook(add)
