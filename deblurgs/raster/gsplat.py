"""The library gsplat (1.4 or newer, Apache-2.0) behind the same border: for comparison, and for who prefers it.

All V views are one batched call of `gsplat.rasterization`, so V images are held, unlike in the other backends. It needs
CUDA, and a CUDA compiler at its first use. Two things differ from the contract in `api.py`: alpha is clamped to 0.999
per pixel there (here *opacity* to 0.99 per Gaussian, which is done before the call), and transmittance ends at its own
threshold. Statistics come from gsplat's gradient of the projected means.
"""

from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from deblurgs.math.color import linear_from_srgb
from deblurgs.raster.api import EPS2D, NEAR, OPACITY_MAX, Rendered, ScreenStatistics
from deblurgs.raster.backend import check_inputs
from deblurgs.scene.camera import Camera


@cache
def _library() -> tuple[ModuleType | None, str]:
    if torch.version.cuda is None or not torch.cuda.is_available():
        return None, "gsplat works on NVIDIA GPUs only, and torch finds none"
    try:
        import gsplat
    except Exception as error:  # its first import may compile, and fail in any way
        return None, f"gsplat does not load ({type(error).__name__}: {error}); pip install 'deblurgs[gsplat]'"
    if not hasattr(gsplat, "rasterization"):
        return None, f"gsplat {getattr(gsplat, '__version__', '?')} is too old, 1.4 is needed"
    return gsplat, ""


class GsplatBackend:
    """float32 CUDA tensors. Not repeatable to the bit: gsplat adds gradients atomically."""

    name = "gsplat"

    def available(self) -> str | None:
        library, reason = _library()
        return None if library is not None else reason

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
        degree = check_inputs(
            means, quats, scales, opacities, sh0, shN, viewmats, weights, camera, background, sh_degree,
            wait_for_poses=means.device.type == "cpu",
        )  # fmt: skip
        library, reason = _library()
        if library is None:
            raise RuntimeError(reason)
        num_views = viewmats.shape[0]
        # The last row is not part of a pose: no gradient reaches it.
        viewmats = torch.cat([viewmats[:, :3], viewmats[:, 3:].detach()], dim=1)
        intrinsics = means.new_tensor([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])
        pictures, alphas, seen = library.rasterization(
            means, quats, scales, opacities.clamp(max=OPACITY_MAX), torch.cat([sh0, shN], dim=1), viewmats,
            intrinsics.expand(num_views, 3, 3).contiguous(), camera.width, camera.height,
            near_plane=NEAR, eps2d=EPS2D, sh_degree=degree, packed=False, render_mode="RGB+D",
            rasterize_mode="antialiased" if antialiased else "classic", absgrad=False,
        )  # fmt: skip
        # [V,H,W,4], [V,H,W,1]; gsplat shows what is behind the Gaussians as black.
        colors, depths, alphas = pictures[..., :3], pictures[..., 3], alphas[..., 0]
        if background is not None:
            colors = colors + (1.0 - alphas[..., None]) * background
        light = linear_from_srgb(colors) if linear_mean else colors
        if statistics is not None:
            _watch(statistics, seen, camera)
        return Rendered(
            torch.einsum("v,vhwc->hwc", weights, light),
            torch.einsum("v,vhw->hw", weights, alphas.detach()),
            torch.einsum("v,vhw->hw", weights, depths.detach()),
        )


def _watch(statistics: ScreenStatistics, seen: dict[str, Any], camera: Camera) -> None:
    """Fill in what was seen, and at the backward pass the gradient by the projected means, [V,N,2] in pixels."""
    radii: Tensor = seen["radii"]  # [V,N], or [V,N,2] in newer versions
    visible = radii > 0
    if visible.ndim == 3:
        visible = visible.all(-1)
    statistics.visible = visible.any(0)
    means2d: Tensor = seen["means2d"]
    if means2d.requires_grad:

        def keep(gradient: Tensor) -> None:
            statistics.gradient_px = gradient.detach().norm(dim=-1).sum(0)

        means2d.register_hook(keep)
