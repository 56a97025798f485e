"""The GPU rasterizer as a backend: torch tensors in, kernels started through a launcher, torch gradients out."""

from typing import Any

import torch
from torch import Tensor

from deblurgs.raster import cuda_plan
from deblurgs.raster.api import Rendered, ScreenStatistics
from deblurgs.raster.backend import check_inputs
from deblurgs.raster.cuda_budget import EntryBudget
from deblurgs.raster.launcher import Launcher
from deblurgs.scene.camera import Camera

_LINEAR_MEAN, _ANTIALIASED = 1, 2
_NAMES = (*cuda_plan.GRADIENTS, "viewmats", "background")
# Rows of records and numbers of tiles are 32-bit; the second dimension of a grid is 16-bit.
_MAX_ROWS, _MAX_SIDE, _MAX_VIEWS, _MAX_PIXELS = 2**31 - 1, 32768, 65535, 2**35


class CudaBackend:
    """float32 tensors on the launcher's device; repeatable to the bit, without atomics on floating-point numbers.

    one_order: sort by depth once per exposure, by its middle view, instead of in every view. Cheaper, but Gaussians
    that pass each other in depth within the exposure are then composited in the middle view's order in all views, so
    the result is no longer exactly the definition's.

    Where the definition lets a non-finite pose raise at once, tensors on a GPU are not waited for: such a view draws
    nothing, and a later call raises, `finish` at the latest.
    """

    name = "cuda"

    def __init__(self, launcher: Launcher, *, one_order: bool = False) -> None:
        self._launcher = launcher
        self._one_order = one_order
        self._budget = EntryBudget()

    def available(self) -> str | None:
        return None

    @property
    def overflows(self) -> int:
        """Exposures left out because they needed far more memory than those before them (see EntryBudget)."""
        return self._budget.overflows

    def finish(self) -> None:
        """Wait for the reports of all exposures. Raises ValueError when one had a non-finite pose."""
        self._budget.receive(everything=True)

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
            wait_for_poses=self._launcher.device.type == "cpu",
        )  # fmt: skip
        if means.dtype != torch.float32 or means.device != self._launcher.device:
            raise ValueError(
                f"means: the cuda backend needs float32 tensors on {self._launcher.device}, got {means.dtype} on"
                f" {means.device}"
            )
        if means.shape[0] * viewmats.shape[0] > _MAX_ROWS:
            raise ValueError(f"means: at most {_MAX_ROWS} Gaussians times views, got {means.shape[0]}")
        if max(camera.width, camera.height) > _MAX_SIDE:
            raise ValueError(f"camera: sides up to {_MAX_SIDE} pixels, got {camera.width}x{camera.height}")
        if viewmats.shape[0] > _MAX_VIEWS or viewmats.shape[0] * camera.width * camera.height > _MAX_PIXELS:
            raise ValueError(
                f"viewmats: {viewmats.shape[0]} views of {camera.width}x{camera.height} are too many"
            )
        flags = (_LINEAR_MEAN if linear_mean else 0) | (_ANTIALIASED if antialiased else 0)
        # Asked here because ctx.needs_input_grad is true for parameters under torch.no_grad() too.
        inputs = (means, quats, scales, opacities, sh0, shN, viewmats, background, weights)
        keep = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs)
        image, alpha, depth = _Exposure.apply(
            means, quats, scales, opacities, sh0, shN, viewmats, background, weights,
            (self._launcher, self._budget, self._one_order), camera, degree, flags, statistics, keep,
        )  # fmt: skip  # type: ignore[misc]
        return Rendered(image, alpha, depth)


class _Exposure(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        means: Tensor,
        quats: Tensor,
        scales: Tensor,
        opacities: Tensor,
        sh0: Tensor,
        sh_rest: Tensor,
        viewmats: Tensor,
        background: Tensor | None,
        weights: Tensor,
        machine: tuple[Launcher, EntryBudget, bool],
        camera: Camera,
        degree: int,
        flags: int,
        statistics: ScreenStatistics | None,
        keep: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        launcher, budget, one_order = machine
        capturing = launcher.device.type == "cuda" and torch.cuda.is_current_stream_capturing()
        if not capturing:
            budget.receive()
        given = (means, quats, scales, opacities, sh0, sh_rest, viewmats, background)
        tensors = {
            name: None if t is None else t.detach().contiguous()
            for name, t in zip(_NAMES, given, strict=True)
        }
        tensors["weights"] = weights.detach().contiguous()
        exposure = cuda_plan.Exposure(tensors, camera, degree, flags, one_order)
        visible = None
        if statistics is not None:
            visible = torch.zeros(means.shape[0], dtype=torch.uint8, device=means.device)
        outputs = cuda_plan.forward(
            launcher, budget, exposure, keep=keep, visible=visible, capturing=capturing
        )
        if statistics is not None and visible is not None:
            statistics.visible = visible.bool()
            statistics.gradient_px = None
        if keep:
            # Saved the official way, so that torch notices inputs changed between forward and backward.
            ctx.save_for_backward(*(t for t in given if t is not None))
            ctx.launcher, ctx.exposure, ctx.statistics = launcher, exposure, statistics
        ctx.mark_non_differentiable(*outputs[1:])
        ctx.set_materialize_grads(False)
        return outputs

    @staticmethod
    def backward(ctx: Any, *output_gradients: Tensor | None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        image_gradient = output_gradients[0]
        if image_gradient is None:
            return (None,) * 15
        if ctx.exposure is None:
            raise RuntimeError("the backward of an exposure can run only once: render it again")
        _ = ctx.saved_tensors  # Raises when an input was modified in place since the forward pass.
        exposure, statistics = ctx.exposure, ctx.statistics
        ctx.exposure = None
        wanted = {
            name
            for name, needed in zip(_NAMES, ctx.needs_input_grad, strict=False)
            if needed and exposure.tensors[name] is not None
        }
        out = cuda_plan.backward(
            ctx.launcher, exposure, image_gradient.contiguous(), wanted, statistics=statistics is not None
        )
        if statistics is not None:
            statistics.gradient_px = out.pop("gradient_px")
        return (*(out.get(name) for name in _NAMES), *(None,) * 7)
