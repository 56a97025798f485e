"""The stages of a run. Each reads files of the run folder, writes files into it, and can be repeated on its own.

process (capture, sfm) -> train -> render (pictures, video, PLY). `eval` uses the first and its own training.
"""

import dataclasses
import hashlib
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from deblurgs.config import TrainConfig, to_dict
from deblurgs.errors import DeblurgsError, UsageError
from deblurgs.log import Log
from deblurgs.run import RunFolder, StageStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from deblurgs.capture.dataset import Capture
    from deblurgs.evaluate.protocol import Method, Row
    from deblurgs.render.trust import FrameTrust
    from deblurgs.scene.transform import Similarity
    from deblurgs.sfm.model import SparseModel
    from deblurgs.train.data import TrainingSet
    from deblurgs.train.loop import TrainedScene

SCENE_FILE = "scene.safetensors"
STILL_PX = 2.0
"""Paths up to this length leave no blur worth a word."""
PARTIAL_FILE = "interrupted.safetensors"
"""What an interrupted training had reached; the last finished scene stays beside it until a new one is finished."""
TRUE_POSES_FILE = "truth/poses.json"


@dataclass(frozen=True)
class ProcessConfig:
    """What decides which frames and poses come out of `process`."""

    max_frames: int | None = None
    """Most frames to use; default 60 from a video, 300 from a folder."""
    max_pixels: int = 200_000_000
    """Refuse images with more pixels than this."""
    own_sfm: bool = False
    """Estimate poses from the blurry frames even when the source brings a camera model."""

    def __post_init__(self) -> None:
        if self.max_pixels < 1:
            raise ValueError(f"max_pixels must be at least 1, not {self.max_pixels}")


def process(
    run: RunFolder,
    source: Path,
    config: ProcessConfig,
    log: Log,
    *,
    overwrite: bool = False,
    true_poses: bool = False,
) -> None:
    """User files -> upright frames and camera poses.

    true_poses: where there is no camera model, take the exact poses of a rendered capture. For evaluation only.
    """
    from deblurgs.capture.dataset import load_capture
    from deblurgs.capture.source import ingest
    from deblurgs.capture.truth import write_true_poses
    from deblurgs.sfm.stage import run_sfm

    run.stage(
        "capture",
        {**source_identity(source), "max_frames": config.max_frames, "max_pixels": config.max_pixels},
        lambda: ingest(source, run.path, max_frames=config.max_frames, max_pixels=config.max_pixels, log=log),
        outputs=[run.frames_json], overwrite=overwrite,
    )  # fmt: skip
    capture = load_capture(run.path)
    given_model = None if config.own_sfm else capture.given_model
    given_poses = None if config.own_sfm else capture.given_poses
    if true_poses and capture.truth and not (given_model or given_poses):
        given_poses = write_true_poses(capture, run.path / TRUE_POSES_FILE)
    run.stage(
        "sfm",
        {"own_sfm": config.own_sfm, "given": bool(given_model or given_poses)},
        lambda: run_sfm(
            # Held-out frames are dropped there by their split; their names tell why a given model has more images.
            [*capture.frames, *capture.test_frames], run.sfm,
            given_model=given_model, given_poses=given_poses, masks=capture.masks, log=log,
        ),
        outputs=[run.sfm / "model.npz"], overwrite=overwrite,
    )  # fmt: skip


def source_identity(source: Path) -> dict[str, str]:
    """Name and a hash of names, sizes and times: another source in the same run folder must not meet old frames."""
    digest = hashlib.sha256(str(source.resolve()).encode("utf-8", "surrogateescape"))
    files = sorted(p for p in source.rglob("*") if p.is_file()) if source.is_dir() else [source]
    for path in files[:20_000]:
        if path.exists():
            stat = path.stat()
            digest.update(
                f"{path.name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode("utf-8", "surrogateescape")
            )
    return {"source": source.name, "content": digest.hexdigest()[:16]}


def training_set(
    model: "SparseModel", capture: "Capture", config: TrainConfig | None = None
) -> "TrainingSet":
    """The SfM result as training wants it: pixels in memory, poses and points in the scene frame.

    With `config` images are reduced to training size as they are read, so that 300 large photos fit into memory.
    """
    import torch

    from deblurgs.capture.image import read_rgb
    from deblurgs.train.data import (
        TrainingSet,
        as_tensor,
        normalised,
        pyramid_level,
        training_camera,
        without_masked,
    )

    times_s = {frame.name: frame.time_s for frame in capture.frames}
    cameras = [training_camera(c, config) if config else c for c in model.cameras]
    images, masks = [], []
    for name, path, camera in zip(model.names, model.image_paths, cameras, strict=True):
        mask = _mask(model, name)
        image = without_masked(as_tensor(read_rgb(path)), mask)
        level = pyramid_level([image], [camera], [mask])
        images += level.images
        masks += level.masks
    similarity, depths = normalised(model.camera_from_world, model.points, list(model.observations))
    return TrainingSet(
        names=list(model.names),
        images=images,
        cameras=cameras,
        camera_from_world=as_tensor(similarity.apply_camera_from_world(model.camera_from_world)),
        points=as_tensor(similarity.apply_points(model.points)),
        colors=torch.from_numpy(model.colors).float() / 255.0,
        depths=as_tensor(depths),
        scene_from_sfm=similarity,
        times_s=[times_s.get(name) for name in model.names],
        masks=masks,
    )


def _mask(model: "SparseModel", name: str) -> "Tensor | None":
    """[H,W], 1 where a frame's photo is opaque and 0 elsewhere; None for photos without transparency."""
    from deblurgs.capture.image import read_rgb
    from deblurgs.train.data import as_tensor

    path = model.masks.get(name)
    return None if path is None else (as_tensor(read_rgb(path)[..., 0]) > 0.5).float()


def train(run: RunFolder, config: TrainConfig, log: Log, *, overwrite: bool = False) -> None:
    """Frames and poses -> Gaussians and trajectories."""
    from deblurgs.capture.dataset import load_capture
    from deblurgs.sfm.model import load_model

    run.require_done("sfm", "process")

    def work() -> None:
        from deblurgs.interrupt import stop_on_first_interrupt
        from deblurgs.train.checkpoint import save_scene
        from deblurgs.train.loop import train as optimise
        from deblurgs.train.memory import check_memory, estimate_memory

        model = load_model(run.sfm)
        check_memory(estimate_memory(model.cameras, config), log)
        partial = run.checkpoint / PARTIAL_FILE
        partial.unlink(missing_ok=True)
        # The data are at training size already: reducing them again would train at a smaller one.
        data = training_set(model, load_capture(run.path), config)
        at_size = dataclasses.replace(config, downscale=1.0)
        with stop_on_first_interrupt() as stop:
            with run.metrics(append=False) as metrics:
                scene = optimise(data, at_size, log, metrics.write, stop=stop)
            if not stop.requested:
                try:
                    scene, data = _with_lost_frames(run, model, scene, data, config, log, stop)
                except DeblurgsError as error:
                    log.warn(f"the frames without a pose could not be looked for: {error}")
            if stop.requested:
                run.checkpoint.mkdir(exist_ok=True)
                save_scene(partial, scene, data.names, data.scene_from_sfm)
                log.warn(
                    f"training was interrupted after {scene.seconds:.0f} s.  deblurgs render {run.path}  shows what it "
                    "had reached; the same command trains again from the start."
                )
                raise KeyboardInterrupt
        for line in scene.timing():
            log.info(line)
        run.checkpoint.mkdir(exist_ok=True)
        save_scene(run.checkpoint / SCENE_FILE, scene, data.names, data.scene_from_sfm)

    run.stage("train", config, work, outputs=[run.checkpoint / SCENE_FILE], overwrite=overwrite)


def _with_lost_frames(
    run: RunFolder,
    model: "SparseModel",
    scene: "TrainedScene",
    data: "TrainingSet",
    config: TrainConfig,
    log: Log,
    stop: "Callable[[], bool]",
) -> "tuple[TrainedScene, TrainingSet]":
    """The scene trained once more with the frames that its sharp renders helped to find; as it was if there are none.

    Whatever ends the second training early, the first scene stays, and the model in the run folder with it.
    """
    from deblurgs.capture.dataset import load_capture
    from deblurgs.rescue import find_lost_frames
    from deblurgs.sfm.model import save_model
    from deblurgs.train.loop import train as optimise

    extended = find_lost_frames(run, model, scene, data.scene_from_sfm, log)
    more = len(extended.names) - len(model.names)
    if more == 0:
        return scene, data
    again = None
    try:
        if not stop():
            log.info(f"{more} more frames have a pose now: training again with them")
            second = training_set(extended, load_capture(run.path), config)
            with run.metrics(append=True) as metrics:
                again = optimise(
                    second, dataclasses.replace(config, downscale=1.0), log, metrics.write, stop=stop
                )
            if not stop():
                return again, second
    finally:
        if again is None or stop():
            save_model(model, run.sfm)
    return scene, data


def scene_path(run: RunFolder, log: Log) -> Path:
    """The scene to show: the finished one, or what the last training had reached when it was interrupted.

    Raises UsageError when there is neither.
    """
    partial = run.checkpoint / PARTIAL_FILE
    if run.status("train") == StageStatus.INTERRUPTED and partial.is_file():
        log.warn("the training was interrupted: this is what it had reached by then")
        return partial
    run.require_done("train", "train")
    return run.checkpoint / SCENE_FILE


def render(run: RunFolder, log: Log, *, overwrite: bool = False) -> None:
    """Gaussians and trajectories -> sharp and re-blurred frames, contact sheet, video, trajectories."""
    from deblurgs.capture.dataset import load_capture
    from deblurgs.sfm.model import load_model
    from deblurgs.train.checkpoint import load_scene

    source = scene_path(run, log)

    def pictures() -> None:
        scene, names, _ = load_scene(source)
        _write_frames(run, scene, names, load_model(run.sfm), load_capture(run.path), log)

    outputs = [run.sharp, run.renders / "compare.jpg", run.trust_json]
    run.stage("render", {}, pictures, outputs=outputs, overwrite=overwrite)

    def files() -> None:
        scene, names, scene_from_sfm = load_scene(source)
        times_s = {frame.name: frame.time_s for frame in load_capture(run.path).frames}
        write_scene(run, scene, names, scene_from_sfm, times_s, log)

    run.stage(
        "export", {}, files, outputs=[run.export / "scene.ply", run.trajectories_json], overwrite=overwrite
    )


def _write_frames(
    run: RunFolder,
    scene: "TrainedScene",
    names: list[str],
    model: "SparseModel",
    capture: "Capture",
    log: Log,
) -> None:
    from deblurgs.capture.image import read_rgb, write_png
    from deblurgs.export.contact_sheet import compare_sheet
    from deblurgs.render.render import reblurred_frame, restored_frame
    from deblurgs.train.data import as_tensor

    for folder in (run.sharp, run.reblur):
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*.png"):  # of an earlier run with other frames
            old.unlink()
    (run.renders / "sharp.mp4").unlink(missing_ok=True)
    stems = unique_stems(names)
    views, lengths = scene.num_views(model.cameras), scene.path_lengths_px(model.cameras)
    with log.progress("render", len(names)) as ticker:
        for f, camera in enumerate(model.cameras):
            observed = as_tensor(read_rgb(Path(model.image_paths[f])))
            reblur = reblurred_frame(scene, f, camera, views[f])
            mask = _mask(model, names[f])
            restored = restored_frame(scene, f, camera, observed, reblur, views[f], mask)
            if not restored.explained and lengths[f] > STILL_PX:
                log.warn(f"{names[f]}: no path explains its blur, so it is handed back as it came")
            write_png(run.sharp / f"{stems[f]}.png", restored.image.numpy())
            write_png(run.reblur / f"{stems[f]}.png", reblur.numpy())
            ticker.update(f + 1)
    rows = [(names[f], Path(model.image_paths[f]), run.sharp / f"{stems[f]}.png") for f in range(len(names))]
    compare_sheet(run.renders / "compare.jpg", rows)
    for name, reason in model.failed:
        log.warn(f"{name} has no sharp frame: {reason}")
    _self_check(run, scene, names, model, log)
    if capture.kind == "video":
        times = {frame.name: frame.time_s for frame in capture.frames}
        _write_video(run, stems, [times.get(name) for name in names], capture.fps or 30.0, log)


def _self_check(
    run: RunFolder, scene: "TrainedScene", names: list[str], model: "SparseModel", log: Log
) -> "list[FrameTrust]":
    """How far each sharp frame can be trusted: trust.json, renders/support and a line per problem."""
    import torch

    from deblurgs.capture.image import read_rgb, write_png
    from deblurgs.files import write_json_atomic
    from deblurgs.render import trust_report
    from deblurgs.render.render import reblurred_frame
    from deblurgs.render.trust import judge_frame, trace_scene
    from deblurgs.train.data import as_tensor

    run.support.mkdir(parents=True, exist_ok=True)
    for old in run.support.glob("*.png"):
        old.unlink()
    views = scene.num_views(model.cameras)

    def photo(f: int) -> "Tensor":
        """The observed frame; where it shows nothing there is nothing to disagree with."""
        observed, mask = as_tensor(read_rgb(model.image_paths[f])), _mask(model, names[f])
        if mask is None:
            return observed
        return torch.where(
            mask[..., None] > 0, observed, reblurred_frame(scene, f, model.cameras[f], views[f])
        )

    traced = trace_scene(scene, model.cameras, photo)
    verdicts: list[FrameTrust] = []
    with log.progress("self-check", len(names)) as ticker:
        for f, stem in enumerate(unique_stems(names)):
            verdict, maps = judge_frame(traced, f, names[f])
            verdicts.append(verdict)
            write_png(run.support / f"{stem}.png", trust_report.support_picture(maps).numpy())
            ticker.update(f + 1)
    write_json_atomic(run.trust_json, trust_report.as_json(verdicts))
    for verdict in verdicts:
        if not verdict.reliable:
            log.warn(trust_report.problem_line(verdict))
    log.info(trust_report.summary_line(verdicts))
    return verdicts


def _write_video(run: RunFolder, stems: list[str], times_s: list[float | None], fps: float, log: Log) -> None:
    """The sharp frames, each shown from its own time in the source until the next one's."""
    from deblurgs.capture.image import read_rgb
    from deblurgs.export.video import write_mp4

    known = [t for t in times_s if t is not None]
    frames = ((read_rgb(run.sharp / f"{stem}.png") * 255.0 + 0.5).astype("uint8") for stem in stems)
    write_mp4(
        run.renders / "sharp.mp4", frames, Fraction(fps).limit_denominator(1001),
        times_s=known if len(known) == len(stems) else None, log=log,
    )  # fmt: skip


def unique_stems(names: list[str]) -> list[str]:
    """File stems for outputs: the frame's own, with its suffix kept where two frames differ only in that."""
    stems = [name.rsplit(".", 1)[0] for name in names]
    return [s if stems.count(s) == 1 else n.replace(".", "_") for s, n in zip(stems, names, strict=True)]


def write_scene(
    run: RunFolder,
    scene: "TrainedScene",
    names: list[str],
    scene_from_sfm: "Similarity",
    times_s: dict[str, float | None],
    log: Log,
) -> None:
    """PLY and trajectories in the SfM's own world."""
    import numpy as np
    import torch

    from deblurgs.export.ply import SplatArrays, write_ply
    from deblurgs.export.trajectories import FrameTrajectory, write_trajectories, write_tum
    from deblurgs.scene.shutter import sample_exposure

    # Joint optimisation may have moved the scene as a whole; exports live where the SfM cameras are.
    sfm_from_scene = scene_from_sfm.inverse() @ scene.frame_drift().inverse()
    moved = scene.gaussians.transformed(sfm_from_scene).tensors()
    run.export.mkdir(exist_ok=True)
    dropped = write_ply(
        run.export / "scene.ply",
        SplatArrays(
            means=moved["means"].numpy(), quats_wxyz=moved["quats"].numpy(), log_scales=moved["log_scales"].numpy(),
            logit_opacities=moved["logit_opacities"].numpy(), sh0=moved["sh0"][:, 0].numpy(), shN=moved["shN"].numpy(),
        ),
        antialiased=scene.config.antialiased,
    )  # fmt: skip
    if dropped:
        log.warn(f"{dropped} Gaussians with non-finite numbers were left out of export/scene.ply")

    def in_sfm(poses: "Tensor") -> "NDArray[np.float64]":
        return np.asarray(sfm_from_scene.apply_camera_from_world(poses.double().numpy()), np.float64)

    frames = []
    views = scene.num_views(scene.training_cameras)
    with torch.no_grad():
        for f, name in enumerate(names):
            u, weights = sample_exposure(views[f])
            frames.append(
                FrameTrajectory(
                    name=name, kind=scene.trajectory.kind, knots=in_sfm(scene.trajectory.knot_poses(f)),
                    u=u.double().numpy(), weights=weights.double().numpy(), time_s=times_s.get(name),
                    camera_from_world=in_sfm(scene.trajectory(torch.tensor([f]), u)[0]),
                    mid_camera_from_world=in_sfm(scene.trajectory(torch.tensor([f]), torch.tensor([0.5]))[0])[0],
                )
            )  # fmt: skip
    write_trajectories(run.trajectories_json, frames)
    write_tum(run.export / "trajectory.tum", frames)


def novel_path(
    run: RunFolder, log: Log, *, seconds: float, fps: int, smoothing: float, overwrite: bool
) -> Path:
    """A calm video along the capture's viewpoints that no frame was taken from; -> renders/path.mp4."""
    from deblurgs.export.video import write_mp4
    from deblurgs.render.paths import smooth_path
    from deblurgs.render.render import sharp_view
    from deblurgs.sfm.model import load_model
    from deblurgs.train.checkpoint import load_scene

    source = scene_path(run, log)
    target = run.renders / "path.mp4"
    if target.exists() and not overwrite:
        raise UsageError(f"{target} exists. Use --overwrite to render the path again.")
    scene, _, _ = load_scene(source)
    camera = load_model(run.sfm).cameras[0]
    import torch

    with torch.no_grad():
        mid = scene.trajectory.all_at(0.5)
    poses = smooth_path(mid, max(2, round(seconds * fps)), smoothing=smoothing)
    run.renders.mkdir(exist_ok=True)
    with log.progress("path", len(poses)) as ticker:

        def frames():
            for i, pose in enumerate(poses):
                ticker.update(i + 1)
                yield (sharp_view(scene, pose, camera).numpy() * 255.0 + 0.5).astype("uint8")

        write_mp4(target, frames(), Fraction(fps))
    return target


def save_config(run: RunFolder, preset_name: str, config: TrainConfig, base: TrainConfig) -> None:
    """config.json: the preset and only what differs from it."""
    from deblurgs.files import write_json_atomic

    write_json_atomic(run.config_json, {"preset": preset_name, "train": to_dict(config, base)})


def evaluate(
    run: RunFolder,
    source: Path,
    config: TrainConfig,
    log: Log,
    *,
    methods: "tuple[Method, ...]",
    seeds: tuple[int, ...],
    sfm: str,
    json_path: Path | None,
    overwrite: bool = False,
) -> None:
    """Measure `methods` on a scene with ground truth; prints the table, writes JSON and the refined renders."""
    from rich.console import Console

    from deblurgs.capture.dataset import load_capture
    from deblurgs.capture.image import write_png
    from deblurgs.evaluate import protocol, table
    from deblurgs.evaluate.scenes import evaluation_scene
    from deblurgs.files import write_json_atomic
    from deblurgs.sfm.model import load_model

    process(
        run, source, ProcessConfig(own_sfm=sfm == "blurry-only"), log, overwrite=overwrite, true_poses=sfm == "given"
    )  # fmt: skip
    capture, model = load_capture(run.path), load_model(run.sfm)
    given = None if sfm == "blurry-only" else capture.given_model or capture.given_poses
    if sfm == "given" and given is None and capture.truth is not None:
        given = run.path / TRUE_POSES_FILE
    if sfm == "given" and given is None:
        raise UsageError(f"{source} brings no camera model. Use --sfm blurry-only.")
    training = training_set(model, capture)
    scene = evaluation_scene(
        source.resolve().name, given, capture, model, training, run.sfm, run.path / "eval", log
    )

    def save_picture(name: str, image: "Tensor") -> None:
        folder = run.path / "eval"
        folder.mkdir(exist_ok=True)
        write_png(folder / f"{name.rsplit('.', 1)[0]}.png", image.numpy())

    def save_rows(rows: "list[Row]") -> None:
        result = table.as_json(scene, rows, {"preset_config": to_dict(config), "failed": model.failed})
        write_json_atomic(run.path / "eval.json", result)
        if json_path is not None:
            write_json_atomic(json_path, result)

    rows = protocol.evaluate(scene, config, methods, seeds, log, picture=save_picture, on_rows=save_rows)
    Console(width=130 if not log.quiet else None).print(table.as_table(scene, rows))
