import dataclasses
from functools import partial

import numpy as np
import pytest
import torch

from deblurgs.config import TrainConfig, preset
from deblurgs.errors import UsageError
from deblurgs.evaluate import protocol, table
from deblurgs.evaluate.protocol import EvaluationScene, Reference, evaluate, method_config, method_data
from deblurgs.evaluate.refine import RefineSettings, refine_pose, sharp_image
from deblurgs.log import Log
from deblurgs.math.lie import se3_exp, so3_exp
from deblurgs.render.render import sharp_view
from deblurgs.scene.camera import Camera
from deblurgs.scene.gaussians import Gaussians
from deblurgs.scene.photometry import Photometry
from deblurgs.scene.trajectory import Trajectory
from deblurgs.scene.transform import Similarity
from deblurgs.train.data import TrainingSet
from deblurgs.train.trained import TrainedScene

CAMERA = Camera(48, 32, 50.0, 50.0, 24.0, 16.0)


def gaussians(num: int = 150) -> Gaussians:
    g = torch.Generator().manual_seed(0)
    return Gaussians(
        means=torch.rand(num, 3, generator=g) * torch.tensor([1.2, 0.8, 0.5])
        + torch.tensor([-0.6, -0.4, 0.8]),
        quats=torch.randn(num, 4, generator=g),
        log_scales=torch.full((num, 3), -3.2),
        logit_opacities=torch.full((num,), 2.0),
        sh0=torch.randn(num, 1, 3, generator=g),
        shN=torch.zeros(num, 0, 3),
    )


def poses(num: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(1)
    return se3_exp(torch.randn(num, 6, generator=g) * 0.05)


def training(names: list[str], images: list[torch.Tensor]) -> TrainingSet:
    points = torch.rand(20, 3) + torch.tensor([0.0, 0.0, 1.0])
    return TrainingSet(
        names, images, [CAMERA] * len(names), poses(len(names)), points, torch.rand(20, 3), torch.ones(len(names)),
        Similarity.identity(),
    )  # fmt: skip


def test_plain_differs_from_deblurgs_only_in_the_trajectory() -> None:
    config = preset("default")
    plain = method_config("plain", config)
    assert plain.trajectory.kind == "static"
    assert dataclasses.replace(plain, trajectory=config.trajectory) == config
    assert method_config("deblurgs", config) == config


@pytest.mark.parametrize("leak", ["name", "pixels"])
def test_a_held_out_view_among_the_training_frames_is_refused(leak: str) -> None:
    images = [torch.rand(32, 48, 3) for _ in range(3)]
    held_out = Reference(
        "test.png", images[1].clone() if leak == "pixels" else torch.rand(32, 48, 3), CAMERA, torch.eye(4)
    )
    if leak == "name":
        held_out = dataclasses.replace(held_out, name="b.png")
    scene = EvaluationScene("leaky", "given", training(["a.png", "b.png", "c.png"], images), [held_out])
    with pytest.raises(UsageError, match="held-out"):
        evaluate(scene, TrainConfig(), ("plain",), (0,), Log(quiet=True))


def test_a_scene_without_references_is_refused_with_advice() -> None:
    scene = EvaluationScene("bare", "blurry-only", training(["a.png"], [torch.rand(32, 48, 3)]))
    with pytest.raises(UsageError, match="nothing to compare"):
        evaluate(scene, TrainConfig(), ("plain",), (0,), Log(quiet=True))


def test_alignment_undoes_a_drift_of_the_whole_scene_and_refinement_a_wrong_pose(monkeypatch) -> None:
    """A perfect scene that joint optimisation moved as a whole: raw is poor, aligned is right."""
    still = gaussians()
    sfm = poses(6)
    drift = Similarity(
        1.1,
        so3_exp(torch.tensor([0.05, -0.08, 0.03], dtype=torch.float64)).numpy(),
        np.array([0.1, 0.0, -0.1]),
    )
    trajectory = Trajectory(sfm, "static", 1)
    moved = drift.apply_camera_from_world(sfm.double().numpy())
    # Pretend that training ended there: the trajectory's SfM poses stay, its knots carry the drift.
    scene = TrainedScene(
        still.transformed(drift), trajectory, Photometry(6), [CAMERA] * 6, torch.ones(6), TrainConfig(), 0.0
    )
    at = torch.from_numpy(moved)[:, None]
    monkeypatch.setattr(
        Trajectory, "forward", lambda self, frames, u, row=0.5: at[frames].expand(-1, len(u), 4, 4)
    )
    test_pose = se3_exp(torch.tensor([0.03, 0.02, -0.02, 0.02, -0.01, 0.03]))
    image = sharp_image(still, test_pose, CAMERA, antialiased=False)
    evaluation = EvaluationScene(
        "drifted", "given", training([f"{i}.png" for i in range(6)], [torch.rand(32, 48, 3)] * 6),
        [Reference("held.png", image, CAMERA, test_pose)],
    )  # fmt: skip
    monkeypatch.setattr(protocol, "train", lambda *_, **__: scene)
    (row,) = evaluate(evaluation, TrainConfig(), ("deblurgs",), (0,), Log(quiet=True))
    assert row.task == "novel" and row.size == (48, 32)
    assert row.columns["aligned"]["psnr"] > row.columns["raw"]["psnr"] + 10.0
    assert row.columns["aligned"]["psnr"] > 35.0
    assert {"raw", "aligned", "refined", "seed", "size", "train_seconds", "peak_mb"} <= set(row.as_json())


def test_the_result_file_tells_how_many_threads_worked(monkeypatch) -> None:
    monkeypatch.setenv("DEBLURGS_THREADS", "7")
    scene = EvaluationScene("empty", "given", training([], []))
    assert table.as_json(scene, [], {})["machine"]["threads"] == 7


def test_pose_refinement_finds_a_pose_from_pixels() -> None:
    scene = gaussians()
    truth = se3_exp(torch.tensor([0.02, -0.015, 0.01, 0.01, 0.02, -0.02]))
    target = sharp_image(scene, truth, CAMERA, antialiased=False)
    found = refine_pose(
        scene, torch.eye(4), CAMERA, target, antialiased=False,
        settings=RefineSettings(scales=(0.5, 1.0), steps=(60, 120)),
    )  # fmt: skip
    assert (found - truth).abs().max() < 2e-3
    assert (torch.eye(4) - truth).abs().max() > 1.5e-2


def test_a_scene_trained_with_finer_pixels_is_measured_as_it_is_handed_out(monkeypatch) -> None:
    sfm, config = poses(2), TrainConfig(train_scale=2)
    trained = TrainedScene(
        gaussians(), Trajectory(sfm, "static", 1), Photometry(2), [CAMERA] * 2, torch.ones(2), config, 0.0
    )
    image = sharp_view(trained, sfm[0], CAMERA)
    coarse = sharp_image(trained.gaussians, sfm[0], CAMERA, antialiased=False)
    assert float((image - coarse).abs().max()) > 0.01, "else this test tests nothing"
    monkeypatch.setattr(protocol, "train", lambda *_, **__: trained)
    refined = partial(refine_pose, settings=RefineSettings(scales=(1.0,), steps=(2,), lr=1e-7, lr_end=1e-7))
    monkeypatch.setattr(protocol, "refine_pose", refined)
    evaluation = EvaluationScene(
        "fine", "given", training(["a.png", "b.png"], [torch.rand(32, 48, 3)] * 2),
        [Reference("held.png", image, CAMERA, sfm[0])],
    )  # fmt: skip
    (row,) = evaluate(evaluation, config, ("plain",), (0,), Log(quiet=True))
    assert min(row.columns[c]["psnr"] for c in ("raw", "aligned", "refined")) > 60.0
    probe = protocol.held_out_probe(evaluation, config)
    assert probe is not None and probe(trained.gaussians, trained.trajectory) > 60.0


def test_the_oracle_sees_the_twins_and_nobody_else_does() -> None:
    blurred, sharp = torch.zeros(32, 48, 3), torch.ones(32, 48, 3)
    scene = EvaluationScene(
        "twins", "given", training(["a.png"], [blurred]), twins=[Reference("a.png", sharp, CAMERA)]
    )
    assert method_data("deblurgs", scene).images[0] is blurred
    assert method_data("plain", scene).images[0] is blurred
    assert method_data("oracle", scene).images[0] is sharp
    assert method_config("oracle", TrainConfig()).trajectory.kind == "static"
    with pytest.raises(UsageError, match=r"no sharp twin of b\.png"):
        method_data("oracle", EvaluationScene("x", "given", training(["b.png"], [blurred])))


def test_transparent_parts_of_a_training_frame_do_not_count(monkeypatch) -> None:
    """Whatever twin and render hold under the mask, the scores stay the same."""
    scene, sfm = gaussians(), poses(2)
    mask = torch.ones(32, 48)
    mask[:, 30:] = 0
    twin = sharp_image(scene, sfm[0], CAMERA, antialiased=False)
    spoiled = torch.where(mask[..., None] > 0, twin, 1.0 - twin)
    trained = TrainedScene(
        scene, Trajectory(sfm, "static", 1), Photometry(2), [CAMERA] * 2, torch.ones(2), TrainConfig(), 0.0
    )
    monkeypatch.setattr(protocol, "train", lambda *_, **__: trained)
    monkeypatch.setattr(protocol, "refine_pose", lambda _, pose, *args, **kwargs: pose)
    data = dataclasses.replace(
        training(["a.png", "b.png"], [spoiled, twin]), camera_from_world=sfm, masks=[mask, None]
    )
    rows = {}
    for name, image in (("clean", twin), ("spoiled", spoiled)):
        evaluation = EvaluationScene("masked", "given", data, twins=[Reference("a.png", image, CAMERA)])
        (rows[name],) = evaluate(evaluation, TrainConfig(), ("plain",), (0,), Log(quiet=True))
    assert rows["spoiled"].columns == rows["clean"].columns
    assert rows["spoiled"].columns["raw"]["psnr"] > 60.0


def test_restore_plain_is_plain_splats_of_frames_restored_one_by_one() -> None:
    blurred = torch.full((32, 48, 3), 0.25)
    scene = EvaluationScene("x", "given", training(["a.png"], [blurred]))
    data = method_data("restore-plain", scene, lambda image: image * 2)
    assert torch.equal(data.images[0], blurred * 2)
    assert scene.training.images[0] is blurred, "the other methods' frames stay as they are"
    assert method_config("restore-plain", TrainConfig()) == method_config("plain", TrainConfig())
    with pytest.raises(ValueError, match="restore"):
        method_data("restore-plain", scene)
