import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from deblurgs.config import TrainConfig
from deblurgs.math.lie import se3_exp
from deblurgs.render import trust_report
from deblurgs.render.render import reblurred_frame
from deblurgs.render.support import Support
from deblurgs.render.trust import (
    REASONS,
    TOLERATED_ERROR,
    FrameTrust,
    TracedScene,
    TrustMaps,
    agreement,
    filled_depth,
    judge_frame,
    trace_scene,
    trust_maps,
)
from deblurgs.scene.camera import Camera
from deblurgs.scene.gaussians import Gaussians
from deblurgs.scene.photometry import Photometry
from deblurgs.scene.trajectory import Trajectory
from deblurgs.train.trained import TrainedScene

CAMERA = Camera(64, 48, 60.0, 60.0, 32.0, 24.0)


def flat(value: float) -> torch.Tensor:
    return torch.full((6, 8), value)


def wall() -> Gaussians:
    """Opaque splats of random colour side by side at depth 2, larger than the picture."""
    g = torch.Generator().manual_seed(0)
    x, y = torch.meshgrid(torch.linspace(-1.5, 1.5, 40), torch.linspace(-1.2, 1.2, 32), indexing="ij")
    means = torch.stack([x.flatten(), y.flatten(), torch.full((1280,), 2.0)], 1)
    return Gaussians(
        means=means, quats=torch.tensor([1.0, 0, 0, 0]).repeat(1280, 1),
        log_scales=torch.tensor([-2.8, -2.8, -4.0]).repeat(1280, 1), logit_opacities=torch.full((1280,), 4.0),
        sh0=torch.randn(1280, 1, 3, generator=g), shN=torch.zeros(1280, 0, 3),
    )  # fmt: skip


def trained(lengths_px: list[float]) -> TrainedScene:
    """Frames at nearly the same place whose cameras move sideways so that the wall moves by these lengths."""
    trajectory = Trajectory(
        se3_exp(torch.tensor([[0.01 * f, 0, 0, 0, 0, 0] for f in range(len(lengths_px))])), "linear", 2
    )
    with torch.no_grad():
        for f, px in enumerate(lengths_px):
            trajectory.knots[f, :, 0] = torch.tensor([-0.5, 0.5]) * px * 2.0 / CAMERA.fx
    cameras = [CAMERA] * len(lengths_px)
    return TrainedScene(
        wall(),
        trajectory,
        Photometry(len(lengths_px)),
        cameras,
        torch.full((len(lengths_px),), 2.0),
        TrainConfig(),
        0.0,
    )


def judged(scene: TrainedScene, photos: list[torch.Tensor]) -> list[FrameTrust]:
    traced = trace_scene(scene, scene.training_cameras, lambda f: photos[f])
    return [judge_frame(traced, f, f"{f}.png")[0] for f in range(len(photos))]


def photos_of(scene: TrainedScene) -> list[torch.Tensor]:
    views = scene.num_views(scene.training_cameras)
    return [reblurred_frame(scene, f, CAMERA, views[f]) for f in range(len(views))]


def test_trust_is_the_recorded_share_where_the_photos_agree_and_half_of_it_at_the_tolerated_error() -> None:
    support = Support(flat(0.2), flat(0.8), flat(3.0), flat(1.0))
    grey = torch.rand(12, 16)
    maps = trust_maps(support, grey)
    assert torch.allclose(maps.own, flat(0.2)) and torch.allclose(maps.recovered, flat(0.6))
    assert torch.allclose(maps.trust, flat(0.8))
    wrong = trust_maps(dataclasses.replace(support, agreement=agreement(flat(TOLERATED_ERROR**2))), grey)
    assert torch.allclose(wrong.own, flat(0.1)) and torch.allclose(wrong.trust, flat(0.4))
    worse = trust_maps(
        dataclasses.replace(support, agreement=agreement(flat((10 * TOLERATED_ERROR) ** 2))), grey
    )
    assert (worse.trust < 0.01).all()


def test_a_blurred_frame_beside_sharp_ones_is_recovered_and_a_lone_one_is_a_guess() -> None:
    scene = trained([0.0, 20.0, 0.0])
    sharp, blurred, _ = judged(scene, photos_of(scene))
    assert (
        sharp.reliable
        and sharp.trust > 0.8
        and sharp.own > 0.8
        and sharp.path_px == pytest.approx(0, abs=0.01)
    )
    assert blurred.reliable and blurred.trust > 0.7
    assert blurred.own < 0.05 and blurred.recovered > 0.7 and blurred.sharper_views > 1.7
    assert blurred.path_px == pytest.approx(20.0, rel=0.02)
    assert blurred.residual < 0.01
    lone = trained([20.0])
    (alone,) = judged(lone, photos_of(lone))
    assert alone.reasons == ("unseen",) and alone.trust < 0.05 and alone.guessed > 0.95
    blurred_alike = trained([20.0] * 4)
    assert all(v.reasons == ("unseen",) for v in judged(blurred_alike, photos_of(blurred_alike)))


def test_photos_that_the_model_contradicts_are_not_trusted() -> None:
    scene = trained([0.0] * 5)
    photos = photos_of(scene)
    inverted = [1.0 - p for p in photos]
    assert all(v.reasons == ("residual",) and v.trust < 0.3 for v in judged(scene, inverted))
    one_wrong = judged(scene, [*photos[:2], inverted[2], *photos[3:]])
    assert "outlier" in one_wrong[2].reasons and one_wrong[2].residual > 0.1
    assert [v.reliable for v in one_wrong] == [True, True, False, True, True]
    assert one_wrong[2].trust < min(v.trust for f, v in enumerate(one_wrong) if f != 2)


def test_photos_larger_than_the_training_size_are_compared_at_working_size() -> None:
    scene = trained([0.0, 0.0])
    big = Camera(128, 96, 120.0, 120.0, 64.0, 48.0)
    enlarged = [p.repeat_interleave(2, 0).repeat_interleave(2, 1) for p in photos_of(scene)]
    traced = trace_scene(scene, [big, big], lambda f: enlarged[f])
    assert isinstance(traced, TracedScene) and max(traced.residuals) < 1e-3
    moving = trained([10.0])
    path = trace_scene(moving, [big], lambda f: enlarged[0]).paths_px
    assert path[0] == pytest.approx(20.0, rel=0.02), "path lengths are told in pixels of the input"


def test_depth_is_filled_from_the_surroundings() -> None:
    alpha = torch.ones(16, 16)
    alpha[4:10, 4:10] = 0.0
    depth = 3.0 * alpha
    filled = filled_depth(depth, alpha)
    assert torch.allclose(filled[alpha == 1], torch.tensor(3.0))
    assert torch.allclose(filled, torch.full((16, 16), 3.0), rtol=0.05)
    half = filled_depth(torch.full((5, 7), 1.0), torch.full((5, 7), 0.5))
    assert torch.allclose(half, torch.full((5, 7), 2.0), rtol=0.01)
    assert torch.isfinite(filled_depth(torch.zeros(9, 5), torch.zeros(9, 5))).all()


def test_the_picture_shows_blue_green_and_red_where_they_belong() -> None:
    own, recovered = torch.zeros(6, 9), torch.zeros(6, 9)
    own[:, :3], recovered[:, 3:6] = 1.0, 1.0
    picture = trust_report.support_picture(TrustMaps(own, recovered, torch.full((12, 18), 0.8)))
    assert picture.shape == (12, 18, 3) and picture.min() >= 0.0 and picture.max() <= 1.0
    assert picture[6, 1].argmax() == 2 and picture[6, 9].argmax() == 1 and picture[6, 16].argmax() == 0
    dark = trust_report.support_picture(TrustMaps(own, recovered, torch.zeros(12, 18)))
    assert (dark < picture).all(), "the picture shows through"


def verdict(name: str, trust: float, *reasons: str) -> FrameTrust:
    return FrameTrust(name, trust, trust / 4, trust * 3 / 4, 1 - trust, 0.9, 0.02, 12.3, 4.0, reasons)


def test_the_lines_name_the_frame_and_the_cause() -> None:
    frames = [verdict("a.png", 0.8), verdict("b.png", 0.3, "residual", "outlier")]
    line = trust_report.problem_line(frames[1])
    assert "b.png" in line and "0.30" in line and "12 px" in line
    assert REASONS["residual"] in line and REASONS["outlier"] in line
    summary = trust_report.summary_line(frames)
    assert "1 of 2 frames" in summary and "41% recovered" in summary and "45% is a guess" in summary
    assert "0.30 (b.png)" in summary


def test_many_problems_are_told_by_the_worst_and_a_count() -> None:
    frames = [
        verdict(f"{i:02d}.png", trust, "unseen") for i, trust in enumerate([0.3, 0.1, 0.9, 0.2, 0.4, 0.5])
    ]
    frames[2] = verdict("02.png", 0.9)
    told = trust_report.problem_lines(frames)
    assert [line[:6] for line in told] == ["00.png", "01.png", "03.png", "04.png", "05.png"]
    *told, rest = trust_report.problem_lines(
        [*frames, *(verdict(f"{i}.png", 0.45, "unseen") for i in range(10, 30))]
    )
    assert [line[:6] for line in told] == ["00.png", "01.png", "03.png", "04.png"], (
        "in the order of the frames"
    )
    assert rest.startswith("21 more frames")
    assert trust_report.problem_lines([verdict("a.png", 0.9)]) == []


def test_json_is_strict_and_complete() -> None:
    data = trust_report.as_json([verdict("a.png", 0.8), verdict("b.png", 0.3, "unseen")])
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert data["trust"] == pytest.approx(0.55) and data["num_reliable"] == 1
    a, b = data["frames"]
    assert a["reliable"] is True and b["reliable"] is False and b["reasons"] == ["unseen"]
    assert a["own"] + a["recovered"] + a["guessed"] == pytest.approx(1.0)
    assert math.isclose(np.mean([a["trust"], b["trust"]]), data["trust"])
