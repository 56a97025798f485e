"""Comparisons that every backend of the rasterizer is put through, in the numbers of the float64 reference."""

import hashlib
from dataclasses import dataclass

import torch
from raster_scenes import F64, Scene
from torch import Tensor

from deblurgs.raster.api import Rendered
from deblurgs.raster.backend import Backend
from deblurgs.raster.reference import ReferenceBackend
from deblurgs.scene.camera import Camera

NAMES = ("means", "quats", "scales", "opacities", "sh0", "shN", "viewmats", "background")
BACKGROUND = torch.tensor([0.2, 0.5, 0.7], dtype=F64)
WIDE = Camera(37, 21, 30.0, 31.0, 18.0, 11.0)


def as_float32(*tensors: Tensor) -> list[Tensor]:
    """Rounded to float32 but kept in float64, so that both backends see the very same numbers."""
    return [t.float().double() for t in tensors]


def render_with_gradients(
    backend: Backend,
    scene: Scene,
    poses: Tensor,
    weights: Tensor,
    camera: Camera,
    image_gradient: Tensor,
    dtype: torch.dtype,
    device: str = "cpu",
    **options,
) -> tuple[Rendered, dict[str, Tensor]]:
    """Image and gradients of every differentiable argument, all in `dtype` on `device`; returned on the CPU."""
    leaves = [t.to(device, dtype).detach().requires_grad_() for t in (*scene.tensors(), poses, BACKGROUND)]
    rendered = backend.render_exposure(
        *leaves[:7], weights.to(device, dtype), camera, background=leaves[7], **options
    )
    rendered.image.backward(image_gradient.to(device, dtype))
    gradients = {
        n: (t.grad if t.grad is not None else torch.zeros_like(t)).cpu()
        for n, t in zip(NAMES, leaves, strict=True)
    }
    return Rendered(*(t.detach().cpu() for t in (rendered.image, rendered.alpha, rendered.depth))), gradients


def relative(ours: Tensor, exact: Tensor) -> float:
    """Relative L2 error; absolute where the exact one is zero."""
    return float((ours.double() - exact).norm() / exact.norm().clamp(min=1e-12)) if exact.numel() else 0.0


_answers: dict[bytes, tuple[Rendered, dict[str, Tensor]]] = {}


def _reference(
    scene: Scene, poses: Tensor, weights: Tensor, camera: Camera, image_gradient: Tensor, **options
) -> tuple[Rendered, dict[str, Tensor]]:
    """The reference's answer, computed once for all backends that are asked the same."""
    digest = hashlib.sha256(repr((camera, sorted(options.items()))).encode())
    for tensor in (*scene.tensors(), poses, weights, image_gradient):
        digest.update(tensor.contiguous().numpy().tobytes())
    key = digest.digest()
    if key not in _answers:
        arguments = (scene, poses, weights, camera, image_gradient)
        _answers[key] = render_with_gradients(ReferenceBackend(), *arguments, F64, **options)
    return _answers[key]


@dataclass(frozen=True)
class Contract:
    """A backend under test. forgiven: factor on all tolerances; exact: it follows the definition to the letter, hostile
    numbers included; repeatable: to the bit; slow: it gets fewer cases."""

    backend: Backend
    device: str = "cpu"
    forgiven: float = 1.0
    exact: bool = True
    repeatable: bool = True
    slow: bool = False


def compare(
    contract: Contract,
    scene: Scene,
    poses: Tensor,
    camera: Camera,
    g: torch.Generator,
    tolerance: float = 1e-5,
    **options,
) -> None:
    """A backend and the reference on the same numbers: image, alpha and depth to 5e-6, every gradient to `tolerance`,
    all times what the backend is forgiven."""
    weights = torch.rand(poses.shape[0], generator=g, dtype=F64) + 0.1
    scene = Scene(*as_float32(*scene.tensors()))
    poses, weights = as_float32(poses, weights / weights.sum())
    image_gradient = torch.randn(camera.height, camera.width, 3, generator=g, dtype=F64).float().double()
    arguments = (scene, poses, weights, camera, image_gradient)
    exact, exact_gradients = _reference(*arguments, **options)
    ours, gradients = render_with_gradients(
        contract.backend, *arguments, torch.float32, contract.device, **options
    )
    for name in ("image", "alpha"):
        assert (getattr(ours, name).double() - getattr(exact, name)).abs().max() < 5e-6 * contract.forgiven, (
            name
        )
    assert relative(ours.depth, exact.depth) < 5e-6 * contract.forgiven
    errors = {name: relative(gradients[name], exact_gradients[name]) for name in NAMES}
    worst = max(errors, key=lambda name: errors[name])
    assert errors[worst] < tolerance * contract.forgiven, f"{worst} {errors[worst]:.1e}"
