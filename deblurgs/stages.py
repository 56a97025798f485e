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
from deblurgs.errors import UsageError
from deblurgs.log import Log
from deblurgs.run import RunFolder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from deblurgs.capture.dataset import Capture
    from deblurgs.evaluate.protocol import Method, Row
    from deblurgs.scene.transform import Similarity
    from deblurgs.sfm.model import SparseModel
    from deblurgs.train.data import TrainingSet
    from deblurgs.train.loop import TrainedScene

SCENE_FILE = "scene.safetensors"


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
    run: RunFolder, source: Path, config: ProcessConfig, log: Log, *, overwrite: bool = False
) -> None:
    """User files -> upright frames and camera poses."""
    from deblurgs.capture.dataset import load_capture
    from deblurgs.capture.source import ingest
    from deblurgs.sfm.stage import run_sfm

    run.stage(
        "capture",
        {**source_identity(source), "max_frames": config.max_frames, "max_pixels": config.max_pixels},
        lambda: ingest(source, run.path, max_frames=config.max_frames, max_pixels=config.max_pixels, log=log),
        outputs=[run.frames_json], overwrite=overwrite,
    )  # fmt: skip
    capture = load_capture(run.path)
    if capture.masks:
        log.warn(
            f"{len(capture.masks)} photos have transparent parts; they are used with the colours stored there"
        )
    given_model = None if config.own_sfm else capture.given_model
    given_poses = None if config.own_sfm else capture.given_poses
    run.stage(
        "sfm",
        {"own_sfm": config.own_sfm, "given": bool(given_model or given_poses)},
        lambda: run_sfm(
            # Held-out frames are dropped there by their split; their names tell why a given model has more images.
            [*capture.frames, *capture.test_frames], run.sfm,
            given_model=given_model, given_poses=given_poses, log=log,
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


def training_set(model: "SparseModel", config: TrainConfig | None = None) -> "TrainingSet":
    """The SfM result as training wants it: pixels in memory, poses and points in the scene frame.

    With `config` images are reduced to training size as they are read, so that 300 large photos fit into memory.
    """
    import torch

    from deblurgs.capture.image import read_rgb
    from deblurgs.train.data import TrainingSet, as_tensor, normalised, pyramid_level, training_camera

    cameras = [training_camera(c, config) if config else c for c in model.cameras]
    images = [
        pyramid_level([as_tensor(read_rgb(path))], [camera]).images[0]
        for path, camera in zip(model.image_paths, cameras, strict=True)
    ]
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
    )


def train(run: RunFolder, config: TrainConfig, log: Log, *, overwrite: bool = False) -> None:
    """Frames and poses -> Gaussians and trajectories."""
    from deblurgs.sfm.model import load_model

    run.require_done("sfm", "process")

    def work() -> None:
        from deblurgs.train.checkpoint import save_scene
        from deblurgs.train.loop import train as optimise

        # The data are at training size already: reducing them again would train at a smaller one.
        data = training_set(load_model(run.sfm), config)
        at_size = dataclasses.replace(config, downscale=1.0)
        with run.metrics(append=False) as metrics:
            scene = optimise(data, at_size, log, metrics.write)
        run.checkpoint.mkdir(exist_ok=True)
        save_scene(run.checkpoint / SCENE_FILE, scene, data.names, data.scene_from_sfm)

    run.stage("train", config, work, outputs=[run.checkpoint / SCENE_FILE], overwrite=overwrite)


def render(run: RunFolder, log: Log, *, overwrite: bool = False) -> None:
    """Gaussians and trajectories -> sharp and re-blurred frames, contact sheet, video, trajectories."""
    from deblurgs.capture.dataset import load_capture
    from deblurgs.sfm.model import load_model
    from deblurgs.train.checkpoint import load_scene

    run.require_done("train", "train")

    def pictures() -> None:
        scene, names, _ = load_scene(run.checkpoint / SCENE_FILE)
        _write_frames(run, scene, names, load_model(run.sfm), load_capture(run.path), log)

    run.stage("render", {}, pictures, outputs=[run.sharp, run.renders / "compare.jpg"], overwrite=overwrite)

    def files() -> None:
        scene, names, scene_from_sfm = load_scene(run.checkpoint / SCENE_FILE)
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
    from deblurgs.capture.image import write_png
    from deblurgs.export.contact_sheet import compare_sheet
    from deblurgs.render.render import reblurred_frame, sharp_frame

    for folder in (run.sharp, run.reblur):
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*.png"):  # of an earlier run with other frames
            old.unlink()
    (run.renders / "sharp.mp4").unlink(missing_ok=True)
    stems = unique_stems(names)
    views = scene.num_views(model.cameras)
    with log.progress("render", len(names)) as ticker:
        for f, camera in enumerate(model.cameras):
            write_png(run.sharp / f"{stems[f]}.png", sharp_frame(scene, f, camera).numpy())
            write_png(run.reblur / f"{stems[f]}.png", reblurred_frame(scene, f, camera, views[f]).numpy())
            ticker.update(f + 1)
    rows = [(names[f], Path(model.image_paths[f]), run.sharp / f"{stems[f]}.png") for f in range(len(names))]
    compare_sheet(run.renders / "compare.jpg", rows)
    for name, reason in model.failed:
        log.warn(f"{name} has no sharp frame: {reason}")
    if capture.kind == "video":
        times = {frame.name: frame.time_s for frame in capture.frames}
        _write_video(run, stems, [times.get(name) for name in names], capture.fps or 30.0, log)


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

    run.require_done("train", "train")
    target = run.renders / "path.mp4"
    if target.exists() and not overwrite:
        raise UsageError(f"{target} exists. Use --overwrite to render the path again.")
    scene, _, _ = load_scene(run.checkpoint / SCENE_FILE)
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

    process(run, source, ProcessConfig(own_sfm=sfm == "own"), log, overwrite=overwrite)
    capture, model = load_capture(run.path), load_model(run.sfm)
    given = None if sfm == "own" else capture.given_model or capture.given_poses
    if sfm == "given" and given is None:
        raise UsageError(f"{source} brings no camera model. Use --sfm own.")
    training = training_set(model)
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
