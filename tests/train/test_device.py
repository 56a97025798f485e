"""A training step away from the CPU never waits for the device and never mixes memories.

Without a GPU the step runs on torch's `meta` device: it has no numbers, so whoever asks for one fails, and a dispatch
mode counts every operation that would make a GPU's host wait. Where there is a GPU, CUDA itself is asked.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from deblurgs.config import DensityConfig, PhotometryConfig, TrainConfig, TrajectoryConfig, TrajectoryKind
from deblurgs.log import Log
from deblurgs.raster import backend, cuda_budget, native
from deblurgs.raster.api import Rendered, ScreenStatistics
from deblurgs.scene.camera import Camera
from deblurgs.scene.transform import Similarity
from deblurgs.train import loop, start
from deblurgs.train.data import TrainingSet, pyramid_level
from deblurgs.train.loop import Trainer
from deblurgs.train.outcome import LossRecord, all_finite

CAMERA = Camera(48, 40, 50.0, 50.0, 24.0, 20.0)
WAITING = ("_local_scalar_dense", "nonzero", "equal", "is_nonzero", "unique", "masked_select", "item")


class Waits(TorchDispatchMode):
    """Names of operations after which the host would have to wait, and of those that mix host and device."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [t for t in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        kinds = {t.device.type for t in tensors if t.dim() > 0 or t.device.type != "cpu"}
        target = kwargs.get("device")
        if target is not None:
            kinds |= {torch.device(target).type} if tensors else set()
        name = func._schema.name.removeprefix("aten::")
        if "meta" in kinds and (len(kinds) > 1 or any(word in name for word in WAITING)):
            self.found.append(name)
        return func(*args, **kwargs)


class AnywhereBackend:
    """Pictures without meaning but with the shapes, devices and gradients of a rasterizer's."""

    name = "anywhere"

    def available(self) -> str | None:
        return None

    def render_exposure(
        self, means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, sh0: Tensor, shN: Tensor,
        viewmats: Tensor, weights: Tensor, camera: Camera, *, statistics: ScreenStatistics | None = None, **_: Any,
    ) -> Rendered:  # fmt: skip
        backend.check_inputs(means, quats, scales, opacities, sh0, shN, viewmats, weights, camera, None, None,
            wait_for_poses=False,
        )  # fmt: skip
        total = sum(
            t.sum() for t in (means, quats, scales, opacities, sh0, shN, weights @ viewmats.flatten(1))
        )
        image = total.expand(camera.height, camera.width, 3) * 1e-3
        if statistics is not None:
            statistics.visible = torch.ones_like(opacities, dtype=torch.bool)
            statistics.gradient_px = torch.ones_like(opacities)
        return Rendered(image, image[..., 0], image[..., 0])


class PlainAdam(torch.optim.Adam):
    """Not fused, so it takes every step."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **{**settings, "fused": False, "foreach": True})

    def step(self, closure: Any = None) -> Any:
        self.found_inf = None
        return super().step(closure)


def training_set(device: str) -> TrainingSet:
    g = torch.Generator().manual_seed(1)
    frames = 5
    poses = torch.eye(4).repeat(frames, 1, 1)
    poses[:, 0, 3] = 0.05 * torch.arange(frames)
    data = TrainingSet(
        [f"{f}.png" for f in range(frames)],
        [torch.rand(CAMERA.height, CAMERA.width, 3, generator=g) * 0.9 for _ in range(frames)],
        [CAMERA] * frames, poses, torch.rand(60, 3, generator=g) + torch.tensor([-0.5, -0.5, 0.6]),
        torch.rand(60, 3, generator=g), torch.ones(frames), Similarity.identity(),
        times_s=[f / 30 for f in range(frames)],
        masks=[None, (torch.rand(CAMERA.height, CAMERA.width, generator=g) > 0.2).float(), None, None, None],
    )  # fmt: skip
    return data.to(torch.device(device))


def settings(kind: TrajectoryKind = "bezier", **changes: Any) -> TrainConfig:
    return TrainConfig(
        scales=(1.0,), steps=(120,), sh_degree=1, held_out=0.0,
        trajectory=TrajectoryConfig(
            kind=kind, num_knots=1 if kind == "static" else 4, start_step=0,
            rolling_shutter=changes.pop("rolling", False), jitter=True,
        ),
        density=DensityConfig(every=1000, max_gaussians=80, **changes.pop("density", {})),
        photometry=PhotometryConfig(**changes.pop("photometry", {})), **changes,
    )  # fmt: skip


@pytest.fixture
def on_meta(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[TrainConfig], Trainer]]:
    """Makes trainers on the meta device, where no rasterizer, no fused Adam and no random numbers exist."""
    monkeypatch.setattr(backend, "choose", lambda name, means: AnywhereBackend())
    monkeypatch.setattr(torch.optim, "Adam", PlainAdam)
    monkeypatch.setattr(loop, "device_generator", lambda device, seed: torch.Generator())

    def make(config: TrainConfig) -> Trainer:
        data = training_set("cpu")
        moved = dataclasses.replace(
            data.to(torch.device("meta")), camera_from_world=data.camera_from_world
        )  # the paths are laid out on the host first
        trainer = Trainer(moved, config, Log(quiet=True))
        assert not trainer.on_host and trainer.gaussians.means.device.type == "meta"
        return trainer

    return make


def nothing_from_the_host(honest: Callable[..., Tensor], waits: Waits) -> Callable[..., Tensor]:
    def make(*arguments: Any, **options: Any) -> Tensor:
        made = honest(*arguments, **options)
        if made.device.type != "cpu":
            waits.found.append(f"{honest.__name__} of {arguments[-1]}")
        return made

    return make


def steps(trainer: Trainer, num: int) -> list[str]:
    """What would have made the host wait during some ordinary steps."""
    host = training_set("cpu")
    level = pyramid_level(host.images, trainer.training_cameras, host.masks)
    level.images = [t.to(trainer.device) for t in level.images]
    level.limits = [None if t is None else t.to(trainer.device) for t in level.limits]
    masks = [None if t is None else t.to(trainer.device) for t in level.masks]
    trainer.step = 1  # density control has its rounds at multiples of `every`
    # The readout is looked at once in a run, and afterwards only when it was written.
    t = trainer.trajectory
    t._known_readout = t.readout._version, 0.0  # type: ignore[assignment]
    waits = Waits()
    with waits, pytest.MonkeyPatch.context() as patch:
        # A tensor made from the host's numbers is a copy that waits; no dispatch mode sees it.
        patch.setattr(torch, "tensor", nothing_from_the_host(torch.tensor, waits))
        patch.setattr(torch.Tensor, "new_tensor", nothing_from_the_host(torch.Tensor.new_tensor, waits))
        for _ in range(num):
            frame = trainer.sampler.next()
            trainer.record.add(frame, trainer._one_step(level, frame, 4, masks[frame]))
            trainer.step += 1
    return waits.found


@pytest.mark.parametrize(
    "config",
    [
        settings(), settings("static"), settings("cubic"), settings("linear", rolling=True), settings("continuous"),
        settings("continuous", rolling=True), settings(density={"strategy": "annealed"}),
        settings(antialiased=True, photometry={"gain": False, "saturation": False}),
    ],
    ids=["bezier", "static", "cubic", "rolling", "continuous", "continuous-rolling", "annealed", "plain"],
)  # fmt: skip
def test_an_ordinary_step_waits_for_nothing(
    on_meta: Callable[[TrainConfig], Trainer], config: TrainConfig
) -> None:
    assert steps(on_meta(config), 3) == []


def test_the_check_sees_a_wait(on_meta: Callable[[TrainConfig], Trainer]) -> None:
    waits = Waits()
    x = torch.zeros(3, device="meta")
    with waits:
        with pytest.raises(RuntimeError):
            float(x.sum())
        torch.ones(3).to("meta")
    assert "_local_scalar_dense" in waits.found and "_to_copy" in waits.found


def test_losses_come_in_one_transfer_and_in_order() -> None:
    record = LossRecord()
    for frame, loss in ((2, 0.5), (0, float("nan")), (2, 0.25)):
        record.add(frame, torch.tensor(loss))
    taken = record.take()
    assert [frame for frame, _ in taken] == [2, 0, 2] and taken[0][1] == 0.5 and taken[1][1] != taken[1][1]
    assert record.take() == []


def test_one_bad_number_anywhere_makes_a_step_bad() -> None:
    good = torch.ones(3)
    assert bool(all_finite(torch.tensor(1.0), [good, None]))
    assert not bool(all_finite(torch.tensor(float("nan")), [good]))
    assert not bool(all_finite(torch.tensor(1.0), [good, torch.tensor([1.0, float("inf")])]))


@pytest.fixture
def deferred(monkeypatch: pytest.MonkeyPatch) -> Callable[[TrainConfig], Trainer]:
    """Trainers that work on the CPU as they would on a GPU: nothing is looked at within a step."""

    def make(config: TrainConfig) -> Trainer:
        trainer = Trainer(training_set("cpu"), config, Log(quiet=True))
        trainer.on_host = False
        trainer.shared_optimizer = start.shared_adam(
            trainer.trajectory, trainer.photometry, config, fused=True
        )
        return trainer

    return make


def test_steps_that_wait_and_steps_that_do_not_train_the_same(
    deferred: Callable[[TrainConfig], Trainer],
) -> None:
    config = settings(density={"growth": 0.0})
    first = Trainer(training_set("cpu"), config, Log(quiet=True)).train()
    second = deferred(config).train()
    for name, tensor in first.gaussians.tensors().items():
        torch.testing.assert_close(second.gaussians.tensors()[name], tensor, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(second.trajectory.knots, first.trajectory.knots, rtol=1e-5, atol=1e-6)


def test_a_bad_step_changes_nothing_and_nobody_had_to_look(
    deferred: Callable[[TrainConfig], Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = deferred(settings("linear", rolling=True))
    level = pyramid_level(trainer.data.images, trainer.training_cameras, trainer.data.masks)
    trainer.step = 1
    trainer._one_step(level, 0, 4, None)
    before = [p.detach().clone() for p in trainer._parameters()]
    visits = trainer.knot_optimizer.visits.clone()
    honest = loop.photometric_terms

    def spoiled(*images: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
        loss, alone = honest(*images, **options)
        return loss * float("nan"), alone

    monkeypatch.setattr(loop, "photometric_terms", spoiled)
    bad = trainer._one_step(level, 0, 4, None)
    assert not bool(bad.isfinite())
    for old, new in zip(before, trainer._parameters(), strict=True):
        torch.testing.assert_close(
            new.detach(), old, rtol=0, atol=1e-7
        )  # the gauge is held anew, to rounding
    assert torch.equal(trainer.knot_optimizer.visits, visits)
    monkeypatch.undo()
    trainer._one_step(level, 0, 4, None)
    assert any(not torch.equal(a, b) for a, b in zip(before, trainer._parameters(), strict=True))


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["bezier", "continuous"])
def test_cuda_sees_no_synchronisation_in_an_ordinary_step(
    kind: TrajectoryKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_budget, "_MEASURED", 1)  # the first exposures of a shape are waited for
    trainer = Trainer(training_set("cuda:0"), settings(kind), Log(quiet=True))
    level = pyramid_level(trainer.data.images, trainer.training_cameras, trainer.data.masks)
    trainer.step = 1
    for _ in range(3):  # memory is found, kernels are loaded
        trainer._one_step(level, trainer.sampler.next(), 4, None)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(10):
            frame = trainer.sampler.next()
            trainer.record.add(frame, trainer._one_step(level, frame, 4, level.masks[frame]))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(loss == loss for _, loss in trainer.record.take())


@pytest.mark.gpu
def test_training_on_the_gpu_ends_where_the_cpu_ends() -> None:
    library, reason = native.load()
    if library is None:
        pytest.skip(f"compiled CPU library: {reason}")
    config = settings()
    on_cpu = Trainer(training_set("cpu"), config, Log(quiet=True)).train()
    on_gpu = Trainer(training_set("cuda:0"), config, Log(quiet=True)).train()
    assert on_gpu.gaussians.means.device.type == "cpu"
    difference = (on_gpu.gaussians.means - on_cpu.gaussians.means).norm() / on_cpu.gaussians.means.norm()
    assert float(difference) < 0.02
