import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from deblurgs.config import DensityConfig, PhotometryConfig, TrainConfig, TrajectoryConfig, TrajectoryKind
from deblurgs.errors import DivergedError, UsageError
from deblurgs.log import Log
from deblurgs.math.color import srgb_from_linear
from deblurgs.math.lie import se3_exp
from deblurgs.raster.api import render_exposure
from deblurgs.render.render import reblurred_frame
from deblurgs.scene.camera import Camera
from deblurgs.scene.continuous import ContinuousTrajectory
from deblurgs.scene.gaussians import Gaussians
from deblurgs.scene.shutter import sample_exposure
from deblurgs.scene.trajectory import Trajectory
from deblurgs.scene.transform import Similarity
from deblurgs.train import loop
from deblurgs.train.checkpoint import load_scene, save_scene
from deblurgs.train.data import (
    TrainingSet,
    normalised,
    pyramid_level,
    reduced_mask,
    training_camera,
    without_masked,
)
from deblurgs.train.density import AnnealedDensity
from deblurgs.train.loop import train
from deblurgs.train.start import make_trajectory
from deblurgs.train.trained import TrainedScene
from deblurgs.train.views import count_views, first_views

CAMERA = Camera(64, 48, 70.0, 70.0, 32.0, 24.0)
NUM_FRAMES = 8
QUIET = Log(quiet=True)


@pytest.fixture(scope="module")
def blurred() -> TrainingSet:
    """A textured wall of Gaussians, filmed by a camera that slides about 8 px during every exposure."""
    g = torch.Generator().manual_seed(3)
    num = 600
    truth = Gaussians(
        means=torch.rand(num, 3, generator=g) * torch.tensor([1.6, 1.2, 0.3])
        + torch.tensor([-0.8, -0.6, 0.9]),
        quats=torch.randn(num, 4, generator=g),
        log_scales=torch.full((num, 3), -3.3),
        logit_opacities=torch.full((num,), 2.5),
        sh0=torch.randn(num, 1, 3, generator=g) * 1.2,
        shN=torch.zeros(num, 0, 3),
    )
    poses, images = [], []
    u, weights = sample_exposure(15)
    for f in range(NUM_FRAMES):
        base = se3_exp(torch.tensor([0.03 * f - 0.1, 0.01 * (f % 3), 0.0, 0.0, 0.01 * f, 0.0]))
        angle = torch.tensor(2.4 * f)
        slide = torch.zeros(15, 6)
        slide[:, 0], slide[:, 1] = (u - 0.5) * 0.12 * angle.cos(), (u - 0.5) * 0.12 * angle.sin()
        with torch.no_grad():
            image = render_exposure(
                truth.means, truth.quats, truth.scales, truth.opacities, truth.sh0, truth.shN,
                se3_exp(-slide) @ base, weights, CAMERA,
            ).image  # fmt: skip
        poses.append(base)
        images.append(srgb_from_linear(image).clamp(0, 1).contiguous())
    chosen = torch.randperm(num, generator=g)[:250]
    return TrainingSet(
        names=[f"{f}.png" for f in range(NUM_FRAMES)],
        images=images,
        cameras=[CAMERA] * NUM_FRAMES,
        camera_from_world=torch.stack(poses),
        points=truth.means.detach()[chosen],
        colors=(0.5 + 0.28 * truth.sh0.detach()[chosen, 0]).clamp(0, 1),
        depths=torch.ones(NUM_FRAMES),
        scene_from_sfm=Similarity.identity(),
    )


def small(steps: int = 160, **changes: object) -> TrainConfig:
    config = TrainConfig(
        scales=(0.5, 1.0), steps=(steps // 2, steps - steps // 2), sh_degree=0,
        density=DensityConfig(max_gaussians=800, every=20), trajectory=TrajectoryConfig(start_step=10),
    )  # fmt: skip
    return dataclasses.replace(config, **changes)  # type: ignore[arg-type]


def losses(data: TrainingSet, config: TrainConfig) -> tuple[list[float], TrainedScene]:
    seen: list[float] = []
    scene = train(data, config, QUIET, lambda entry: seen.append(entry["loss"]))
    return seen, scene


def test_paths_explain_the_blur_that_one_pose_cannot(blurred: TrainingSet) -> None:
    config = small(400)
    seen, scene = losses(blurred, config)
    static = dataclasses.replace(config, trajectory=dataclasses.replace(config.trajectory, kind="static"))
    plain, _ = losses(blurred, static)
    assert seen[-1] < 0.5 * seen[0]
    assert seen[-1] < 0.8 * plain[-1]
    # The true slide is 0.12 * 70 / 1 = 8.4 px; a path that long needs more than the minimum of views.
    assert max(count_views(scene.trajectory, [CAMERA] * NUM_FRAMES, torch.ones(NUM_FRAMES), config)) > 4


def test_equal_seeds_give_equal_bits_and_other_seeds_do_not(blurred: TrainingSet) -> None:
    first, second, other = (train(blurred, small(40, seed=s), QUIET) for s in (1, 1, 2))
    for name, tensor in first.gaussians.tensors().items():
        assert torch.equal(tensor, getattr(second.gaussians, name)), name
    assert torch.equal(first.trajectory.knots, second.trajectory.knots)
    assert not torch.equal(first.trajectory.knots, other.trajectory.knots)


@pytest.mark.parametrize("strategy", ["mcmc", "annealed"])
def test_both_density_strategies_stay_under_the_cap(blurred: TrainingSet, strategy) -> None:
    density = DensityConfig(
        strategy=strategy, max_gaussians=600, every=10, threshold_start=1e-5, threshold_end=1e-6
    )
    counts: dict[float, int] = {}

    def look(trainer: loop.Trainer) -> None:
        counts[trainer.step] = trainer.gaussians.num_gaussians

    scene = loop.Trainer(blurred, small(160, density=density), QUIET, observe=look).train()
    assert max(counts[step] for step in range(1, 81)) == 300, "at half the size, half of the Gaussians"
    assert 300 < scene.gaussians.num_gaussians <= 600


def test_learning_rates_fall_at_the_end_and_survive_a_return_to_an_earlier_state(
    blurred: TrainingSet, monkeypatch
) -> None:
    seen: list[tuple[int, float, float, int]] = []
    calls: list[int] = []

    def spoiled(*arguments, **options):
        calls.append(1)
        value, alone = loss(*arguments, **options)
        # Three strikes: half the rates from there on.
        return (value * math.nan if 5 <= len(calls) < 8 else value), alone

    def look(trainer: loop.Trainer) -> None:
        rates = {group["name"]: group["lr"] for group in trainer.optimizer.adam.param_groups}
        seen.append((trainer.step, rates["sh0"], trainer.density.growth, trainer.density.cap))

    loss = loop.photometric_terms
    monkeypatch.setattr(loop, "photometric_terms", spoiled)
    config = small(40, cool_from=0.5, cool_to=0.1)
    loop.Trainer(blurred, config, QUIET, observe=look).train()
    rate = {step: sh0 for step, sh0, _, _ in seen}
    assert rate[4] == pytest.approx(config.colors_lr)
    assert rate[15] == pytest.approx(0.5 * config.colors_lr)
    assert rate[40] < 0.12 * 0.5 * config.colors_lr
    assert len({growth for _, _, growth, _ in seen}) == 1, "growth is that of the whole run"
    assert {cap for step, _, _, cap in seen if step <= 20} == {400}, "the cap is that of the scale"


@pytest.mark.parametrize("kind", ["linear", "cubic", "bezier", "static"])
def test_every_kind_of_trajectory_trains(blurred: TrainingSet, kind) -> None:
    scene = train(
        blurred, small(30, trajectory=TrajectoryConfig(kind=kind, num_knots=3, start_step=0)), QUIET
    )
    assert scene.trajectory.kind == kind
    assert torch.isfinite(scene.trajectory.knots).all()
    assert (scene.trajectory.knots != 0).any()


def test_a_non_finite_loss_restores_the_scene_and_training_goes_on(blurred: TrainingSet, monkeypatch) -> None:
    """Two are skipped, the third leads back to where this scale began."""
    real, calls = loop.photometric_terms, []
    means: dict[int, torch.Tensor] = {}

    def sometimes(*images: torch.Tensor, **options: Any) -> tuple[torch.Tensor, torch.Tensor]:
        calls.append(1)
        value, alone = real(*images, **options)
        return (value * math.nan if 16 <= len(calls) < 19 else value), alone

    def look(trainer: loop.Trainer) -> None:
        means[trainer.step] = trainer.gaussians.means.detach().clone()

    monkeypatch.setattr(loop, "photometric_terms", sometimes)
    log = Log(quiet=True)
    trainer = loop.Trainer(blurred, small(60), log, observe=look)
    begin = trainer.gaussians.means.detach().clone()
    scene = trainer.train()
    assert not torch.equal(means[14], means[15]) and not torch.equal(means[15], begin)
    assert torch.equal(means[16], means[15]) and torch.equal(means[17], means[15]), "skipped"
    assert torch.equal(means[18], begin), "back to a good state"
    assert any("non-finite" in w for w in log.warnings)
    assert trainer.step == 60 and not torch.equal(means[19], begin)
    assert all(torch.isfinite(t).all() for t in scene.gaussians.tensors().values())


def test_endless_non_finite_losses_end_the_run_with_advice(blurred: TrainingSet, monkeypatch) -> None:
    monkeypatch.setattr(loop, "photometric_terms", lambda p, o, **_: (p.sum() * math.nan, p.sum().detach()))
    with pytest.raises(DivergedError, match="seed"):
        train(blurred, small(60), Log(quiet=True))


def test_a_scene_survives_the_checkpoint(blurred: TrainingSet, tmp_path) -> None:
    scene = train(blurred, small(20), QUIET)
    path = tmp_path / "scene.safetensors"
    save_scene(path, scene, blurred.names, Similarity.identity())
    loaded, names, _ = load_scene(path)
    assert names == blurred.names and loaded.config == scene.config
    assert loaded.training_cameras == scene.training_cameras
    for name, tensor in scene.gaussians.tensors().items():
        assert torch.equal(tensor, getattr(loaded.gaussians, name))
    assert torch.equal(loaded.trajectory.all_at(0.5), scene.trajectory.all_at(0.5))


@pytest.mark.parametrize("damage", ["truncated", "text", "missing"])
def test_a_damaged_checkpoint_is_named(blurred: TrainingSet, tmp_path, damage: str) -> None:
    path = tmp_path / "scene.safetensors"
    if damage != "missing":
        save_scene(path, train(blurred, small(2), QUIET), blurred.names, Similarity.identity())
        path.write_bytes(path.read_bytes()[:500] if damage == "truncated" else b"not a scene at all")
    with pytest.raises(UsageError, match=r"scene\.safetensors"):
        load_scene(path)


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_the_scene_frame_has_median_depth_one_in_any_unit(unit: float) -> None:
    g = torch.Generator().manual_seed(0)
    points = (
        torch.randn(200, 3, generator=g).double() * 0.2 + torch.tensor([0.0, 0.0, 7.0]).double()
    ).numpy() * unit
    poses = torch.eye(4).repeat(3, 1, 1).double().numpy()
    poses[1, :3, 3] = 0.5 * unit
    similarity, depths = normalised(poses, points, [torch.arange(200).numpy()] * 3)
    assert sorted(depths)[1] == pytest.approx(1.0)
    assert abs(similarity.apply_points(points)).max() < 1.0
    back = similarity.inverse()
    assert back.apply_points(similarity.apply_points(points)) == pytest.approx(points, rel=1e-9)
    there = similarity.apply_camera_from_world(poses)
    assert abs(there[:, :3, 3]).max() < 2.0
    assert back.apply_camera_from_world(there) == pytest.approx(poses, rel=1e-9, abs=1e-9 * unit)


def test_odd_sizes_train_at_the_size_the_camera_says() -> None:
    """607x1080 reduced to 960 is 540x960; deriving the height from a rounded factor gave 961."""
    camera = Camera(607, 1080, 700.0, 700.0, 303.5, 540.0)
    target = training_camera(camera, TrainConfig())
    level = pyramid_level([torch.rand(1080, 607, 3)], [target])
    assert (target.width, target.height) == (540, 960)
    assert level.images[0].shape == (960, 540, 3)


def test_the_cap_holds_for_the_points_a_scene_starts_from(blurred: TrainingSet) -> None:
    scene = train(blurred, small(4, density=DensityConfig(max_gaussians=50)), QUIET)
    assert scene.gaussians.num_gaussians == 50


def test_non_finite_gradients_never_reach_the_parameters(blurred: TrainingSet, monkeypatch) -> None:
    real, calls = loop.photometric_terms, []

    def poisoned(
        prediction: torch.Tensor, observed: torch.Tensor, **options: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        calls.append(1)
        if len(calls) == 20:
            prediction.register_hook(lambda gradient: gradient * math.nan)
        return real(prediction, observed, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "photometric_terms", poisoned)
    scene = train(blurred, small(40), Log(quiet=True))
    assert torch.isfinite(scene.trajectory.knots).all()
    assert all(torch.isfinite(t).all() for t in scene.gaussians.tensors().values())


def test_steps_between_pixels_count_when_paths_have_settled(blurred: TrainingSet, monkeypatch) -> None:
    real, weights = loop.photometric_terms, []

    def noted(*images: torch.Tensor, **options: Any) -> tuple[torch.Tensor, torch.Tensor]:
        weights.append(options["edge_weight"])
        return real(*images, **options)

    monkeypatch.setattr(loop, "photometric_terms", noted)
    train(blurred, dataclasses.replace(small(20), edge_weight=3.0, edges_from=0.6), QUIET)
    assert weights == [0.0] * 12 + [3.0] * 8


def test_the_reported_loss_does_not_leap_when_steps_begin_to_count(blurred: TrainingSet) -> None:
    seen, _ = losses(blurred, small(200, edges_from=0.5))
    assert len(seen) == 4 and seen[2] < 1.2 * seen[1]


def test_a_probe_is_asked_and_never_changes_the_result(blurred: TrainingSet) -> None:
    asked: list[int] = []

    def probe(gaussians: Gaussians, trajectory: Trajectory) -> float:
        asked.append(gaussians.num_gaussians)
        return 30.0

    watched = train(blurred, small(200), QUIET, probe=probe)
    alone = train(blurred, small(200), QUIET)
    assert len(asked) == 1
    assert torch.equal(watched.gaussians.means, alone.gaussians.means)


def test_density_control_hears_where_frames_are_matched_worst(blurred: TrainingSet) -> None:
    """Nothing of the scene explains a white square that every photo has in its left upper corner."""
    images = [image.clone() for image in blurred.images]
    for image in images:
        image[:16, :16] = 1.0
    data = dataclasses.replace(blurred, images=images)
    heard: list[tuple[torch.Tensor, torch.Tensor]] = []

    def observe(trainer: loop.Trainer) -> None:
        density = trainer.density
        assert isinstance(density, AnnealedDensity)
        x = trainer.gaussians.means.detach() @ data.camera_from_world[0, :3, :3].T
        x = x + data.camera_from_world[0, :3, 3]
        px = CAMERA.fx * x[:, :2] / x[:, 2:] + torch.tensor([CAMERA.cx, CAMERA.cy])
        inside = (px < 14.0).all(dim=1)
        heard.append((density.errors / density.areas.clamp_min(1e-3), inside & (density.measured > 0)))

    config = TrainConfig(scales=(1.0,), steps=(12,), density=DensityConfig(max_gaussians=900, every=60))
    train(data, config, QUIET, observe=observe)
    error, inside = heard[-1]
    assert inside.sum() > 10 and error[inside].mean() > 2.0 * error[~inside & (error > 0)].mean()


def test_an_observer_sees_every_step_and_changes_nothing(blurred: TrainingSet) -> None:
    steps: list[int] = []
    watched = train(blurred, small(20), QUIET, observe=lambda trainer: steps.append(trainer.step))
    alone = train(blurred, small(20), QUIET)
    assert steps == list(range(1, 21))
    assert torch.equal(watched.gaussians.means, alone.gaussians.means)


def test_straight_paths_cannot_fold() -> None:
    trajectory = Trajectory(torch.eye(4)[None], "bezier", 4)
    with torch.no_grad():
        trajectory.knots[0, :, 0] = torch.tensor([-1.0, 1.0, 1.0, -1.0])
        trajectory.knots[0, :, 1] = torch.tensor([-3.0, -1.0, 1.0, 3.0])
    trajectory.straighten(0)
    assert torch.allclose(trajectory.knots[0, :, 0], torch.zeros(4), atol=1e-6)
    assert torch.allclose(trajectory.knots[0, :, 1], torch.tensor([-3.0, -1.0, 1.0, 3.0]), atol=1e-6)


def test_a_reduced_mask_leaves_out_every_pixel_with_a_share_of_masked_ones() -> None:
    g = torch.Generator().manual_seed(5)
    mask = torch.ones(48, 64)
    mask[11:30, 17:38] = 0
    camera = CAMERA.resized(29, 23)
    images = [torch.rand(48, 64, 3, generator=g) for _ in range(2)]
    images[1] = torch.where(mask[..., None] > 0, images[0], images[1])
    levels = [pyramid_level([image], [camera], [mask]) for image in images]
    kept = reduced_mask(mask, 29, 23) > 0
    assert torch.equal(levels[0].masks[0], kept.float())  # type: ignore[arg-type]
    assert torch.equal(levels[0].images[0][kept], levels[1].images[0][kept])
    assert 0.6 < kept.float().mean() < mask.mean()


def test_what_is_stored_under_a_mask_never_reaches_the_scene(blurred: TrainingSet) -> None:
    """Each frame shows one quarter; the rest has a colour of its own. Two frames know what is there."""
    g = torch.Generator().manual_seed(6)
    quarter = torch.arange(64).expand(48, -1) // 16
    every: list[torch.Tensor | None] = [(quarter == f % 4).float() for f in range(NUM_FRAMES)]

    def repainted(masks: list[torch.Tensor | None]) -> TrainingSet:
        paint = [torch.rand(1, 1, 3, generator=g).expand(48, 64, 3) for _ in blurred.images]
        dirty = [
            torch.where(m[..., None] > 0, a, b)  # type: ignore[index]
            for m, a, b in zip(every, blurred.images, paint, strict=True)
        ]
        images = [without_masked(a, m) for a, m in zip(dirty, masks, strict=True)]
        return dataclasses.replace(blurred, images=images, masks=masks)

    # Relocation, which adds Gaussians from the start: so short a training would split none.
    brief = small(80, density=DensityConfig(strategy="mcmc", max_gaussians=800, every=20))
    clean, again = (train(repainted(every), brief, QUIET) for _ in range(2))
    assert torch.equal(clean.gaussians.means, again.gaussians.means)
    assert torch.equal(clean.gaussians.sh0, again.gaussians.sh0)
    unmasked = train(repainted([None] * NUM_FRAMES), brief, QUIET)

    def error(scene: TrainedScene) -> float:
        differences = [
            (reblurred_frame(scene, f, CAMERA, 5) - image).abs().mean()
            for f, image in enumerate(blurred.images)
        ]
        return float(torch.stack(differences).mean())

    assert error(clean) < 0.8 * error(unmasked)


def test_a_request_to_stop_is_heard_before_the_next_step(blurred: TrainingSet) -> None:
    asked: list[int] = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) > 30

    scene = train(blurred, small(200), QUIET, stop=stop)
    assert len(asked) < 35, "the second scale is not begun"
    untouched = train(blurred, small(200), QUIET, stop=lambda: True)
    assert not torch.equal(scene.gaussians.means, untouched.gaussians.means)


@pytest.mark.parametrize("kind", ["bezier", "continuous"])
def test_every_parameter_of_the_cameras_survives_the_checkpoint(
    kind: TrajectoryKind, blurred: TrainingSet, tmp_path: Path
) -> None:
    config = dataclasses.replace(
        small(40),
        trajectory=dataclasses.replace(
            small(40).trajectory,
            kind=kind,
            rolling_shutter=True,
            start_step=5,
            sub_frame_times=kind != "continuous",
        ),
        photometry=PhotometryConfig(num_bends=2),
    )
    data = dataclasses.replace(blurred, times_s=[0.5 + 0.04 * f for f in range(blurred.num_frames)])
    scene = train(data, config, QUIET)
    save_scene(tmp_path / "scene.safetensors", scene, data.names, data.scene_from_sfm)
    loaded, _, _ = load_scene(tmp_path / "scene.safetensors")
    for module, other in ((scene.trajectory, loaded.trajectory), (scene.photometry, loaded.photometry)):
        assert dict(module.state_dict()).keys() == dict(other.state_dict()).keys()
        for name, tensor in module.state_dict().items():
            assert torch.equal(tensor, other.state_dict()[name]), name
    assert float(scene.trajectory.readout.detach()) != 0.0
    assert any("readout" in line for line in loaded.timing())
    if isinstance(loaded.trajectory, ContinuousTrajectory):
        assert loaded.trajectory.exposure_s == pytest.approx(0.04 * float(scene.trajectory.duty.detach()))
    else:
        assert float(loaded.trajectory.log_speeds.detach().abs().max()) > 0.0


def test_the_first_virtual_views_follow_the_known_blur_within_bounds(blurred: TrainingSet) -> None:
    config = small()
    known = dataclasses.replace(blurred, blurs_px=[None, 0.0, 5.4, 9.0, 1e6, 1e6, 0.1, None])
    # 1.8 px per view, at least 3 and at most 15; at half the size half the path.
    assert first_views(known, [CAMERA] * NUM_FRAMES, config) == [1, 3, 4, 6, 15, 15, 3, 1]
    half = [CAMERA.resized(32, 24)] * NUM_FRAMES
    assert first_views(known, half, config) == [1, 3, 3, 4, 15, 15, 3, 1]
    assert first_views(blurred, half, config) == [1] * NUM_FRAMES


def test_known_blur_counts_only_until_there_are_paths(blurred: TrainingSet) -> None:
    config = small(160)
    known = dataclasses.replace(blurred, blurs_px=[14.0] * NUM_FRAMES)

    def means(data: TrainingSet, kind: TrajectoryKind = "bezier") -> list[float]:
        seen: list[float] = []
        trajectory = dataclasses.replace(config.trajectory, kind=kind)
        train(
            data, dataclasses.replace(config, trajectory=trajectory), QUIET,
            lambda entry: seen.append(entry["mean_views"]),
        )  # fmt: skip
        return seen

    # 7 px at half size: 5 views. Paths count from step 10 + 5 * 8 on, and views are counted at 50.
    first, plain = means(known), means(blurred)
    assert first[0] == 5.0 and plain[0] == 3.0
    assert abs(first[1] - plain[1]) < 1.5
    assert means(known, "static") == [1.0] * 3
    twice = [train(known, small(40), QUIET) for _ in range(2)]
    assert torch.equal(twice[0].trajectory.knots, twice[1].trajectory.knots)


@pytest.mark.parametrize(
    ("kind", "rolling", "given", "found", "begun", "learnt"),
    [
        ("continuous", True, None, 0.4, 0.4, True),
        ("continuous", True, None, None, 0.0, True),
        ("continuous", True, 0.3, 0.4, 0.3, False),
        ("bezier", True, None, 0.4, 0.8, True),  # in exposures, of half a frame interval each
        ("bezier", False, None, 0.4, 0.0, False),
    ],
)
def test_the_readout_begins_where_sfm_found_it(
    kind: TrajectoryKind, rolling: bool, given: float | None, found: float | None, begun: float, learnt: bool,
    blurred: TrainingSet,
) -> None:  # fmt: skip
    trajectory = TrajectoryConfig(kind=kind, rolling_shutter=rolling, readout=given, duty=0.5)
    data = dataclasses.replace(blurred, readout=found, times_s=[0.1 * f for f in range(blurred.num_frames)])
    made = make_trajectory(data, dataclasses.replace(small(5), trajectory=trajectory), torch.Generator())
    assert float(made.readout.detach()) == pytest.approx(begun)
    assert made.readout.requires_grad == learnt and made.rolling == rolling
