"""`deblurgs export`: one trained run -> one file (or folder) of a format that another tool reads."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from deblurgs.command import command_line
from deblurgs.errors import UsageError
from deblurgs.log import Log
from deblurgs.run import RunFolder
from deblurgs.stages.render import unique_stems
from deblurgs.stages.splats import FinishedScene, load_finished

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Format = Literal["ply", "spz", "splat", "html", "colmap", "transforms", "tum", "camera-path", "mp4", "depth"]
Video = Literal["sharp", "side-by-side", "wipe", "slow-motion", "stabilised"]


@dataclass(frozen=True)
class ExportJob:
    """What to write and where; the numbers concern only the formats they are named after."""

    run: RunFolder
    finished: FinishedScene
    target: Path
    log: Log
    overwrite: bool = False
    spz_version: Literal[3, 4] = 3
    video: Video = "sharp"
    fps: float | None = None
    slowdown: int = 8
    smoothing: float = 1.5

    @property
    def stems(self) -> list[str]:
        return unique_stems(self.finished.names)

    def sharp_paths(self) -> list[Path]:
        """The sharp frames, in order. Raises UsageError when `render` has not made them."""
        paths = [self.run.sharp / f"{stem}.png" for stem in self.stems]
        missing = [path.name for path in paths if not path.is_file()]
        if missing:
            raise UsageError(
                f"{self.run.sharp} has no {missing[0]}. Run  {command_line('render', self.run.path)}  first."
            )
        return paths


def export(
    run: RunFolder, kind: Format, log: Log, output: Path | None = None, *, overwrite: bool = False,
    spz_version: Literal[3, 4] = 3, video: Video = "sharp", fps: float | None = None, slowdown: int = 8,
    smoothing: float = 1.5,
) -> Path:  # fmt: skip
    """Write one format; returns the file or folder. Raises UsageError when it exists and not `overwrite`."""
    from deblurgs.files import checked_target, made_folder

    name = f"{video}.mp4" if kind == "mp4" else DEFAULT_NAMES[kind]
    target = output if output is not None else run.export / name
    if not overwrite and target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} exists. Use --overwrite to write it again, or -o to name another place.")
    with made_folder(target.parent):
        if kind not in _FOLDERS:
            target = checked_target(target, overwrite=overwrite)
        elif target.exists() and not target.is_dir():
            raise UsageError(
                f"{target} is a file; the format {kind} is a folder. Name another place with -o."
            )
        finished = load_finished(run, log)
        job = ExportJob(run, finished, target, log, overwrite, spz_version, video, fps, slowdown, smoothing)
        dropped = WRITERS[kind](job)
    if dropped:
        log.warn(f"{dropped} Gaussians with non-finite numbers were left out of {target.name}")
    return target


def _ply(job: ExportJob) -> int:
    from deblurgs.export.ply import write_ply

    return write_ply(job.target, job.finished.splats(), overwrite=job.overwrite)


def _spz(job: ExportJob) -> int:
    from deblurgs.export.spz import write_spz

    return write_spz(job.target, job.finished.splats(), version=job.spz_version, overwrite=job.overwrite)


def _splat(job: ExportJob) -> int:
    from deblurgs.export.splat import write_splat

    return write_splat(job.target, job.finished.splats(), overwrite=job.overwrite)


def _html(job: ExportJob) -> int:
    from deblurgs.export.html import write_html

    title = f"{job.run.path.resolve().name} - deblurgs"
    return write_html(
        job.target, job.finished.splats(), job.finished.views(), title=title, overwrite=job.overwrite
    )


def _colmap(job: ExportJob) -> int:
    """sparse/0 and images/ with the sharp frames, as COLMAP projects lie."""
    from deblurgs.export.colmap import ColmapModel, write_colmap

    model = job.finished.model
    _copy_sharp(job)
    write_colmap(
        job.target / "sparse" / "0",
        ColmapModel(
            [f"{stem}.png" for stem in job.stems], model.cameras, job.finished.mid_poses(),
            model.points, model.colors, model.errors,
        ),
    )  # fmt: skip
    return 0


def _transforms(job: ExportJob) -> int:
    from deblurgs.export.ply import write_ply
    from deblurgs.export.transforms import PosedImage, write_transforms

    _copy_sharp(job)
    images = [
        PosedImage(f"images/{stem}.png", view.camera, view.camera_from_world)
        for stem, view in zip(job.stems, job.finished.views(), strict=True)
    ]
    dropped = write_ply(job.target / "splats.ply", job.finished.splats())
    write_transforms(job.target / "transforms.json", images, ply_file_path="splats.ply")
    return dropped


def _copy_sharp(job: ExportJob) -> None:
    folder = job.target / "images"
    paths = job.sharp_paths()
    folder.mkdir(parents=True, exist_ok=True)
    for path in paths:
        shutil.copyfile(path, folder / path.name)


def _tum(job: ExportJob) -> int:
    from deblurgs.export.trajectories import read_trajectories, write_tum

    if not job.run.trajectories_json.is_file():
        raise UsageError(
            f"{job.run.path} has no trajectories.json. Run  {command_line('render', job.run.path)}  first."
        )
    write_tum(job.target, read_trajectories(job.run.trajectories_json), overwrite=job.overwrite)
    return 0


def _camera_path(job: ExportJob) -> int:
    """The calm path of `render --path smooth`, to be edited or rendered elsewhere."""
    from deblurgs.export.camera_path import CameraPath, write_camera_path
    from deblurgs.render.paths import film_camera, smooth_path
    from deblurgs.stages.splats import poses_in_sfm

    finished, fps = job.finished, job.fps or 30.0
    mid = finished.scene.trajectory.all_at(0.5).detach()
    poses = smooth_path(mid, max(2, round(8 * fps)), smoothing=job.smoothing)
    write_camera_path(
        job.target,
        CameraPath(
            poses_in_sfm(poses, finished.sfm_from_scene),
            [film_camera(finished.model.cameras)] * len(poses),
            fps,
        ),
        overwrite=job.overwrite,
    )
    return 0


def _depth(job: ExportJob) -> int:
    """A 16-bit PNG and a .npy per frame, and depth.json with the factor between PNG values and world units."""
    from deblurgs.export.depth import depth_factor, write_depth
    from deblurgs.files import write_json_atomic
    from deblurgs.render.render import frame_depth

    finished = job.finished
    scale = float(finished.sfm_from_scene.scale)

    def depth(f: int) -> "NDArray[np.float32]":
        return (frame_depth(finished.scene, f, finished.model.cameras[f]) * scale).numpy()

    job.target.mkdir(parents=True, exist_ok=True)
    factor = depth_factor(max(float(depth(f).max()) for f in range(len(finished.names))))
    with job.log.progress("depth", len(finished.names)) as ticker:
        for f, stem in enumerate(job.stems):
            write_depth(job.target / f"{stem}.png", depth(f), factor)
            ticker.update(f + 1)
    write_json_atomic(
        job.target / "depth.json",
        {
            "png_per_world_unit": factor, "zero": "nothing was seen",
            "unit": "camera z in the world of export/scene.ply; its size in metres is unknown",
        },
    )  # fmt: skip
    return 0


def _mp4(job: ExportJob) -> int:
    from deblurgs.export.video import write_mp4

    fps = Fraction(job.fps or _source_fps(job)).limit_denominator(1001)
    write_mp4(job.target, _pictures(job), fps, log=job.log, overwrite=job.overwrite)
    return 0


def _source_fps(job: ExportJob) -> float:
    from deblurgs.capture.dataset import load_capture

    if job.video in ("slow-motion", "stabilised"):
        return 30.0
    capture = load_capture(job.run.path)
    return (capture.fps or 30.0) if capture.kind == "video" else 6.0


def _pictures(job: ExportJob) -> "Iterator[NDArray[np.uint8]]":
    from deblurgs.capture.image import read_pixels, to_8_bit
    from deblurgs.export.montage import side_by_side, wipe, wipe_share
    from deblurgs.render.paths import film_camera

    if job.video in ("slow-motion", "stabilised"):
        yield from _rendered(job)
        return
    film = film_camera(job.finished.model.cameras)
    for i, path in enumerate(job.sharp_paths()):
        sharp = to_8_bit(read_pixels(path))
        if sharp.shape[:2] != (film.height, film.width):
            job.log.warn(f"{path.name} has another size than most frames and is not in the video")
            continue
        if job.video == "sharp":
            yield sharp
            continue
        observed = to_8_bit(read_pixels(job.finished.model.image_paths[i]))
        if job.video == "side-by-side":
            yield side_by_side(observed, sharp)
        else:
            # Wiping over the whole video, so that it plays at its own speed.
            yield wipe(observed, sharp, wipe_share(i, len(job.stems)))


def _rendered(job: ExportJob) -> "Iterator[NDArray[np.uint8]]":
    """slow-motion: every exposure in `slowdown` instants from shutter opening to closing, through its own lens;
    stabilised: the capture's own path, calmed, through one lens."""
    import torch

    from deblurgs.render.paths import film_camera, smooth_path
    from deblurgs.render.render import sharp_view

    scene, cameras = job.finished.scene, job.finished.model.cameras
    film = film_camera(cameras)
    with torch.no_grad():
        if job.video == "slow-motion":
            u = (torch.arange(job.slowdown) + 0.5) / job.slowdown
            poses = scene.trajectory(torch.arange(len(job.stems)), u).flatten(0, 1)
            lenses = [c.fitted(film.width, film.height) for c in cameras for _ in range(job.slowdown)]
        else:
            # One picture per frame and as many more as 30 per second of a calm walk ask for.
            poses = smooth_path(scene.trajectory.all_at(0.5), 4 * len(job.stems), smoothing=job.smoothing)
            lenses = [film] * len(poses)
    with job.log.progress("video", len(poses)) as ticker:
        for i, (pose, lens) in enumerate(zip(poses, lenses, strict=True)):
            ticker.update(i + 1)
            yield (sharp_view(scene, pose, lens).numpy() * 255.0 + 0.5).astype("uint8")


WRITERS: dict[Format, Callable[[ExportJob], int]] = {
    "ply": _ply, "spz": _spz, "splat": _splat, "html": _html, "colmap": _colmap, "transforms": _transforms,
    "tum": _tum, "camera-path": _camera_path, "mp4": _mp4, "depth": _depth,
}  # fmt: skip
"""Each returns how many Gaussians could not be written."""

DEFAULT_NAMES: dict[Format, str] = {
    "ply": "scene.ply", "spz": "scene.spz", "splat": "scene.splat", "html": "scene.html", "colmap": "colmap",
    "transforms": "nerfstudio", "tum": "trajectory.tum", "camera-path": "camera_path.json", "depth": "depth",
}  # fmt: skip

_FOLDERS = ("colmap", "transforms", "depth")
