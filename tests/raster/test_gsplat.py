"""The gsplat backend: against a stand-in that renders with our reference, and against gsplat itself on a GPU."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from deblurgs.math.lie import se3_exp
from deblurgs.raster import gsplat as module
from deblurgs.raster.api import EPS2D, NEAR, ScreenStatistics
from deblurgs.raster.gsplat import GsplatBackend
from deblurgs.raster.reference import ReferenceBackend
from deblurgs.scene.camera import Camera

CAMERA = Camera(20, 16, 24.0, 25.0, 10.0, 8.5)


def scene(device: str = "cpu", dtype: torch.dtype = torch.float32) -> tuple[list[Tensor], Tensor, Tensor]:
    g = torch.Generator().manual_seed(5)
    tensors = [
        torch.rand(12, 3, generator=g) * torch.tensor([1.2, 1.0, 1.0]) + torch.tensor([-0.6, -0.5, 1.5]),
        torch.randn(12, 4, generator=g), 0.05 + 0.1 * torch.rand(12, 3, generator=g),
        0.2 + 0.6 * torch.rand(12, generator=g), torch.randn(12, 1, 3, generator=g),
        0.2 * torch.randn(12, 3, 3, generator=g),
    ]  # fmt: skip
    slide = torch.zeros(3, 6)
    slide[:, 0] = torch.tensor([-0.05, 0.0, 0.05])
    poses, weights = se3_exp(slide), torch.tensor([0.25, 0.5, 0.25])
    return (
        [t.to(device, dtype).requires_grad_() for t in tensors],
        poses.to(device, dtype),
        weights.to(device, dtype),
    )


def stand_in(
    means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, colors: Tensor, viewmats: Tensor, Ks: Tensor,
    width: int, height: int, *, near_plane: float, eps2d: float, sh_degree: int, packed: bool, render_mode: str,
    rasterize_mode: str, absgrad: bool,
) -> tuple[Tensor, Tensor, dict[str, Any]]:  # fmt: skip
    """gsplat.rasterization as its documentation has it: [V,H,W,4] colour and depth, [V,H,W,1] alpha, a dictionary."""
    assert (near_plane, eps2d, packed, render_mode, absgrad) == (NEAR, EPS2D, False, "RGB+D", False)
    assert colors.shape == (means.shape[0], (sh_degree + 1) ** 2, 3) and Ks.shape == (len(viewmats), 3, 3)
    k = Ks[0]
    camera = Camera(width, height, float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2]))
    views = [
        ReferenceBackend().render_exposure(
            means, quats, scales, opacities, colors[:, :1], colors[:, 1:], pose[None], pose.new_ones(1), camera,
            sh_degree=sh_degree, linear_mean=False, antialiased=rasterize_mode == "antialiased",
        )
        for pose in viewmats
    ]  # fmt: skip
    pictures = torch.stack([torch.cat([v.image, v.depth[..., None]], -1) for v in views])
    means2d = means[None, :, :2].expand(len(viewmats), -1, -1) * 1.0
    radii = torch.ones(len(viewmats), means.shape[0], 2, dtype=torch.int32)
    radii[:, 0] = 0
    # A path of the gradient through the projected means, as in gsplat.
    pictures = pictures + 0.0 * means2d.sum()
    return pictures, torch.stack([v.alpha[..., None] for v in views]), {"means2d": means2d, "radii": radii}


@pytest.mark.parametrize(("linear_mean", "antialiased"), [(True, False), (False, True)])
def test_views_are_batched_then_averaged_as_the_contract_says(
    monkeypatch: pytest.MonkeyPatch, linear_mean: bool, antialiased: bool
) -> None:
    monkeypatch.setattr(module, "_library", lambda: (SimpleNamespace(rasterization=stand_in), ""))
    tensors, poses, weights = scene()
    background = torch.tensor([0.2, 0.5, 0.8])
    settings: dict[str, Any] = {
        "background": background, "sh_degree": None, "linear_mean": linear_mean, "antialiased": antialiased,
    }  # fmt: skip
    statistics = ScreenStatistics()
    found = GsplatBackend().render_exposure(
        *tensors, poses, weights, CAMERA, statistics=statistics, **settings
    )
    wanted = ReferenceBackend().render_exposure(*tensors, poses, weights, CAMERA, **settings)
    for name in ("image", "alpha", "depth"):
        torch.testing.assert_close(getattr(found, name), getattr(wanted, name), rtol=1e-4, atol=1e-5)
    assert statistics.visible is not None and statistics.visible.tolist() == [False] + [True] * 11
    found.image.sum().backward()
    assert statistics.gradient_px is not None and statistics.gradient_px.shape == (12,)
    assert not found.depth.requires_grad


def test_it_says_why_it_cannot_be_used() -> None:
    reason = GsplatBackend().available()
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    assert reason is not None and "NVIDIA GPUs only" in reason
    with pytest.raises(RuntimeError, match="NVIDIA GPUs only"):
        tensors, poses, weights = scene()
        GsplatBackend().render_exposure(*tensors, poses, weights, CAMERA)


@pytest.mark.gpu
def test_gsplat_itself_agrees_with_the_reference() -> None:
    backend = GsplatBackend()
    if backend.available() is not None:
        pytest.skip(backend.available() or "")
    tensors, poses, weights = scene("cuda:0")
    found = backend.render_exposure(*tensors, poses, weights, CAMERA)
    tensors, poses, weights = scene(dtype=torch.float64)
    wanted = ReferenceBackend().render_exposure(*tensors, poses, weights, CAMERA)
    difference = (found.image.cpu().double() - wanted.image).norm() / wanted.image.norm()
    assert float(difference) < 2e-3
