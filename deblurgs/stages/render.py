"""Gaussians and trajectories -> pictures, video and the self-check: the stage `render`, and novel paths."""

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from deblurgs.errors import UsageError
from deblurgs.log import Log
from deblurgs.raster.devices import DeviceName, resolve
from deblurgs.run import RunFolder
from deblurgs.stages.data import frame_mask
from deblurgs.stages.export import write_scene
from deblurgs.stages.finished_frames import FinishedFrames
from deblurgs.stages.single import restore_frames
from deblurgs.stages.train import scene_path

if TYPE_CHECKING:
    from torch import Tensor

    from deblurgs.capture.dataset import Capture
    from deblurgs.render.trust import FrameTrust
    from deblurgs.sfm.model import SparseModel
    from deblurgs.train.trained import TrainedScene

STILL_PX = 2.0
"""Paths up to this length leave no blur worth a word."""


def render(
    run: RunFolder, log: Log, *, overwrite: bool = False, device: DeviceName = "auto", fallback: bool = True
) -> None:
    """Gaussians and trajectories -> sharp and re-blurred frames, contact sheet, video, trajectories.

    fallback: frames without a pose are restored by the network alone, and named in trust.json.
    """
    from deblurgs.capture.dataset import load_capture
    from deblurgs.sfm.model import load_model
    from deblurgs.train.checkpoint import load_scene

    source = scene_path(run, log)

    def pictures() -> None:
        scene, names, _ = load_scene(source, resolve(device))
        # A rendering that was killed goes on with the frames that are missing.
        run.renders.mkdir(exist_ok=True)
        finished = FinishedFrames(run.renders / "finished.jsonl", [source, run.sfm / "model.npz"])
        whole = False
        try:
            model, capture = load_model(run.sfm), load_capture(run.path)
            _write_frames(run, scene, names, model, capture, finished, log, fallback=fallback, device=device)
            whole = True
        finally:
            finished.close(finished=whole)

    outputs = [run.sharp, run.renders / "compare.jpg", run.trust_json]
    run.stage(
        "render", {} if fallback else {"fallback": "none"}, pictures, outputs=outputs, overwrite=overwrite
    )

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
    finished: FinishedFrames,
    log: Log,
    *,
    fallback: bool,
    device: DeviceName,
) -> None:
    from deblurgs.capture.image import read_rgb, write_png
    from deblurgs.export.contact_sheet import compare_sheet
    from deblurgs.render.render import reblurred_frame, restored_frame
    from deblurgs.train.data import as_tensor

    (run.renders / "sharp.mp4").unlink(missing_ok=True)
    (run.renders / "single.json").unlink(missing_ok=True)
    lost = [name for name, _ in model.failed if fallback]
    stems = unique_stems([*names, *lost])
    stems, lost_stems = stems[: len(names)], stems[len(names) :]
    for folder in (run.sharp, run.reblur):
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():  # of an earlier run with other frames, or of the network
            if old.is_file() and (old.stem not in stems or old.suffix != ".png" or not finished.done):
                old.unlink()
    views, lengths = scene.num_views(model.cameras), scene.path_lengths_px(model.cameras)
    with log.progress("render", len(names)) as ticker:
        for f, camera in enumerate(model.cameras):
            ours = (run.sharp / f"{stems[f]}.png", run.reblur / f"{stems[f]}.png")
            if names[f] in finished.done and all(path.is_file() for path in ours):
                _warn_if_unexplained(finished.done[names[f]], names[f], lengths[f], log)
                continue
            observed = as_tensor(read_rgb(Path(model.image_paths[f])))
            reblur = reblurred_frame(scene, f, camera, views[f])
            mask = frame_mask(model, names[f])
            restored = restored_frame(scene, f, camera, observed, reblur, views[f], mask)
            _warn_if_unexplained(restored.explained, names[f], lengths[f], log)
            for path, picture in zip(ours, (restored.image, reblur), strict=True):
                write_png(path, picture.numpy())
            finished.add(names[f], restored.explained)
            ticker.update(f + 1)
    rows = [(names[f], Path(model.image_paths[f]), run.sharp / f"{stems[f]}.png") for f in range(len(names))]
    compare_sheet(run.renders / "compare.jpg", rows)
    by_network = (
        restore_frames(run, lost, lost_stems, log, title="frames without a pose", device=device)
        if lost
        else []
    )
    for name, reason in model.failed:
        how = "is restored by the network alone" if name in by_network else "has no sharp frame"
        log.warn(f"{name} {how}: {reason}")
    _self_check(run, scene, names, stems, model, by_network, log)
    if capture.kind == "video":
        times = {frame.name: frame.time_s for frame in capture.frames}
        write_sharp_video(run, stems, [times.get(name) for name in names], capture.fps or 30.0, log)


def _warn_if_unexplained(explained: bool, name: str, length_px: float, log: Log) -> None:
    if not explained and length_px > STILL_PX:
        log.warn(f"{name}: no path explains its blur, so it is handed back as it came")


def _self_check(
    run: RunFolder,
    scene: "TrainedScene",
    names: list[str],
    stems: list[str],
    model: "SparseModel",
    by_network: list[str],
    log: Log,
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
        observed, mask = as_tensor(read_rgb(model.image_paths[f])), frame_mask(model, names[f])
        if mask is None:
            return observed
        return torch.where(
            mask[..., None] > 0, observed, reblurred_frame(scene, f, model.cameras[f], views[f])
        )

    traced = trace_scene(scene, model.cameras, photo)
    verdicts: list[FrameTrust] = []
    with log.progress("self-check", len(names)) as ticker:
        for f, stem in enumerate(stems):
            verdict, maps = judge_frame(traced, f, names[f])
            verdicts.append(verdict)
            write_png(run.support / f"{stem}.png", trust_report.support_picture(maps).numpy())
            ticker.update(f + 1)
    write_json_atomic(run.trust_json, trust_report.as_json(verdicts, by_network))
    for line in trust_report.problem_lines(verdicts):
        log.warn(line)
    log.info(trust_report.summary_line(verdicts))
    return verdicts


def write_sharp_video(
    run: RunFolder, stems: list[str], times_s: list[float | None], fps: float, log: Log
) -> None:
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


def novel_path(
    run: RunFolder,
    log: Log,
    *,
    seconds: float,
    fps: int,
    smoothing: float,
    overwrite: bool,
    device: DeviceName = "auto",
) -> Path:
    """A calm video along the capture's viewpoints that no frame was taken from; -> renders/path.mp4."""
    from deblurgs.export.video import write_mp4
    from deblurgs.render.paths import film_camera, smooth_path
    from deblurgs.render.render import sharp_view
    from deblurgs.sfm.model import load_model
    from deblurgs.train.checkpoint import load_scene

    source = scene_path(run, log)
    target = run.renders / "path.mp4"
    if target.exists() and not overwrite:
        raise UsageError(f"{target} exists. Use --overwrite to render the path again.")
    scene, _, _ = load_scene(source, resolve(device))
    camera = film_camera(load_model(run.sfm).cameras)
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


def camera_path_video(
    run: RunFolder, source: Path, log: Log, *, overwrite: bool, device: DeviceName = "auto"
) -> Path:
    """The pictures of a camera-path JSON as video; -> renders/<name of the JSON>.mp4."""
    from deblurgs.export.camera_path import read_camera_path
    from deblurgs.export.video import write_mp4
    from deblurgs.render.render import sharp_view
    from deblurgs.stages.splats import load_finished
    from deblurgs.train.data import as_tensor

    wanted = read_camera_path(source)
    # `sharp.mp4` is the render stage's own.
    stem = source.stem if source.stem != "sharp" else "sharp_path"
    target = run.renders / f"{stem}.mp4"
    if target.exists() and not overwrite:
        raise UsageError(f"{target} exists. Use --overwrite to render the path again.")
    finished = load_finished(run, log, device)
    poses = as_tensor(finished.sfm_from_scene.inverse().apply_camera_from_world(wanted.camera_from_world))
    run.renders.mkdir(exist_ok=True)
    with log.progress("path", len(poses)) as ticker:

        def frames():
            for i, (pose, camera) in enumerate(zip(poses, wanted.cameras, strict=True)):
                ticker.update(i + 1)
                yield (sharp_view(finished.scene, pose, camera).numpy() * 255.0 + 0.5).astype("uint8")

        write_mp4(target, frames(), wanted.fps, log=log, overwrite=overwrite)
    return target
