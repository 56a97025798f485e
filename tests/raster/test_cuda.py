"""What is particular to the GPU rasterizer, in its emulation; tests/contract holds it against the reference."""

from collections.abc import Iterator

import pytest
import torch
from backend_checks import WIDE, Contract, compare, render_with_gradients
from emulated_launcher import EmulatedLauncher, unavailable
from raster_scenes import CAMERA, F64, Scene, eye, one_gaussian, random_poses, random_scene
from torch import Tensor

from deblurgs.raster import cuda_budget, cuda_plan
from deblurgs.raster.api import ScreenStatistics
from deblurgs.raster.cuda import CudaBackend
from deblurgs.raster.cuda_sort import sort_pairs
from deblurgs.scene.camera import Camera

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=unavailable() or "")


@pytest.fixture
def garbage() -> Iterator[None]:
    """Memory that nobody has written holds NaN and large numbers."""
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(False)


def rendered(backend: CudaBackend, scene: Scene, poses: Tensor, camera: Camera = WIDE) -> list[Tensor | None]:
    """Everything that an exposure yields: outputs, statistics, gradients."""
    g = torch.Generator().manual_seed(9)
    image_gradient = torch.randn(camera.height, camera.width, 3, generator=g, dtype=F64)
    weights = torch.full((poses.shape[0],), 1.0 / poses.shape[0], dtype=F64)
    statistics = ScreenStatistics()
    out, gradients = render_with_gradients(
        backend, scene, poses, weights, camera, image_gradient, torch.float32, statistics=statistics
    )
    return [out.image, out.alpha, out.depth, statistics.visible, statistics.gradient_px, *gradients.values()]


def assert_same(a: list[Tensor | None], b: list[Tensor | None]) -> None:
    for x, y in zip(a, b, strict=True):
        assert x is not None and y is not None and torch.equal(x, y)


@pytest.mark.parametrize("bits,count", [(8, 70), (17, 70), (32, 9000)])
def test_sorting_is_stable(bits: int, count: int, generator: torch.Generator) -> None:
    keys = torch.randint(0, 2 ** min(bits, 31) - 1, (count,), generator=generator).to(torch.int32)
    keys[::3] = keys[0]
    if bits == 32:
        keys[1::5] = -1  # the largest unsigned number
    values = torch.arange(count, dtype=torch.int32) * 7
    unsigned = keys.long() & 0xFFFFFFFF
    before = keys.clone(), values.clone()
    for seed in range(2):
        launcher = EmulatedLauncher(seed)
        wanted, order = torch.sort(unsigned, stable=True)
        got, places = sort_pairs(launcher, keys, None, bits=bits)
        assert torch.equal(got.long() & 0xFFFFFFFF, wanted) and torch.equal(places.long(), order)
        used = count - 13
        wanted, order = torch.sort(unsigned[:used], stable=True)
        number = torch.tensor([used], dtype=torch.int32)
        got, moved = sort_pairs(launcher, keys, values, bits=bits, count=number)
        assert torch.equal(got[:used].long() & 0xFFFFFFFF, wanted)
        assert torch.equal(moved[:used], values[order])
    assert torch.equal(keys, before[0]) and torch.equal(values, before[1])


def test_the_order_of_threads_and_old_memory_do_not_matter(garbage: None, generator: torch.Generator) -> None:
    scene, poses = random_scene(80, generator, 1), random_poses(2, generator)
    first = rendered(CudaBackend(EmulatedLauncher(1)), scene, poses)
    for seed in (2, 3):
        assert_same(first, rendered(CudaBackend(EmulatedLauncher(seed)), scene, poses))


def test_groups_of_views_do_not_show(monkeypatch: pytest.MonkeyPatch, generator: torch.Generator) -> None:
    """The backward pass takes views in groups when its sums would fill the memory; slots are then reused."""
    scene, poses = random_scene(40, generator, 1), random_poses(5, generator)
    together = EmulatedLauncher(1)
    whole = rendered(CudaBackend(together), scene, poses)
    most = int(1.5 * 40 * 6) * 4 * 9
    monkeypatch.setattr(cuda_plan, "_SUMS_BYTES", most)
    apart = EmulatedLauncher(1)
    assert_same(whole, rendered(CudaBackend(apart), scene, poses))
    assert together.launches.count("deblurgs_raster_backward") == 1
    assert apart.launches.count("deblurgs_raster_backward") > 1


def test_blocks_that_walk_several_views(monkeypatch: pytest.MonkeyPatch, generator: torch.Generator) -> None:
    scene, poses = random_scene(40, generator, 1), random_poses(5, generator)
    for busy in (1, 13):  # one group, and two of three and two views
        monkeypatch.setattr(cuda_plan, "_BUSY_BLOCKS", busy)
        compare(Contract(CudaBackend(EmulatedLauncher(busy))), scene, poses, WIDE, generator, 2e-5)


def test_one_order_for_the_whole_exposure(generator: torch.Generator) -> None:
    """Equal where the order is the same in all views; and where not, the middle view's order is everyone's."""
    scene = random_scene(40, generator, 1)
    scene.means[:, 2] = torch.linspace(2.0, 6.0, 40, dtype=F64)[torch.randperm(40, generator=generator)]
    poses = eye().repeat(3, 1, 1)
    poses[:, 0, 3] = torch.tensor([-0.05, 0.0, 0.05])
    own = rendered(CudaBackend(EmulatedLauncher(1)), scene, poses)
    shared = rendered(CudaBackend(EmulatedLauncher(1), one_order=True), scene, poses)
    assert_same(own, shared)

    behind = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=F64))  # seen from behind, near becomes far
    behind[2, 3] = 8.0
    poses = torch.stack([eye()[0], eye()[0], behind])
    own = rendered(CudaBackend(EmulatedLauncher(1)), scene, poses)
    shared = rendered(CudaBackend(EmulatedLauncher(1), one_order=True), scene, poses)
    assert own[0] is not None and shared[0] is not None and (own[0] - shared[0]).abs().max() > 1e-3
    poses[2] = eye()[0]
    assert_same(
        rendered(CudaBackend(EmulatedLauncher(1), one_order=True), scene, poses),
        rendered(CudaBackend(EmulatedLauncher(1)), scene, poses),
    )


def test_an_exposure_that_outgrows_the_memory_is_left_out_whole(
    monkeypatch: pytest.MonkeyPatch, generator: torch.Generator
) -> None:
    """Background and zero gradients, never half a picture; those after it have room again."""
    monkeypatch.setattr(cuda_budget, "_MEASURED", 1)
    room = cuda_budget.EntryBudget.room
    monkeypatch.setattr(
        cuda_budget.EntryBudget, "room", lambda self, shape: tuple(n - 1024 for n in room(self, shape))
    )
    camera = Camera(120, 100, 90.0, 90.0, 60.0, 50.0)
    small = one_gaussian(0.0, 0.0, 3.0, 0.01)
    large = one_gaussian(0.0, 0.0, 3.0, 0.5)
    backend = CudaBackend(EmulatedLauncher(1))
    rendered(backend, small, eye(), camera)
    image, _, _, visible, gradient_px, *gradients = rendered(backend, large, eye(), camera)
    assert image is not None and visible is not None and gradient_px is not None
    assert (image.flatten(0, 1) == image[0, 0]).all() and not visible.any() and not gradient_px.any()
    assert not any(gradient is not None and gradient.any() for gradient in gradients[:7])
    with pytest.warns(RuntimeWarning, match="left out"):
        backend.finish()
    assert backend.overflows == 1
    assert_same(
        rendered(backend, large, eye(), camera),
        rendered(CudaBackend(EmulatedLauncher(2)), large, eye(), camera),
    )
    # Where no backward pass follows, the entries are counted first.
    with torch.no_grad():
        wider = [t.float() for t in one_gaussian(0.0, 0.0, 3.0, 2.0).tensors()]
        alpha = backend.render_exposure(*wider, eye().float(), torch.ones(1), camera).alpha
    assert alpha.min() > 0.1
    # Parameters too: they need gradients by themselves, but not here.
    backend = CudaBackend(EmulatedLauncher(1))
    rendered(backend, small, eye(), camera)
    with torch.no_grad():
        parameters = [torch.nn.Parameter(t) for t in wider]
        alpha = backend.render_exposure(*parameters, eye().float(), torch.ones(1), camera).alpha
    assert alpha.min() > 0.1
    backend.finish()
    assert backend.overflows == 0


def test_more_gaussians_are_measured_again() -> None:
    """Growth in small steps has room; what was never seen has not, and is asked for."""
    budget, shape = cuda_budget.EntryBudget(), (2, 64, 48)
    assert not budget.knows(shape, 100)
    for _ in range(16):
        assert not budget.knows(shape, 100)
        budget.measured(shape, 100, 700, 400)
    assert budget.knows(shape, 100) and budget.knows(shape, 125) and not budget.knows(shape, 126)
    assert not budget.knows((2, 64, 40), 100)
    assert budget.room(shape) == (1050 + 1024, 600 + 1024)
    budget.send(shape, torch.tensor([2000, 1500, 0, 0]))
    budget.receive(everything=True)
    assert budget.room(shape) == (3000 + 1024, 2250 + 1024)


def test_a_training_step_asks_the_device_for_nothing(
    monkeypatch: pytest.MonkeyPatch, generator: torch.Generator
) -> None:
    monkeypatch.setattr(cuda_budget, "_MEASURED", 1)
    scene, poses = random_scene(30, generator, 0), random_poses(2, generator)
    backend = CudaBackend(EmulatedLauncher(1))
    rendered(backend, scene, poses, CAMERA)
    for name in ("item", "tolist", "__bool__", "nonzero"):

        def refuse(*_: object, name: str = name) -> None:
            raise AssertionError(f"Tensor.{name} waits for the device")

        monkeypatch.setattr(torch.Tensor, name, refuse)
    monkeypatch.setattr("deblurgs.raster.cuda.check_inputs", lambda *_, **__: 0)
    leaves = [t.float().requires_grad_() for t in (*scene.tensors(), poses)]
    image = backend.render_exposure(*leaves, torch.full((2,), 0.5), CAMERA).image
    image.backward(torch.ones_like(image))
    assert leaves[0].grad is not None
