"""The door of this room: user files -> stored frames.

`ingest` recognises the source, stores upright PNGs and writes `frames.json` last.
"""

import shutil
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deblurgs.capture import dataset
from deblurgs.capture.archive import unpack
from deblurgs.capture.dataset import Capture, load_capture
from deblurgs.capture.detect import detect_source
from deblurgs.capture.folder import store_photos
from deblurgs.command import command_line
from deblurgs.errors import CaptureError, DeblurgsError, TooFewFramesError, UsageError
from deblurgs.files import RUNS, is_run_folder, not_allowed
from deblurgs.log import Log

__all__ = ["Capture", "ingest", "load_capture"]

MIN_FRAMES = 3
MAX_VIDEO_FRAMES = 60
MAX_PHOTOS = 300
BLURRED_BELOW = 0.35
"""Median sharpness below which a whole capture is called blurred."""

_STAGING = ".capture-partial"
_UNPACKED = ".capture-unpacked"
_MARKER = ".capture"
_FOLDERS = ("frames", "test", "sharp", "masks", "truth", "given_sparse")
_LATER_FOLDERS = ("renders", "sfm", "checkpoint", "export")
"""Of a run folder, which the stages after this one fill."""
_FILES = (dataset.FRAMES_FILE, dataset.TRIAGE_FILE, dataset.GIVEN_POSES_FILE)


def ingest(
    source: Path,
    out_dir: Path,
    *,
    max_frames: int | None = None,
    max_pixels: float = 200e6,
    images: str | None = None,
    log: Log,
) -> Capture:
    """Read SOURCE into `out_dir` and return what was stored; a previous capture in `out_dir` is replaced.

    max_frames: at most this many training frames, chosen by coverage and sharpness (None: 60 of a video, 300
    photos). max_pixels: larger pictures are refused before they are decoded. images: image folder to use
    (`images_4`).

    Stored: `frames/` training frames, `test/` held-out views, `sharp/` twins, `masks/`, `truth/cameras.json`,
    `given_sparse/` the COLMAP model, `given_poses.json`, `triage.json` the scores of all candidates,
    `frames.json`. File names in there are ours; the user's names are data in the JSON. Nothing is replaced
    until all is decoded. Raises CaptureError for unusable input, SfmError when the camera did not move,
    UsageError when `out_dir` holds foreign folders of these names or overlaps SOURCE, ResourceError when the
    disk is full.
    """
    try:
        return _ingest(source, out_dir, max_frames, max_pixels, images, log)
    except PermissionError as error:
        raise not_allowed(error) from error


def _ingest(
    source: Path, out_dir: Path, max_frames: int | None, max_pixels: float, images: str | None, log: Log
) -> Capture:
    require_source(source, max_frames)
    if is_archive(source):
        with opened(source, out_dir) as folder:
            return _ingest(folder, out_dir, max_frames, max_pixels, images, log)
    found = detect_source(source, images, exclude=out_dir)
    _check_output(source, out_dir)
    earlier = len(log.warnings)
    for text in found.warnings:
        log.warn(text)
    staging = out_dir / _STAGING
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    (out_dir / _MARKER).touch()
    try:
        if found.kind == "video":
            from deblurgs.capture.clip import store_video

            capture = store_video(found, staging, max_frames or MAX_VIDEO_FRAMES, max_pixels, log)
        else:
            capture = store_photos(found, staging, max_frames or MAX_PHOTOS, max_pixels, log)
        _require_frames(capture, source)
        _warn_if_blurred(capture, log)
        capture = Capture(**{**vars(capture), "warnings": log.warnings[earlier:]})
        dataset.save_capture(capture, staging)
        _publish(staging, out_dir)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return load_capture(out_dir)


@contextmanager
def opened(source: Path, out_dir: Path) -> Iterator[Path]:
    """The source as a file or folder: a zip file is unpacked inside `out_dir`, and deleted there at the end.

    Raises CaptureError for an archive that cannot be trusted, UsageError for one of a run folder, ResourceError when
    the disk is full. What is raised while it is open names places in the archive, not where they were unpacked.
    """
    if not is_archive(source):
        yield source
        return
    place = out_dir / _UNPACKED
    top = place / source.stem
    shutil.rmtree(place, ignore_errors=True)
    try:
        # One level further than needed: an archive of the capture's folder holds that folder alone.
        unpack(source, top)
        folder = top
        while [p.is_dir() for p in folder.iterdir()] == [True] and not (folder / "keyframes").is_dir():
            folder = next(folder.iterdir())
        if is_run_folder(folder):
            raise UsageError(
                f"{source} holds a run folder, not a capture. Unpack it: `deblurgs resume` goes on with the folder, "
                "`deblurgs view` shows it."
            )
        yield folder
    except DeblurgsError as error:
        raise type(error)(str(error).replace(str(top), str(source))) from error
    finally:
        shutil.rmtree(place, ignore_errors=True)


def require_source(source: Path, max_frames: int | None = None, out_dir: Path | None = None) -> None:
    """Mistakes that show before anything is begun. Raises CaptureError when nothing lies at `source`, UsageError for a
    `max_frames` that allows no scene, for a run folder as source, and for pictures that work in `out_dir` would
    replace."""
    if max_frames is not None and max_frames < MIN_FRAMES:
        raise UsageError(f"--max-frames {max_frames}: at least {MIN_FRAMES} frames are needed")
    if source.parts[:1] and source.parts[0].lower() in ("http:", "https:", "ftp:"):
        raise CaptureError(f"cannot open {source}: only files on this machine can be read; download it first")
    try:
        source.stat()
    except OSError as error:
        raise CaptureError(f"cannot open {source}: {error.strerror}") from error
    _refuse_results(source)
    if out_dir is not None:
        _refuse_source_inside(source, out_dir, (*_FOLDERS, *_LATER_FOLDERS))


def _refuse_results(source: Path) -> None:
    """A run folder is no source: its photos, its results and its maps would be taken for one capture."""
    if not source.is_dir():
        return
    if is_run_folder(source):
        raise UsageError(
            f"{source} is a run folder, not a source.  {command_line('resume', source)}  goes on with it,  "
            f"{command_line('view', source)}  shows it. To begin another run with its pictures, name "
            f"{source / 'frames'} (as they were) or {source / 'renders' / 'sharp'} (sharp)."
        )
    if source.resolve().name == RUNS:
        runs = sorted(folder for folder in source.iterdir() if is_run_folder(folder))
        look = f"  {command_line('view', runs[0])}  shows one of them." if runs else ""
        raise UsageError(
            f"{source} is where runs are kept, not a source.{look} Name a video or a folder of photos."
        )


def is_archive(source: Path) -> bool:
    """Whether the source must be unpacked before it can be told what it is."""
    return source.suffix.lower() == ".zip" and source.is_file()


def _require_frames(capture: Capture, source: Path) -> None:
    count = len(capture.frames)
    if count >= MIN_FRAMES:
        return
    have = {0: "no frame", 1: "only 1 frame", 2: "only 2 frames"}[count]
    reasons = "; ".join(f"{name}: {reason}" for name, reason in capture.dropped[:5])
    raise TooFewFramesError(
        f"{source}: {have} can be used, but 3-D needs several frames (at least {MIN_FRAMES}, better 20 or more) "
        "from different places" + (f". Left out: {reasons}" if reasons else "")
    )


def _warn_if_blurred(capture: Capture, log: Log) -> None:
    scores = [frame.sharpness for frame in capture.frames if frame.sharpness is not None]
    if scores and max(scores) < BLURRED_BELOW:
        log.warn(
            f"all {len(scores)} frames look blurred (sharpness {statistics.median(scores):.2f}, sharp is above "
            f"{BLURRED_BELOW}); continuing with them, SfM may fail"
        )


def _check_output(source: Path, out_dir: Path) -> None:
    """Only folders that this function made may be replaced, and the source must not lie in one of them."""
    _refuse_source_inside(source, out_dir, _FOLDERS)
    if (out_dir / _MARKER).is_file():
        return
    foreign = [name for name in (*_FOLDERS, *_FILES) if (out_dir / name).exists()]
    if foreign:
        raise UsageError(
            f"{out_dir} already holds `{foreign[0]}` that deblurgs did not write; choose another output folder"
        )


def _refuse_source_inside(source: Path, out_dir: Path, folders: tuple[str, ...]) -> None:
    target, real = out_dir.resolve(), source.resolve()
    if any(real.is_relative_to(target / name) for name in folders):
        raise UsageError(
            f"the source {source} lies inside the output folder {out_dir}; choose another output"
        )


def _publish(staging: Path, out_dir: Path) -> None:
    """Swap the new capture in. `frames.json` goes first and comes last: without it the stage counts as not
    done.
    """
    (out_dir / dataset.FRAMES_FILE).unlink(missing_ok=True)
    for name in _FOLDERS:
        shutil.rmtree(out_dir / name, ignore_errors=True)
        if (staging / name).is_dir():
            (staging / name).rename(out_dir / name)
    for name in reversed(_FILES):
        (out_dir / name).unlink(missing_ok=True)
        if (staging / name).is_file():
            (staging / name).replace(out_dir / name)
