"""The estimate of memory that stands before every training."""

import dataclasses

import pytest
import torch

from deblurgs.config import DensityConfig, TrainConfig
from deblurgs.errors import ResourceError
from deblurgs.log import Log
from deblurgs.raster import native
from deblurgs.scene.camera import Camera
from deblurgs.train import memory
from deblurgs.train.memory import check_memory, estimate_memory

CAMERAS = [Camera(1920, 1080, 1500.0, 1500.0, 960.0, 540.0)] * 60
GB = 2**30


def test_the_usual_capture_fits_a_small_machine() -> None:
    assert 0.3 * GB < estimate_memory(CAMERAS, TrainConfig()).total < 3 * GB


def test_each_part_grows_with_what_it_stands_for() -> None:
    config = TrainConfig()
    base = estimate_memory(CAMERAS, config)
    assert estimate_memory(CAMERAS * 2, config).images == 2 * base.images
    larger = dataclasses.replace(config, max_side=1920)
    assert estimate_memory(CAMERAS, larger).images == pytest.approx(4 * base.images, rel=0.01)
    more = dataclasses.replace(config, density=DensityConfig(max_gaussians=10 * config.density.max_gaussians))
    assert estimate_memory(CAMERAS, more).gaussians == 10 * base.gaussians
    assert estimate_memory(CAMERAS, more).render > 3 * base.render
    static = dataclasses.replace(config, trajectory=dataclasses.replace(config.trajectory, kind="static"))
    assert estimate_memory(CAMERAS, static).render < base.render / 2
    kept = estimate_memory(CAMERAS, config, keep_full_size=True)
    assert kept.images - base.images == 60 * 1920 * 1080 * 12


def test_too_little_memory_is_refused_with_the_numbers_and_near_it_is_warned(monkeypatch) -> None:
    estimate = estimate_memory(CAMERAS, dataclasses.replace(TrainConfig(), max_side=1920))
    monkeypatch.setattr(memory, "available_memory_bytes", lambda: estimate.total - 1)
    with pytest.raises(
        ResourceError, match=r"needs about \d+\.\d\d GB .* GB of memory are free.*--train\.max-side"
    ):
        check_memory(estimate, Log(quiet=True))
    for share, warned in ((1.1, True), (2.0, False)):
        log = Log(quiet=True)
        monkeypatch.setattr(memory, "available_memory_bytes", lambda s=share: int(s * estimate.total))
        check_memory(estimate, log)
        assert bool(log.warnings) == warned
    monkeypatch.setattr(memory, "available_memory_bytes", lambda: None)
    check_memory(estimate, Log(quiet=True))


@pytest.mark.skipif(native.load()[0] is None, reason="needs the compiled kernels")
def test_the_scratch_of_a_step_is_near_its_estimate() -> None:
    """Measured in the kernel itself, for Gaussians as small as those of a trained scene."""
    from deblurgs.math.lie import se3_exp
    from deblurgs.raster import cpu
    from deblurgs.raster.api import render_exposure

    g = torch.Generator().manual_seed(0)
    n, views, camera = 20_000, 10, Camera(320, 240, 300.0, 300.0, 160.0, 120.0)
    means = (torch.rand(n, 3, generator=g) - 0.5) * torch.tensor([3.0, 2.3, 1.0]) + torch.tensor(
        [0.0, 0.0, 3.0]
    )
    scales = torch.full((n, 3), 0.02).requires_grad_()
    cpu._idle.clear()
    image = render_exposure(
        means, torch.randn(n, 4, generator=g), scales, torch.full((n,), 0.5), torch.zeros(n, 1, 3),
        torch.zeros(n, 0, 3), se3_exp(torch.zeros(views, 6)), torch.full((views,), 1.0 / views), camera,
    ).image  # fmt: skip
    image.sum().backward()
    library = native.load()[0]
    assert library is not None
    scratch = max(library.deblurgs_cpu_bytes(handle) for handle in cpu._idle)
    config = TrainConfig(
        scales=(1.0,), steps=(1,), density=DensityConfig(max_gaussians=n),
        trajectory=dataclasses.replace(TrainConfig().trajectory, max_views=views),
    )  # fmt: skip
    estimate = estimate_memory([camera], config).render
    assert 0.5 * estimate < scratch < 1.2 * estimate
