"""The compiled CPU rasterizer as a backend: torch tensors in, C calls, torch gradients out."""

import ctypes
from typing import Any

import torch
from torch import Tensor

from deblurgs.errors import ResourceError
from deblurgs.raster import native
from deblurgs.raster.api import FRUSTUM_MARGIN, Rendered, ScreenStatistics
from deblurgs.raster.backend import check_inputs
from deblurgs.scene.camera import Camera

_LINEAR_MEAN, _ANTIALIASED, _KEEP = 1, 2, 4
_BAD_POSE, _OUT_OF_MEMORY, _TOO_MANY_ENTRIES = 2, 3, 4
_NAMES = ("means", "quats", "scales", "opacities", "sh0", "sh_rest", "viewmats")

# Scratch memory of finished exposures, handed to the next ones so that a training loop does not allocate.
_idle: list[int] = []


class _Lease:
    """One handle of the library, returned to the pool when the exposure (or its autograd graph) is gone."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library
        self.handle: int = _idle.pop() if _idle else library.deblurgs_cpu_create()
        if not self.handle:
            raise ResourceError("no memory for the rasterizer's scratch space; close other programs")

    def __del__(self) -> None:
        if getattr(self, "handle", None):
            _idle.append(self.handle)


class CpuBackend:
    """float32 CPU tensors; repeatable to the bit for any number of threads; float64 views belong to the reference."""

    name = "cpu"

    def available(self) -> str | None:
        library, reason = native.load()
        return None if library is not None else reason

    def isa(self) -> str:
        """Instruction set in use: "baseline", "avx2" or "avx512"."""
        return _library().deblurgs_cpu_isa().decode()

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
            means, quats, scales, opacities, sh0, shN, viewmats, weights, camera, background, sh_degree
        )
        if means.dtype != torch.float32 or means.device.type != "cpu":
            raise ValueError(
                f"means: the cpu backend needs float32 CPU tensors, got {means.dtype} on {means.device}"
            )
        flags = (_LINEAR_MEAN if linear_mean else 0) | (_ANTIALIASED if antialiased else 0)
        image, alpha, depth = _Exposure.apply(
            means,
            quats,
            scales,
            opacities,
            sh0,
            shN,
            viewmats,
            background,
            weights,
            camera,
            degree,
            flags,
            statistics,
        )  # type: ignore[misc]
        return Rendered(image, alpha, depth)


def _library() -> ctypes.CDLL:
    library, reason = native.load()
    if library is None:
        raise RuntimeError(reason)
    return library


def _check(status: int, library: ctypes.CDLL, handle: int) -> None:
    if status == 0:
        return
    if status == _BAD_POSE:
        raise ValueError(f"viewmats: view {library.deblurgs_cpu_bad_view(handle)} is not finite")
    if status == _OUT_OF_MEMORY:
        raise ResourceError(
            "no memory for the rasterizer's scratch space. Use fewer Gaussians or smaller images "
            "(--train.density.max-gaussians, --train.max-side)."
        )
    if status == _TOO_MANY_ENTRIES:
        raise ResourceError(
            "one view has more than 2^31 tile entries: the Gaussians are far too large for the image"
        )
    raise RuntimeError(f"the cpu rasterizer refused its arguments (status {status})")


def _exposure(tensors: dict[str, Tensor | None], camera: Camera, degree: int, flags: int) -> native.Exposure:
    means, rest, viewmats = tensors["means"], tensors["sh_rest"], tensors["viewmats"]
    assert means is not None and rest is not None and viewmats is not None
    limit_u, limit_v = (FRUSTUM_MARGIN * reach for reach in camera.extent)
    return native.Exposure(
        num_gaussians=means.shape[0], num_views=viewmats.shape[0], width=camera.width, height=camera.height,
        sh_degree=degree, sh_stored=rest.shape[1] + 1, flags=flags,
        fx=camera.fx, fy=camera.fy, cx=camera.cx, cy=camera.cy, limit_u=limit_u, limit_v=limit_v,
        **{name: None if t is None or t.numel() == 0 else t.data_ptr() for name, t in tensors.items()},
    )  # fmt: skip


class _Exposure(torch.autograd.Function):
    """Forward and backward of one exposure. alpha and depth carry no gradient."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, sh0: Tensor, sh_rest: Tensor,
        viewmats: Tensor, background: Tensor | None, weights: Tensor, camera: Camera, degree: int, flags: int,
        statistics: ScreenStatistics | None,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        library = _library()
        values = (means, quats, scales, opacities, sh0, sh_rest, viewmats)
        tensors: dict[str, Tensor | None] = {
            name: t.detach().contiguous() for name, t in zip(_NAMES, values, strict=True)
        }
        tensors["background"] = None if background is None else background.detach().contiguous()
        tensors["weights"] = weights.detach().contiguous()
        keep = any(ctx.needs_input_grad[: len(_NAMES) + 1])
        exposure = _exposure(tensors, camera, degree, flags | (_KEEP if keep else 0))
        shape = (camera.height, camera.width)
        image = torch.empty(*shape, 3)
        alpha, depth = torch.empty(shape), torch.empty(shape)
        visible = torch.empty(means.shape[0], dtype=torch.uint8) if statistics is not None else None
        lease = _Lease(library)
        images = native.Images(
            image=image.data_ptr(), alpha=alpha.data_ptr(), depth=depth.data_ptr(),
            visible=visible.data_ptr() if visible is not None and visible.numel() else None,
        )  # fmt: skip
        status = library.deblurgs_cpu_forward(
            lease.handle, ctypes.byref(exposure), ctypes.byref(images), native.threads()
        )
        _check(status, library, lease.handle)
        if statistics is not None and visible is not None:
            statistics.visible = visible.bool()
        if keep:
            # Saved the official way, so that torch notices inputs changed between forward and backward.
            ctx.save_for_backward(*(t for t in (*values, background) if t is not None))
            ctx.lease, ctx.tensors, ctx.exposure, ctx.statistics = lease, tensors, exposure, statistics
        ctx.mark_non_differentiable(alpha, depth)
        ctx.set_materialize_grads(False)
        return image, alpha, depth

    @staticmethod
    def backward(ctx: Any, *output_gradients: Tensor | None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        image_gradient = output_gradients[0]
        if image_gradient is None:
            return (None,) * 13
        if ctx.lease is None:
            raise RuntimeError("the backward of an exposure can run only once: render it again")
        _ = ctx.saved_tensors  # Raises when an input was modified in place since the forward pass.
        library, tensors, statistics = ctx.lease.library, ctx.tensors, ctx.statistics
        gradient = image_gradient.contiguous()
        names = (*_NAMES, "background")
        out = {
            name: torch.empty_like(tensors[name])
            for name, needed in zip(names, ctx.needs_input_grad, strict=False)
            if needed and tensors[name] is not None
        }
        if statistics is not None:
            out["gradient_px"] = torch.zeros(tensors["means"].shape[0])
        gradients = native.Gradients(**{name: t.data_ptr() for name, t in out.items() if t.numel()})
        status = library.deblurgs_cpu_backward(
            ctx.lease.handle,
            ctypes.byref(ctx.exposure),
            gradient.data_ptr(),
            ctypes.byref(gradients),
            native.threads(),
        )
        _check(status, library, ctx.lease.handle)
        if statistics is not None:
            statistics.gradient_px = out.pop("gradient_px")
        ctx.lease = ctx.tensors = None
        return (*(out.get(name) for name in names), None, None, None, None, None)
