"""What is particular to the compiled CPU rasterizer; tests/contract holds it against the reference."""

import ctypes
import os
import signal
import time
from collections.abc import Iterator

import pytest
import torch
from backend_checks import NAMES, WIDE, render_with_gradients
from raster_scenes import CAMERA, F64, random_poses, random_scene
from torch import Tensor

from deblurgs.raster import api, cpu, native
from deblurgs.raster.api import ScreenStatistics
from deblurgs.raster.cpu import CpuBackend
from deblurgs.scene.camera import Camera

library, reason = native.load()
pytestmark = pytest.mark.skipif(library is None, reason=f"compiled library: {reason}")


@pytest.fixture(params=["baseline", "avx2", "avx512"])
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every instruction set that this machine has."""
    assert library is not None
    if library.deblurgs_cpu_select_isa(request.param.encode()) != 0:
        pytest.skip(f"this machine has no {request.param}")
    yield request.param
    library.deblurgs_cpu_select_isa(None)


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


def test_constants_are_those_of_the_border() -> None:
    assert library is not None
    names = ("NEAR", "EPS2D", "ALPHA_CUTOFF", "OPACITY_MAX", "TRANSMITTANCE_STOP")
    for name in names:
        expected = ctypes.c_float(getattr(api, name)).value
        assert library.deblurgs_constant(name.encode()) == expected, name
    assert library.deblurgs_constant(b"NO_SUCH") != library.deblurgs_constant(b"NO_SUCH")
    assert library.deblurgs_abi_version() == native.ABI_VERSION


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
