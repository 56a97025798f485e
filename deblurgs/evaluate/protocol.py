"""The evaluation protocol: two named tasks, three named columns, every method treated the same.

Tasks: *novel* (a held-out sharp view) and *deblurring* (a training frame's mid-exposure against its sharp twin).
Columns: *raw* (the pose as SfM gives it, or as training left it), *aligned* (after one similarity between the SfM poses
and the refined trajectories, because joint optimisation may move the scene as a whole), *refined* (each pose refined on
its own reference with the Gaussians frozen). For deblurring raw and aligned are equal by nature: the frame is rendered
at the pose that the trajectory itself has at mid-exposure, which no similarity of the whole scene changes. A fourth
column, *restored*, exists for deblurring with `plain` and `deblurgs`: the frame that `deblurgs run` hands out, with the
detail of its own photo that the model lacks. For `plain` that is the blurred photo itself, for `restore-plain` (plain
splats of frames that a network restored one by one) what the network made of it. Transparent parts of a training frame
count in none of the columns.
"""

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from deblurgs.config import TrainConfig
from deblurgs.errors import UsageError
from deblurgs.evaluate.refine import refine_pose, sharp_image
from deblurgs.log import Log
from deblurgs.machine import PeakMemory
from deblurgs.math.metrics import psnr, ssim
from deblurgs.render.render import reblurred_frame, restored_frame
from deblurgs.scene.camera import Camera
from deblurgs.scene.gaussians import Gaussians
from deblurgs.scene.transform import Similarity
from deblurgs.train.data import TrainingSet, pyramid_level, training_camera
from deblurgs.train.loop import Probe, train
from deblurgs.train.model import AnyTrajectory
from deblurgs.train.trained import TrainedScene, frame_drift

Method = Literal["plain", "deblurgs", "oracle", "restore-plain"]
Task = Literal["novel", "deblurring"]
Column = Literal["raw", "aligned", "refined", "restored"]
COLUMNS: tuple[Column, ...] = ("raw", "aligned", "refined", "restored")


@dataclass(frozen=True)
class Reference:
    """A sharp photo to compare with, full size. pose: camera_from_world [4,4], scene frame, novel views only."""

    name: str
    image: Tensor
    camera: Camera
    pose: Tensor | None = None


@dataclass(frozen=True)
class EvaluationScene:
    """What one evaluation needs. `training` never holds a held-out image; `check_hold_out` proves it."""

    name: str
    sfm: str
    training: TrainingSet
    novel: list[Reference] = field(default_factory=list)
    twins: list[Reference] = field(default_factory=list)


@dataclass
class Row:
    """One line of the table: means over the views of one task, one method, one seed."""

    method: Method
    task: Task
    seed: int
    size: tuple[int, int]
    columns: dict[Column, dict[str, float]]
    views: dict[str, dict[str, float]]
    train_seconds: float
    peak_mb: float
    num_gaussians: int
    shutter: dict[str, float]

    def as_json(self) -> dict[str, Any]:
        data = dataclasses.asdict(self)
        data.update(data.pop("columns"))
        data["size"] = list(self.size)
        return data


Picture = Callable[[str, Tensor], None]
# Display values of a render to those of one photo.
Develop = Callable[[Tensor], Tensor]
# A photo [H,W,3] in [0,1] -> the same photo, restored alone.
RestorePhoto = Callable[[Tensor], Tensor]


def method_config(method: Method, config: TrainConfig) -> TrainConfig:
    """`plain` and `oracle` differ in one thing only: one refined pose per frame instead of a path, hence one view."""
    if method == "deblurgs":
        return config
    return dataclasses.replace(
        config,
        trajectory=dataclasses.replace(
            config.trajectory, kind="static", num_knots=1, rolling_shutter=False, readout=None
        ),
    )


def method_data(method: Method, scene: EvaluationScene, restore: RestorePhoto | None = None) -> TrainingSet:
    """The frames a method is trained on: `oracle` sees the sharp twins, `restore-plain` the frames as `restore`
    makes them, everyone else the blurred frames.

    Raises UsageError when `oracle` is asked for and a training frame has no twin.
    """
    if method == "restore-plain":
        if restore is None:
            raise ValueError("the method restore-plain needs `restore`")
        return dataclasses.replace(scene.training, images=[restore(i) for i in scene.training.images])
    if method != "oracle":
        return scene.training
    twins = {view.name: view.image for view in scene.twins}
    missing = [name for name in scene.training.names if name not in twins]
    if missing:
        raise UsageError(
            f"{scene.name} has no sharp twin of {missing[0]}"
            + (f" and {len(missing) - 1} more frames" if len(missing) > 1 else "")
            + ". Leave `oracle` out of --methods."
        )
    return dataclasses.replace(scene.training, images=[twins[name] for name in scene.training.names])


def check_hold_out(scene: EvaluationScene) -> None:
    """Raise UsageError when a held-out view's name or pixels are among the training frames."""
    names = set(scene.training.names)
    pixels = {image.numpy().tobytes() for image in scene.training.images}
    for view in scene.novel:
        if view.name in names or view.image.numpy().tobytes() in pixels:
            raise UsageError(
                f"held-out view {view.name} is among the training frames of {scene.name}: nothing is measured"
            )


def evaluate(
    scene: EvaluationScene,
    config: TrainConfig,
    methods: tuple[Method, ...],
    seeds: tuple[int, ...],
    log: Log,
    *,
    picture: Picture | None = None,
    restore: RestorePhoto | None = None,
    on_rows: Callable[[list[Row]], None] | None = None,
    device: torch.device | None = None,
) -> list[Row]:
    """Train every method with every seed on the blurred frames and score it. `picture` receives the refined renders."""
    check_hold_out(scene)
    if not scene.novel and not scene.twins:
        raise UsageError(
            f"{scene.name} has neither a held-out sharp view with a pose nor a sharp twin of a frame with a pose, so "
            "there is nothing to compare with. Use `deblurgs run` for captures without ground truth."
        )
    data = {method: method_data(method, scene, restore) for method in methods}
    rows: list[Row] = []
    place = device or torch.device("cpu")
    for seed in seeds:
        for method in methods:
            log.info(f"{scene.name}: {method}, seed {seed}")
            settings = dataclasses.replace(method_config(method, config), seed=seed)
            memory = PeakMemory()
            trained = train(data[method].to(place), settings, log, probe=held_out_probe(scene, settings))
            peak = memory.own_mb()
            for line in trained.timing():
                log.info(line)
            torch.set_num_threads(1)  # scoring is many small tensors; see Trainer.train
            tasks: tuple[tuple[Task, list[Reference]], ...] = (
                ("novel", scene.novel),
                ("deblurring", scene.twins),
            )
            for task, views in tasks:
                if views:
                    keep = (lambda n, i, m=method, s=seed: picture(f"{m}-{s}-{n}", i)) if picture else None
                    # What `restore-plain` hands out comes from its own frames; the references are everyone's.
                    own = (
                        dataclasses.replace(scene, training=data[method])
                        if method == "restore-plain"
                        else scene
                    )
                    rows.append(_score(own, trained, method, task, seed, views, peak, keep))
            if on_rows:
                on_rows(rows)
    return rows


def held_out_probe(scene: EvaluationScene, config: TrainConfig) -> Probe | None:
    """PSNR of the first held-out view at its aligned pose, to be shown while training."""
    if not scene.novel or scene.novel[0].pose is None:
        return None
    view, pose = scene.novel[0], scene.novel[0].pose.double().numpy()
    camera = training_camera(view.camera, config)
    target = pyramid_level([view.image], [camera]).images[0]

    def psnr_now(gaussians: Gaussians, trajectory: AnyTrajectory) -> float:
        data = scene.training
        drift = frame_drift(trajectory, data.cameras, data.depths, data.landmarks)
        aligned = torch.from_numpy(drift.apply_camera_from_world(pose)).float()
        image = sharp_image(
            gaussians, aligned, camera, antialiased=config.antialiased, supersample=config.train_scale
        )
        return float(psnr(image, target))

    return psnr_now


def _measured(image: Tensor, target: Tensor, mask: Tensor | None) -> tuple[float, float]:
    return float(psnr(image, target, mask)), float(ssim(image, target, mask))


def _restored(
    scene: EvaluationScene, trained: TrainedScene, name: str, camera: Camera, mask: Tensor | None
) -> Tensor:
    """The training frame as `deblurgs run` would hand it out, at the size that is compared."""
    frame = scene.training.names.index(name)
    observed = pyramid_level([scene.training.images[frame]], [camera]).images[0]
    views = trained.num_views(trained.training_cameras)[frame]
    reblur = reblurred_frame(trained, frame, camera, views)
    return restored_frame(trained, frame, camera, observed, reblur, views, mask).image


def _mask(scene: EvaluationScene, view: Reference) -> Tensor | None:
    """[H,W] of a training frame, 0 where its photo is transparent: what is stored there is nobody's to restore."""
    if view.pose is not None or not scene.training.masks:
        return None
    return scene.training.masks[scene.training.names.index(view.name)]


@torch.no_grad()
def taken_from(
    scene: EvaluationScene, trained: TrainedScene, view: Reference, drift: Similarity
) -> tuple[Tensor, Tensor, Develop | None]:
    """The poses [4,4] from which a reference is drawn, raw and aligned, and what gives the picture its colours.

    drift: `trained.frame_drift()`. Of a training frame the poses are its mid-exposure's, and its own brightness and
    colour are known.
    """
    if view.pose is None:
        frame = scene.training.names.index(view.name)
        pose = trained.trajectory.all_at(0.5)[frame]
        photometry = copy.deepcopy(trained.photometry).to(trained.device)
        return pose, pose, partial(photometry.photo, frame=frame)
    moved = drift.apply_camera_from_world(view.pose.double().numpy())
    return view.pose, torch.from_numpy(np.ascontiguousarray(moved)).float(), None


def _score(
    scene: EvaluationScene,
    trained: TrainedScene,
    method: Method,
    task: Task,
    seed: int,
    views: list[Reference],
    peak_mb: float,
    picture: Picture | None,
) -> Row:
    drift = trained.frame_drift()
    per_view: dict[str, dict[str, float]] = {}
    scores: dict[Column, list[tuple[float, float]]] = {c: [] for c in COLUMNS}
    size = (0, 0)
    for view in views:
        camera = training_camera(view.camera, trained.config)
        size = (camera.width, camera.height)
        level = pyramid_level([view.image], [camera], [_mask(scene, view)])
        target, mask = level.images[0], level.masks[0]
        line: dict[str, float] = {}
        if view.pose is None and method != "oracle":
            score = _measured(_restored(scene, trained, view.name, camera, mask), target, mask)
            scores["restored"].append(score)
            line["restored_psnr"] = round(score[0], 3)
        raw, aligned, develop = taken_from(scene, trained, view, drift)
        g, aa, fine = trained.splats(), trained.config.antialiased, trained.config.train_scale
        refined = refine_pose(
            g, aligned, camera, target, antialiased=aa, develop=develop, mask=mask, supersample=fine
        )
        poses: tuple[tuple[Column, Tensor], ...] = (("raw", raw), ("aligned", aligned), ("refined", refined))
        for column, pose in poses:
            image = sharp_image(g, pose, camera, antialiased=aa, develop=develop, supersample=fine)
            score = _measured(image, target, mask)
            scores[column].append(score)
            line[f"{column}_psnr"] = round(score[0], 3)
            if column == "refined" and picture:
                picture(f"{task}-{view.name}", torch.cat([image, target], dim=1))
        per_view[view.name] = line
    columns: dict[Column, dict[str, float]] = {
        column: {
            "psnr": round(sum(p for p, _ in values) / len(values), 3),
            "ssim": round(sum(s for _, s in values) / len(values), 4),
        }
        for column, values in scores.items()
        if values
    }
    return Row(
        method, task, seed, size, columns, per_view, round(trained.seconds, 1), round(peak_mb, 1),
        trained.gaussians.num_gaussians, trained.shutter(),
    )  # fmt: skip
