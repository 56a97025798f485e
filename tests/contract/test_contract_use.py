"""How every backend behaves in use: repeatability, refusals, what is and is not computed."""

import pytest
import torch
from backend_checks import Contract, render_with_gradients
from raster_scenes import CAMERA, F64, random_poses, random_scene
from torch import Tensor

from deblurgs.raster.api import ScreenStatistics
from deblurgs.scene.camera import Camera


def scene_on(device: str, num: int, generator: torch.Generator, degree: int) -> list[Tensor]:
    """float32 leaves of a random scene."""
    return [t.float().to(device).requires_grad_() for t in random_scene(num, generator, degree).tensors()]


def poses_on(device: str, num: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """float32 poses, and equal weights."""
    return random_poses(num, generator).float().to(device), torch.full((num,), 1.0 / num, device=device)


def test_same_bits_every_time(contract: Contract) -> None:
    if not contract.repeatable:
        pytest.skip(f"{contract.backend.name} adds up in any order")
    g = torch.Generator().manual_seed(3)
    scene, poses = random_scene(40 if contract.slow else 150, g, 2), random_poses(3, g)
    camera = Camera(50, 36, 45.0, 45.0, 24.0, 18.0)
    image_gradient = torch.randn(36, 50, 3, generator=g, dtype=F64)
    weights = torch.full((3,), 1 / 3, dtype=F64)
    results = []
    # The first exposure of a shape may be measured and the later ones not; the emulation draws another order each time.
    for _ in range(3):
        statistics = ScreenStatistics()
        rendered, gradients = render_with_gradients(
            contract.backend, scene, poses, weights, camera, image_gradient, torch.float32, contract.device,
            statistics=statistics,
        )  # fmt: skip
        screen = (statistics.visible, statistics.gradient_px)
        results.append([rendered.image, rendered.alpha, rendered.depth, *screen, *gradients.values()])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert torch.equal(a, b)


def test_a_non_finite_pose_is_named(exact: Contract, generator: torch.Generator) -> None:
    scene = scene_on(exact.device, 5, generator, 0)
    poses, weights = poses_on(exact.device, 3, generator)
    poses[1, 2, 3] = float("nan")
    with pytest.raises(ValueError, match="view 1"):
        exact.backend.render_exposure(*scene, poses, weights, CAMERA)
        exact.backend.finish()  # type: ignore[attr-defined]  # A GPU is not waited for at once.


def test_other_dtypes_are_refused(exact: Contract, generator: torch.Generator) -> None:
    with pytest.raises(ValueError, match="float32"):
        exact.backend.render_exposure(
            *(t.to(exact.device) for t in random_scene(5, generator, 0).tensors()),
            random_poses(1, generator).to(exact.device),
            torch.ones(1, dtype=F64, device=exact.device),
            CAMERA,
        )


def test_only_wanted_gradients_are_made(contract: Contract, generator: torch.Generator) -> None:
    scene = [t.detach() for t in scene_on(contract.device, 30, generator, 1)]
    poses, weights = poses_on(contract.device, 2, generator)
    poses.requires_grad_()
    contract.backend.render_exposure(*scene, poses, weights, CAMERA).image.sum().backward()
    assert poses.grad is not None and poses.grad[:, :3].any() and not poses.grad[:, 3].any()
    with torch.no_grad():
        assert not contract.backend.render_exposure(*scene, poses, weights, CAMERA).image.requires_grad


def test_two_exposures_before_their_backward(exact: Contract, generator: torch.Generator) -> None:
    """The state of an exposure is its own: interleaved graphs give what separate ones give."""
    scene = scene_on(exact.device, 50, generator, 1)
    poses, _ = poses_on(exact.device, 2, generator)
    one = torch.ones(1, device=exact.device)
    separate = []
    for v in range(2):
        image = exact.backend.render_exposure(*scene, poses[v : v + 1], one, CAMERA).image
        separate.append(torch.autograd.grad(image.square().sum(), scene[:5]))
    first = exact.backend.render_exposure(*scene, poses[:1], one, CAMERA).image
    second = exact.backend.render_exposure(*scene, poses[1:], one, CAMERA).image
    for image, wanted in ((first, separate[0]), (second, separate[1])):
        for a, b in zip(torch.autograd.grad(image.square().sum(), scene[:5]), wanted, strict=True):
            assert torch.equal(a, b)


def test_a_second_backward_is_refused(exact: Contract, generator: torch.Generator) -> None:
    scene = scene_on(exact.device, 10, generator, 0)
    image = exact.backend.render_exposure(*scene, *poses_on(exact.device, 1, generator), CAMERA).image
    image.sum().backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="once"):
        image.sum().backward()


def test_an_input_changed_before_the_backward_is_refused(exact: Contract, generator: torch.Generator) -> None:
    scene = scene_on(exact.device, 10, generator, 0)
    image = exact.backend.render_exposure(*scene, *poses_on(exact.device, 1, generator), CAMERA).image
    with torch.no_grad():
        scene[0].add_(1.0)
    with pytest.raises(RuntimeError, match="inplace"):
        image.sum().backward()
