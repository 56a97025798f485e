"""The compiled rasterizer against the float64 reference, itself, and hostile numbers."""

import ctypes
import itertools
import os
import signal
import time
from collections.abc import Iterator

import pytest
import torch
from raster_scenes import CAMERA, F64, Scene, eye, join, one_gaussian, random_poses, random_scene
from torch import Tensor

from deblurgs.raster import api, cpu, native
from deblurgs.raster.api import Rendered, ScreenStatistics
from deblurgs.raster.cpu import CpuBackend
from deblurgs.raster.reference import ReferenceBackend
from deblurgs.scene.camera import Camera

library, reason = native.load()
pytestmark = pytest.mark.skipif(library is None, reason=f"compiled library: {reason}")

NAMES = ("means", "quats", "scales", "opacities", "sh0", "shN", "viewmats", "background")
BACKGROUND = torch.tensor([0.2, 0.5, 0.7], dtype=F64)
WIDE = Camera(37, 21, 30.0, 31.0, 18.0, 11.0)


@pytest.fixture(params=["baseline", "avx2", "avx512"])
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every instruction set that this machine has."""
    assert library is not None
    if library.deblurgs_cpu_select_isa(request.param.encode()) != 0:
        pytest.skip(f"this machine has no {request.param}")
    yield request.param
    library.deblurgs_cpu_select_isa(None)


def as_float32(*tensors: Tensor) -> list[Tensor]:
    """Rounded to float32 but kept in float64, so that both backends see the very same numbers."""
    return [t.float().double() for t in tensors]


def render_with_gradients(
    backend: CpuBackend | ReferenceBackend,
    scene: Scene,
    poses: Tensor,
    weights: Tensor,
    camera: Camera,
    image_gradient: Tensor,
    dtype: torch.dtype,
    **options,
) -> tuple[Rendered, dict[str, Tensor]]:
    """Image and gradients of every differentiable argument, all in `dtype`."""
    leaves = [t.to(dtype).detach().requires_grad_() for t in (*scene.tensors(), poses, BACKGROUND)]
    rendered = backend.render_exposure(
        *leaves[:7], weights.to(dtype), camera, background=leaves[7], **options
    )
    rendered.image.backward(image_gradient.to(dtype))
    gradients = {
        n: t.grad if t.grad is not None else torch.zeros_like(t) for n, t in zip(NAMES, leaves, strict=True)
    }
    return rendered, gradients


def relative(ours: Tensor, exact: Tensor) -> float:
    """Relative L2 error; absolute where the exact one is zero."""
    return float((ours.double() - exact).norm() / exact.norm().clamp(min=1e-12)) if exact.numel() else 0.0


def compare(
    scene: Scene, poses: Tensor, camera: Camera, g: torch.Generator, tolerance: float = 1e-5, **options
):
    """Both backends on the same numbers: image, alpha and depth to 5e-6, every gradient to `tolerance`."""
    weights = torch.rand(poses.shape[0], generator=g, dtype=F64) + 0.1
    scene = Scene(*as_float32(*scene.tensors()))
    poses, weights = as_float32(poses, weights / weights.sum())
    image_gradient = torch.randn(camera.height, camera.width, 3, generator=g, dtype=F64).float().double()
    arguments = (scene, poses, weights, camera, image_gradient)
    exact, exact_gradients = render_with_gradients(ReferenceBackend(), *arguments, F64, **options)
    ours, gradients = render_with_gradients(CpuBackend(), *arguments, torch.float32, **options)
    for name in ("image", "alpha"):
        assert (getattr(ours, name).double() - getattr(exact, name)).abs().max() < 5e-6, name
    assert relative(ours.depth, exact.depth.detach()) < 5e-6
    errors = {name: relative(gradients[name], exact_gradients[name]) for name in NAMES}
    worst = max(errors, key=lambda name: errors[name])
    assert errors[worst] < tolerance, f"{worst} {errors[worst]:.1e}"


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("antialiased", [False, True])
@pytest.mark.parametrize("linear_mean", [False, True])
def test_agrees_with_the_reference(
    degree: int, antialiased: bool, linear_mean: bool, isa: str, generator: torch.Generator
) -> None:
    scene, poses = random_scene(60, generator, degree), random_poses(3, generator)
    compare(scene, poses, WIDE, generator, antialiased=antialiased, linear_mean=linear_mean)


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (17, 33), (64, 5), (3, 70)])
@pytest.mark.parametrize("num_views", [1, 2, 5])
def test_picture_sizes(size: tuple[int, int], num_views: int, isa: str, generator: torch.Generator) -> None:
    width, height = size
    camera = Camera(width, height, 40.0, 38.0, 0.45 * width, 0.55 * height)
    # A single pixel averages no rounding errors away.
    compare(random_scene(40, generator, 1), random_poses(num_views, generator), camera, generator, 3e-5)


def test_more_gaussians_than_a_chunk_or_a_task(isa: str, generator: torch.Generator) -> None:
    scene = random_scene(1100, generator, 0)
    thin = Scene(*scene.tensors()[:2], 0.15 * scene.scales, 0.4 * scene.opacities, scene.sh0, scene.shN)
    compare(thin, random_poses(2, generator), WIDE, generator, tolerance=2e-5)


def test_lower_degree_than_stored(isa: str, generator: torch.Generator) -> None:
    compare(random_scene(30, generator, 3), random_poses(2, generator), CAMERA, generator, 2e-5, sh_degree=1)


def test_opaque_and_over_opaque_gaussians(isa: str, generator: torch.Generator) -> None:
    scene = random_scene(30, generator, 0)
    scene.opacities[::3] = 0.9999
    scene.opacities[1::3] = 7.0
    compare(scene, random_poses(2, generator), CAMERA, generator, tolerance=3e-5)


def test_black_colours_pass_no_gradient(isa: str, generator: torch.Generator) -> None:
    scene = random_scene(30, generator, 2)
    scene.sh0[::2] -= 3.0
    compare(scene, random_poses(2, generator), CAMERA, generator)


def test_beyond_the_frustum_margin(isa: str, generator: torch.Generator) -> None:
    """The clamped Jacobian has its own gradient, and large Gaussians beside the picture reach into it."""
    scene = random_scene(40, generator, 0)
    scene.means[:, 0] += 3.0
    compare(
        Scene(scene.means, scene.quats, 3.0 * scene.scales, scene.opacities, scene.sh0, scene.shN),
        random_poses(2, generator), CAMERA, generator, tolerance=2e-5,
    )  # fmt: skip


def test_giant_and_tiny_gaussians(isa: str, generator: torch.Generator) -> None:
    scene = random_scene(20, generator, 0)
    scene.scales[:4] = 50.0
    scene.scales[4:8] = 1e-6
    scene.scales[8:10] = 0.0
    compare(scene, random_poses(1, generator), WIDE, generator, tolerance=3e-5)


def test_nothing_to_draw(isa: str, generator: torch.Generator) -> None:
    """No Gaussians, or all of them behind the camera: the background, and zero gradients."""
    behind = random_scene(20, generator, 1)
    behind.means[:, 2] *= -1
    for scene in (random_scene(0, generator, 1), behind):
        for linear_mean in (True, False):
            compare(scene, random_poses(2, generator), WIDE, generator, linear_mean=linear_mean)


def test_statistics(isa: str, generator: torch.Generator) -> None:
    scene = random_scene(50, generator, 1)
    scene.means[:10, 0] += 40.0
    scene = Scene(*as_float32(*scene.tensors()))
    (poses,) = as_float32(random_poses(3, generator))
    weights = torch.tensor([0.25, 0.5, 0.25], dtype=F64)
    image_gradient = torch.randn(12, 16, 3, generator=generator, dtype=F64).float().double()
    exact, ours = ScreenStatistics(), ScreenStatistics()
    arguments = (scene, poses, weights, CAMERA, image_gradient)
    render_with_gradients(ReferenceBackend(), *arguments, F64, statistics=exact)
    render_with_gradients(CpuBackend(), *arguments, torch.float32, statistics=ours)
    assert ours.visible is not None and ours.gradient_px is not None
    assert exact.visible is not None and exact.gradient_px is not None
    assert torch.equal(ours.visible, exact.visible)
    assert 0 < int(ours.visible.sum()) < 50
    assert ours.gradient_px.dtype == torch.float32
    assert relative(ours.gradient_px, exact.gradient_px.double()) < 1e-5


def test_same_bits_for_any_number_of_threads(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    g = torch.Generator().manual_seed(3)
    scene, poses = random_scene(1500, g, 2), random_poses(4, g)
    camera = Camera(90, 70, 80.0, 80.0, 44.0, 36.0)
    image_gradient = torch.randn(70, 90, 3, generator=g, dtype=F64)
    results = []
    for threads in ("1", "2", "3", "2"):
        monkeypatch.setenv("DEBLURGS_THREADS", threads)
        statistics = ScreenStatistics()
        rendered, gradients = render_with_gradients(
            CpuBackend(), scene, poses, torch.full((4,), 0.25, dtype=F64), camera, image_gradient, torch.float32,
            statistics=statistics,
        )  # fmt: skip
        results.append(
            [
                rendered.image,
                rendered.alpha,
                rendered.depth,
                statistics.visible,
                statistics.gradient_px,
                *gradients.values(),
            ]
        )
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert a is not None and b is not None and torch.equal(a, b)


def test_order_of_gaussians_does_not_matter(generator: torch.Generator) -> None:
    scene, poses = random_scene(80, generator, 1), random_poses(2, generator)
    shuffle = torch.randperm(80, generator=generator)
    image_gradient = torch.randn(12, 16, 3, generator=generator, dtype=F64)
    half = torch.full((2,), 0.5, dtype=F64)
    a, a_gradients = render_with_gradients(
        CpuBackend(), scene, poses, half, CAMERA, image_gradient, torch.float32
    )
    b, b_gradients = render_with_gradients(
        CpuBackend(), scene[shuffle], poses, half, CAMERA, image_gradient, torch.float32
    )
    torch.testing.assert_close(a.image, b.image, rtol=0, atol=2e-6)
    assert relative(b_gradients["means"], a_gradients["means"][shuffle].double()) < 1e-5


POISON = [
    float("nan"), float("inf"), -float("inf"), 1e-40, -1e-40, 3.4028235e38, -3.4028235e38, 1e20, 0.0, -1.0,
    0.01, 1 / 255, 0.99, 1e-30,
]  # fmt: skip


@pytest.mark.parametrize("field", ["means", "quats", "scales", "opacities", "sh0", "shN"])
def test_poison_stays_where_it_is(field: str, isa: str, generator: torch.Generator) -> None:
    """A hostile number in one Gaussian: others keep finite gradients, and a dropped one leaves no trace."""
    healthy, victim = random_scene(40, generator, 2), random_scene(1, generator, 2)
    victim.means[0] = torch.tensor([0.0, 0.0, 3.0])
    poses = random_poses(2, generator)
    half = torch.full((2,), 0.5, dtype=F64)
    image_gradient = torch.randn(12, 16, 3, generator=generator, dtype=F64)
    alone, alone_gradients = render_with_gradients(
        CpuBackend(), healthy, poses, half, CAMERA, image_gradient, torch.float32
    )
    for value in POISON:
        columns = getattr(victim, field)[0].numel()
        for column in range(min(columns, 4)):
            poisoned = Scene(*(t.clone() for t in victim.tensors()))
            getattr(poisoned, field).view(-1)[column] = value
            # In the middle, so that it shares vectors with healthy neighbours.
            scene = join(healthy[torch.arange(20)], poisoned, healthy[torch.arange(20, 40)])
            rendered, gradients = render_with_gradients(
                CpuBackend(), scene, poses, half, CAMERA, image_gradient, torch.float32, antialiased=False
            )
            rest = torch.arange(41) != 20
            label = f"{field}[{column}] = {value}"
            extreme = field in ("sh0", "shN") and 1e19 < abs(value) < float("inf")
            assert extreme or rendered.image.isfinite().all(), label
            for name, gradient in gradients.items():
                kept = gradient[rest] if name in NAMES[:6] else gradient
                assert kept.isfinite().all(), f"{name} with {label}"
            if value != value or abs(value) == float("inf"):
                assert torch.equal(rendered.image, alone.image), label
                for name in NAMES[:6]:
                    assert not gradients[name][20].any(), f"{name} with {label}"
                    torch.testing.assert_close(
                        gradients[name][rest], alone_gradients[name], rtol=1e-4, atol=1e-5
                    )


def test_thousands_of_hostile_scenes(isa: str) -> None:
    """Random mixtures of hostile numbers everywhere, poses included where they are finite: no crash, no NaN image
    from finite colours."""
    g = torch.Generator().manual_seed(11)
    poison = torch.tensor([*POISON, 1e10, 16.0, 15.5, 255.0, 1e-3], dtype=torch.float32)
    camera = Camera(33, 18, 20.0, 22.0, 16.0, 8.5)
    for _ in range(150):
        tensors = [t.float() for t in random_scene(37, g, 1).tensors()]
        for tensor in tensors:
            hit = torch.rand(tensor.shape, generator=g) < 0.1
            tensor[hit] = poison[torch.randint(len(poison), (int(hit.sum()),), generator=g)]
        poses = random_poses(2, g).float()
        poses[0, 0, 3] = float(poison[torch.randint(3, len(poison), (1,), generator=g)])
        leaves = [t.requires_grad_() for t in (*tensors, poses)]
        rendered = CpuBackend().render_exposure(*leaves, torch.full((2,), 0.5), camera, antialiased=True)
        rendered.image.sum().backward()
        assert rendered.alpha.isfinite().all()
        assert rendered.alpha.min() >= 0.0 and rendered.alpha.max() <= 1.0 + 1e-6
        assert leaves[3].grad is not None


def test_thresholds_and_tile_edges(isa: str) -> None:
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
    compare(scene, eye(), WIDE, torch.Generator().manual_seed(2), tolerance=5e-5)


def test_wide_gaussians_cover_every_pixel_of_a_large_picture(isa: str) -> None:
    """One Gaussian over many tiles: the ellipse test may not lose a pixel that the reference draws."""
    scene = one_gaussian(0.1, -0.05, 2.0, 0.02, 0.9)
    scene.scales[0] = torch.tensor([1.0, 0.004, 0.3])
    scene.quats[0] = torch.tensor([0.9, 0.1, 0.2, 0.35])
    camera = Camera(150, 130, 90.0, 90.0, 70.0, 60.0)
    # The gradient of the thin axis is a difference of large numbers.
    compare(scene, eye(), camera, torch.Generator().manual_seed(5), tolerance=2e-4)


def test_constants_are_those_of_the_border() -> None:
    assert library is not None
    names = ("NEAR", "EPS2D", "FRUSTUM_MARGIN", "ALPHA_CUTOFF", "OPACITY_MAX", "TRANSMITTANCE_STOP")
    for name in names:
        expected = ctypes.c_float(getattr(api, name)).value
        assert library.deblurgs_constant(name.encode()) == expected, name
    assert library.deblurgs_constant(b"NO_SUCH") != library.deblurgs_constant(b"NO_SUCH")
    assert library.deblurgs_abi_version() == native.ABI_VERSION


def test_a_non_finite_pose_is_named(generator: torch.Generator) -> None:
    scene, poses = random_scene(5, generator, 0), random_poses(3, generator).float()
    poses[1, 2, 3] = float("nan")
    with pytest.raises(ValueError, match="view 1"):
        CpuBackend().render_exposure(*(t.float() for t in scene.tensors()), poses, torch.ones(3) / 3, CAMERA)


def test_the_library_names_a_bad_pose_itself(generator: torch.Generator) -> None:
    assert library is not None
    tensors: dict[str, Tensor | None] = dict(
        zip(NAMES[:5], [t.float() for t in random_scene(5, generator, 0).tensors()[:5]], strict=True)
    )
    poses = random_poses(3, generator).float()
    poses[2, 0, 0] = float("inf")
    weights, image = torch.ones(3) / 3, torch.empty(12, 16, 3)
    tensors |= {"sh_rest": torch.empty(5, 0, 3), "viewmats": poses, "weights": weights, "background": None}
    exposure = cpu._exposure(tensors, CAMERA, 0, 0)
    images = native.Images(image=image.data_ptr())
    handle = library.deblurgs_cpu_create()
    try:
        assert library.deblurgs_cpu_forward(handle, ctypes.byref(exposure), ctypes.byref(images), 1) == 2
        assert library.deblurgs_cpu_bad_view(handle) == 2
        gradients = native.Gradients()
        status = library.deblurgs_cpu_backward(
            handle, ctypes.byref(exposure), image.data_ptr(), ctypes.byref(gradients), 1
        )
        assert status == 5  # a backward without a forward that kept its state
        for change in ({"width": 0}, {"height": 40_000}, {"sh_degree": 4}, {"num_views": 0}, {"fx": 0.0}):
            wrong = cpu._exposure(tensors, CAMERA, 0, 0)
            for field, value in change.items():
                setattr(wrong, field, value)
            status = library.deblurgs_cpu_forward(handle, ctypes.byref(wrong), ctypes.byref(images), 1)
            assert status == 1, change
    finally:
        library.deblurgs_cpu_destroy(handle)


def test_other_dtypes_are_refused(generator: torch.Generator) -> None:
    with pytest.raises(ValueError, match="float32"):
        CpuBackend().render_exposure(
            *random_scene(5, generator, 0).tensors(),
            random_poses(1, generator),
            torch.ones(1, dtype=F64),
            CAMERA,
        )


def test_only_wanted_gradients_are_made(generator: torch.Generator) -> None:
    scene = [t.float() for t in random_scene(30, generator, 1).tensors()]
    poses = random_poses(2, generator).float().requires_grad_()
    half = torch.full((2,), 0.5)
    rendered = CpuBackend().render_exposure(*scene, poses, half, CAMERA)
    rendered.image.sum().backward()
    assert poses.grad is not None and poses.grad[:, :3].any() and not poses.grad[:, 3].any()
    with torch.no_grad():
        assert not CpuBackend().render_exposure(*scene, poses, half, CAMERA).image.requires_grad


def test_two_exposures_before_their_backward(generator: torch.Generator) -> None:
    """The state of an exposure is its own: interleaved graphs give what separate ones give."""
    scene = [t.float().requires_grad_() for t in random_scene(50, generator, 1).tensors()]
    poses, one = random_poses(2, generator).float(), torch.ones(1)
    separate = []
    for v in range(2):
        image = CpuBackend().render_exposure(*scene, poses[v : v + 1], one, CAMERA).image
        separate.append(torch.autograd.grad(image.square().sum(), scene[:5]))
    first = CpuBackend().render_exposure(*scene, poses[:1], one, CAMERA).image
    second = CpuBackend().render_exposure(*scene, poses[1:], one, CAMERA).image
    for image, wanted in ((first, separate[0]), (second, separate[1])):
        for a, b in zip(torch.autograd.grad(image.square().sum(), scene[:5]), wanted, strict=True):
            assert torch.equal(a, b)


def test_a_second_backward_is_refused(generator: torch.Generator) -> None:
    scene = [t.float().requires_grad_() for t in random_scene(10, generator, 0).tensors()]
    poses = random_poses(1, generator).float()
    image = CpuBackend().render_exposure(*scene, poses, torch.ones(1), CAMERA).image
    image.sum().backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="once"):
        image.sum().backward()


def test_scratch_memory_is_bounded_and_reused(generator: torch.Generator) -> None:
    """Kept per view: 64 B per Gaussian, 12 B per pixel, 6 B per (tile, Gaussian) entry. Nothing more, and no growth."""
    assert library is not None
    scene = [t.float().requires_grad_() for t in random_scene(3000, generator, 0).tensors()]
    camera = Camera(64, 48, 60.0, 60.0, 32.0, 24.0)

    def held(num_views: int, handle: int) -> int:
        # The last idle handle is the next to be used.
        cpu._idle[:] = [*(other for other in cpu._idle if other != handle), handle]
        poses = random_poses(num_views, torch.Generator().manual_seed(1)).float()
        weights = torch.full((num_views,), 1.0 / num_views)
        CpuBackend().render_exposure(*scene, poses, weights, camera).image.sum().backward()
        assert handle in cpu._idle
        return library.deblurgs_cpu_bytes(handle)

    handle = library.deblurgs_cpu_create()
    try:
        four = held(4, handle)
        twenty = held(20, handle)
        again = max(held(20, handle) for _ in range(5))
        entries = 3000 * 12  # every Gaussian on every one of the 12 tiles at most
        per_view = 1.11 * (64 * 3000 + 12 * 64 * 48 + 6 * entries) + 8192
        assert (twenty - four) / 16 < per_view
        # A worker that came too late to sort anything at first gets its sorting space (24 B per Gaussian) later.
        late_workers = (native.threads() - 1) * (1.11 * 24 * 3000 + 8192)
        assert twenty <= again <= twenty + late_workers
    finally:
        cpu._idle.remove(handle)
        library.deblurgs_cpu_destroy(handle)


def test_a_forked_child_has_threads_of_its_own(
    generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool's threads do not survive a fork; the child must neither wait for them nor give other pixels."""
    monkeypatch.setenv("DEBLURGS_THREADS", "3")
    scene, poses = (
        [t.float() for t in random_scene(600, generator, 0).tensors()],
        random_poses(2, generator).float(),
    )
    arguments = (*scene, poses, torch.full((2,), 0.5), WIDE)
    before = CpuBackend().render_exposure(*arguments).image
    child = os.fork()
    if child == 0:
        same = torch.equal(CpuBackend().render_exposure(*arguments).image, before)
        os._exit(0 if same else 1)
    for _ in range(1000):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.02)
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        pytest.fail("the child hung")
    assert os.waitstatus_to_exitcode(status) == 0
