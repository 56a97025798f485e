"""Gradients of the reference against finite differences, with the smooth cut-off that makes them comparable."""

import math
from dataclasses import replace

import pytest
import torch
from raster_scenes import (
    CAMERA,
    F64,
    eye,
    one_gaussian,
    one_view,
    random_poses,
    random_scene,
)
from torch import Tensor

from deblurgs.math.sh import SH_C0
from deblurgs.raster.api import FRUSTUM_MARGIN, TRANSMITTANCE_STOP, ScreenStatistics
from deblurgs.raster.reference import render_exposure


def gradient_problem(antialiased: bool, generator: torch.Generator):
    """Parameters with names, and a loss of all three outputs that reaches every smooth branch."""
    scene = random_scene(7, generator)
    # The first stands outside the picture, where the Jacobian's clamp acts; the next five are opaque and in a row,
    # which reaches the transmittance stop; the last is around black, where the colour clamp acts.
    scene.means[0] = torch.tensor([6.0, -0.4, 3.0], dtype=F64)
    scene.scales[0] = torch.tensor([2.0, 1.0, 2.0], dtype=F64)
    scene.means[1:6, :2] *= 0.2
    scene.opacities[1:6] = 0.93
    scene.scales[1:6] *= 2.0
    scene.sh0[6] = -0.5 / SH_C0
    poses = random_poses(3, generator)
    # Not quite rigid, because the gradient of all 12 numbers of a pose is promised.
    poses[:, :3] += 0.02 * torch.randn(3, 3, 4, generator=generator, dtype=F64)
    parameters = {
        **{name: getattr(scene, name) for name in ("means", "quats", "scales", "opacities", "sh0", "shN")},
        "viewmats": poses,
        "weights": torch.tensor([0.2, 0.5, 0.3], dtype=F64),
        "background": torch.tensor([0.3, 0.7, 0.1], dtype=F64),
    }
    pull = [torch.randn(12, 16, 3, generator=generator, dtype=F64)]
    pull += [torch.randn(12, 16, generator=generator, dtype=F64) for _ in range(2)]

    def loss(background: Tensor, **others: Tensor) -> Tensor:
        out = render_exposure(
            **others, camera=CAMERA, background=background, antialiased=antialiased, smooth_cutoff=True
        )
        outputs = (out.image, out.alpha, out.depth)
        return torch.stack([(p * x).sum() for p, x in zip(pull, outputs, strict=True)]).sum()

    return parameters, loss


@pytest.mark.parametrize("antialiased", [False, True])
def test_gradients_agree_with_finite_differences(antialiased: bool, generator: torch.Generator) -> None:
    """Every number of every parameter, poses and background included, to 1e-6 of the parameter's largest
    gradient."""
    parameters, loss = gradient_problem(antialiased, generator)
    for value in parameters.values():
        value.requires_grad_(True)
    gradients = torch.autograd.grad(loss(**parameters), list(parameters.values()))
    step = 1e-5
    for (name, value), gradient in zip(parameters.items(), gradients, strict=True):
        assert gradient.isfinite().all()
        flat = value.detach().view(-1)  # shares memory with the parameter
        stride = (
            4 if name == "shN" else 1
        )  # 315 numbers of one kind; every fourth meets all bands and channels.
        slopes = torch.zeros_like(flat)
        with torch.no_grad():
            for i in range(0, flat.numel(), stride):
                kept = float(flat[i])
                flat[i] = kept + step
                above = loss(**parameters)
                flat[i] = kept - step
                slopes[i] = (above - loss(**parameters)) / (2 * step)
                flat[i] = kept
        analytic = gradient.reshape(-1)[::stride]
        error = (slopes[::stride] - analytic).abs().max() / analytic.abs().max()
        assert analytic.abs().max() > 1e-3, name
        assert error < 1e-6, (name, float(error))
    assert torch.equal(gradients[6][:, 3], torch.zeros(3, 4, dtype=F64))  # the last row of a pose is not read


def test_the_gradient_problem_reaches_every_branch(generator: torch.Generator) -> None:
    """Without this, the test above could pass by never meeting what it is about."""
    parameters, _ = gradient_problem(False, generator)
    background = parameters.pop("background")
    hard = render_exposure(**parameters, camera=CAMERA, background=background)
    smooth = render_exposure(**parameters, camera=CAMERA, background=background, smooth_cutoff=True)
    assert hard.alpha.max() > 1 - 2 * TRANSMITTANCE_STOP
    assert 1e-6 < (hard.image - smooth.image).abs().max() < 0.05
    x, _, z = parameters["means"][0]
    assert x / z > 1.2 * FRUSTUM_MARGIN * (CAMERA.width - CAMERA.cx) / CAMERA.fx


def test_hard_and_smooth_gradients_agree_where_nothing_is_cut(generator: torch.Generator) -> None:
    """The definition itself is differentiated by the same code: one broad Gaussian, no pixel near any
    threshold."""
    scene = one_gaussian(0.1, -0.1, 2.0, scale=1.5, opacity=0.6)
    pull = torch.randn(12, 16, 3, generator=generator, dtype=F64)
    gradients = []
    for smooth in (False, True):
        leaves = [tensor.clone().requires_grad_(True) for tensor in scene.tensors()]
        out = render_exposure(*leaves, eye(), torch.ones(1, dtype=F64), CAMERA, smooth_cutoff=smooth)
        gradients.append(torch.autograd.grad((out.image * pull).sum(), leaves[:5]))
    for hard, soft in zip(*gradients, strict=True):
        torch.testing.assert_close(hard, soft, rtol=1e-12, atol=1e-12)


def test_screen_gradient_is_that_of_the_projected_mean() -> None:
    """With one Gaussian, moving its projection is moving the principal point, which can be differenced."""
    scene = one_gaussian(0.2, -0.1, 2.5)
    pull = torch.linspace(-1, 1, 16 * 12 * 3, dtype=F64).reshape(12, 16, 3)
    leaves = [tensor.clone().requires_grad_(True) for tensor in scene.tensors()]
    poses = torch.cat([eye(), eye()])
    weights = torch.tensor([0.25, 0.75], dtype=F64)
    statistics = ScreenStatistics()
    out = render_exposure(
        *leaves, poses, weights, CAMERA, linear_mean=False, statistics=statistics, smooth_cutoff=True
    )
    assert statistics.gradient_px is not None and not statistics.gradient_px.any()
    (out.image * pull).sum().backward()

    def loss(dx: float, dy: float) -> float:
        camera = replace(CAMERA, cx=CAMERA.cx + dx, cy=CAMERA.cy + dy)
        return float((one_view(scene, camera, smooth_cutoff=True).image * pull).sum())

    h = 1e-5
    slope = math.hypot(loss(h, 0) - loss(-h, 0), loss(0, h) - loss(0, -h)) / (2 * h)
    assert float(statistics.gradient_px[0]) == pytest.approx(slope, rel=1e-5)  # (0.25 + 0.75) * slope
    render_exposure(*scene.tensors(), poses, weights, CAMERA, statistics=statistics)
    assert not statistics.gradient_px.any()  # every call starts afresh
