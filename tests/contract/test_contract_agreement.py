"""Every backend against the float64 reference: pictures, gradients of everything, poses included."""

import itertools

import pytest
import torch
from backend_checks import (
    WIDE,
    Contract,
    as_float32,
    compare,
    relative,
    render_with_gradients,
)
from raster_scenes import CAMERA, F64, Scene, eye, join, one_gaussian, random_poses, random_scene

from deblurgs.raster import api
from deblurgs.raster.api import ScreenStatistics
from deblurgs.raster.reference import ReferenceBackend
from deblurgs.scene.camera import Camera


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("antialiased", [False, True])
@pytest.mark.parametrize("linear_mean", [False, True])
def test_agrees_with_the_reference(
    degree: int, antialiased: bool, linear_mean: bool, contract: Contract, generator: torch.Generator
) -> None:
    if contract.slow and antialiased != linear_mean:
        pytest.skip("fewer cases where one takes a second")
    scene, poses = random_scene(60, generator, degree), random_poses(3, generator)
    compare(contract, scene, poses, WIDE, generator, antialiased=antialiased, linear_mean=linear_mean)


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (17, 33), (64, 5), (3, 70)])
@pytest.mark.parametrize("num_views", [1, 2, 5])
def test_picture_sizes(
    size: tuple[int, int], num_views: int, exact: Contract, generator: torch.Generator
) -> None:
    if exact.slow and num_views == 5:
        pytest.skip("fewer cases where one takes a second")
    width, height = size
    camera = Camera(width, height, 40.0, 38.0, 0.45 * width, 0.55 * height)
    # A single pixel averages no rounding errors away.
    compare(
        exact, random_scene(40, generator, 1), random_poses(num_views, generator), camera, generator, 3e-5
    )


def test_more_gaussians_than_a_chunk_or_a_task(exact: Contract, generator: torch.Generator) -> None:
    scene = random_scene(300 if exact.slow else 1100, generator, 0)
    thin = Scene(*scene.tensors()[:2], 0.15 * scene.scales, 0.4 * scene.opacities, scene.sh0, scene.shN)
    compare(exact, thin, random_poses(2, generator), WIDE, generator, tolerance=2e-5)


def test_lower_degree_than_stored(exact: Contract, generator: torch.Generator) -> None:
    compare(
        exact,
        random_scene(30, generator, 3),
        random_poses(2, generator),
        CAMERA,
        generator,
        2e-5,
        sh_degree=1,
    )


def test_opaque_and_over_opaque_gaussians(exact: Contract, generator: torch.Generator) -> None:
    scene = random_scene(30, generator, 0)
    scene.opacities[::3] = 0.9999
    scene.opacities[1::3] = 7.0
    compare(exact, scene, random_poses(2, generator), CAMERA, generator, tolerance=3e-5)


def test_black_colours_pass_no_gradient(exact: Contract, generator: torch.Generator) -> None:
    scene = random_scene(30, generator, 2)
    scene.sh0[::2] -= 3.0
    compare(exact, scene, random_poses(2, generator), CAMERA, generator)


def test_beyond_the_frustum_margin(exact: Contract, generator: torch.Generator) -> None:
    """The clamped Jacobian has its own gradient, and large Gaussians beside the picture reach into it."""
    scene = random_scene(40, generator, 0)
    scene.means[:, 0] += 3.0
    compare(exact,
        Scene(scene.means, scene.quats, 3.0 * scene.scales, scene.opacities, scene.sh0, scene.shN),
        random_poses(2, generator), CAMERA, generator, tolerance=2e-5,
    )  # fmt: skip


def test_giant_and_tiny_gaussians(exact: Contract, generator: torch.Generator) -> None:
    scene = random_scene(20, generator, 0)
    scene.scales[:4] = 50.0
    scene.scales[4:8] = 1e-6
    scene.scales[8:10] = 0.0
    compare(exact, scene, random_poses(1, generator), WIDE, generator, tolerance=3e-5)


def test_nothing_to_draw(exact: Contract, generator: torch.Generator) -> None:
    """No Gaussians, or all of them behind the camera: the background, and zero gradients."""
    behind = random_scene(20, generator, 1)
    behind.means[:, 2] *= -1
    for scene in (random_scene(0, generator, 1), behind):
        for linear_mean in (True, False):
            compare(exact, scene, random_poses(2, generator), WIDE, generator, linear_mean=linear_mean)


def test_statistics(exact: Contract, generator: torch.Generator) -> None:
    scene = random_scene(50, generator, 1)
    scene.means[:10, 0] += 40.0
    scene = Scene(*as_float32(*scene.tensors()))
    (poses,) = as_float32(random_poses(3, generator))
    weights = torch.tensor([0.25, 0.5, 0.25], dtype=F64)
    image_gradient = torch.randn(12, 16, 3, generator=generator, dtype=F64).float().double()
    wanted, ours = ScreenStatistics(), ScreenStatistics()
    arguments = (scene, poses, weights, CAMERA, image_gradient)
    render_with_gradients(ReferenceBackend(), *arguments, F64, statistics=wanted)
    render_with_gradients(exact.backend, *arguments, torch.float32, exact.device, statistics=ours)
    assert ours.visible is not None and ours.gradient_px is not None
    assert wanted.visible is not None and wanted.gradient_px is not None
    assert torch.equal(ours.visible.cpu(), wanted.visible)
    assert 0 < int(ours.visible.sum()) < 50
    assert ours.gradient_px.dtype == torch.float32
    assert relative(ours.gradient_px.cpu(), wanted.gradient_px.double()) < 1e-5 * exact.forgiven


def test_order_of_gaussians_does_not_matter(exact: Contract, generator: torch.Generator) -> None:
    scene, poses = random_scene(80, generator, 1), random_poses(2, generator)
    shuffle = torch.randperm(80, generator=generator)
    image_gradient = torch.randn(12, 16, 3, generator=generator, dtype=F64)
    half = torch.full((2,), 0.5, dtype=F64)
    a, a_gradients = render_with_gradients(
        exact.backend, scene, poses, half, CAMERA, image_gradient, torch.float32, exact.device
    )
    b, b_gradients = render_with_gradients(
        exact.backend, scene[shuffle], poses, half, CAMERA, image_gradient, torch.float32, exact.device
    )
    torch.testing.assert_close(a.image, b.image, rtol=0, atol=2e-6)
    assert relative(b_gradients["means"], a_gradients["means"][shuffle].double()) < 1e-5


def test_thresholds_and_tile_edges(exact: Contract) -> None:
    """Means exactly on tile borders and pixel centres, at the near plane, opacities at the cut-off."""
    scenes = []
    for x, y in itertools.product((0.0, 7.5, 15.5, 16.0, 16.5, 32.0), (0.0, 8.0, 15.5, 16.0)):
        scenes.append(one_gaussian((x - 18.0) / 10.0, (y - 11.0) / 31.0 * 3.0, 3.0, 0.05, 0.5))
    scenes += [one_gaussian(0.0, 0.0, 1.001 * api.NEAR, 0.001, 0.5)]
    scenes += [
        one_gaussian(0.0, 0.0, 0.999 * api.NEAR, 0.001, 0.5),
        one_gaussian(0.0, 0.0, 1.0, 0.1, 1 / 254),
    ]
    scene = join(*scenes)
    scene.scales.mul_(torch.tensor([1.0, 0.6, 1.5], dtype=F64))  # Spheres would have no gradient of rotation.
    compare(exact, scene, eye(), WIDE, torch.Generator().manual_seed(2), tolerance=5e-5)


def test_wide_gaussians_cover_every_pixel_of_a_large_picture(exact: Contract) -> None:
    """One Gaussian over many tiles: the ellipse test may not lose a pixel that the reference draws."""
    scene = one_gaussian(0.1, -0.05, 2.0, 0.02, 0.9)
    scene.scales[0] = torch.tensor([1.0, 0.004, 0.3])
    scene.quats[0] = torch.tensor([0.9, 0.1, 0.2, 0.35])
    camera = Camera(150, 130, 90.0, 90.0, 70.0, 60.0)
    # The gradient of the thin axis is a difference of large numbers.
    compare(exact, scene, eye(), camera, torch.Generator().manual_seed(5), tolerance=2e-4)


def test_a_band_of_rows_is_drawn_as_in_the_whole_picture(exact: Contract, generator: torch.Generator) -> None:
    """Also Gaussians whose middle lies far outside the band, where its own margin would clamp their Jacobian."""
    scene, camera = random_scene(60, generator, 1), Camera(48, 80, 60.0, 60.0, 24.0, 40.0)
    scene.scales.mul_(4.0)
    band = camera.rows(32, 48)
    compare(exact, scene, eye(), band, generator, tolerance=5e-5)
    whole, part = (
        ReferenceBackend().render_exposure(*scene.tensors(), eye(), torch.ones(1, dtype=F64), c).image
        for c in (camera, band)
    )
    assert (whole[32:48] - part).abs().max() < 1e-12
