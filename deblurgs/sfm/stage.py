"""Structure from motion as the rest of the program sees it: functions from frames and files to files.

Everything that needs pycolmap happens in a child process (process.py, worker.py).
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblurgs.errors import SfmError
from deblurgs.log import Log
from deblurgs.scene.camera import Camera
from deblurgs.scene.frame import Frame
from deblurgs.sfm.diagnose import MIN_FRAMES
from deblurgs.sfm.extend import Found, extend
from deblurgs.sfm.model import SparseModel, load_model
from deblurgs.sfm.process import run_child
from deblurgs.sfm.restored import Restorer, wiener, write_restored

DEFAULT_MAX_IMAGE_SIZE = 1000
DEFAULT_BUDGET_S = 600.0


@dataclass(frozen=True)
class RollingShutter:
    """The rows of a frame were exposed one after the other, and the frames are one video. readout: from the first to
    the last row in median distances of two frames in time, negative from bottom to top; None: it is estimated."""

    readout: float | None = None


@dataclass(frozen=True)
class PosedViews:
    """Poses of images outside the training model, for evaluation.

    camera_from_world: name -> [4, 4] float64 in the world of the model they were asked from. cameras: name ->
    pinhole camera; image_paths: name -> the image that it describes (undistorted where the lens needs it).
    failed: name -> reason. masks: name -> mask of that image, of those that have one.
    """

    camera_from_world: dict[str, NDArray[np.float64]]
    cameras: dict[str, Camera]
    image_paths: dict[str, Path]
    failed: dict[str, str]
    masks: dict[str, Path] = field(default_factory=dict)


def run_sfm(
    frames: Sequence[Frame],
    work_dir: Path,
    *,
    given_model: Path | None = None,
    given_poses: Path | None = None,
    max_image_size: int = DEFAULT_MAX_IMAGE_SIZE,
    budget_s: float = DEFAULT_BUDGET_S,
    timeout_s: float | None = None,
    memory_limit_mb: int | None = None,
    masks: Mapping[str, Path] | None = None,
    restore: Restorer = wiener,
    rolling: RollingShutter | None = None,
    log: Log,
) -> SparseModel:
    """Camera poses and sparse points of the training frames, written into `work_dir` (RUN/sfm).

    frames: all frames in capture order; those with split "test" are left out here, always. With `given_model` (a
    folder with a COLMAP model, binary or text) nothing is estimated: only the poses of the training frames are
    taken, while points that test images helped to triangulate are kept (the published protocol of the Deblur-NeRF
    folders, whose models contain the test images). With `given_poses` (JSON: width, height, fx, fy, cx, cy in px,
    frames: {name: 4x4 camera_from_world}) points are triangulated with these poses fixed.
    max_image_size: longer side in pixels at which features are found. budget_s: after so many seconds no further
    settings are tried; timeout_s: the search is killed; both count over all child processes together. memory_limit_mb:
    address space limit of the child. masks: frame name -> 8-bit image, 0 where the photo is transparent; no feature is
    looked for there. restore: makes the copies in which features are looked for when the frames themselves give too
    few; training sees only the frames. rolling: refine the cameras that are found for a rolling shutter; given cameras
    stay as they are.

    Writes sparse/0/*.bin (COLMAP, distorted camera), images/*.png (undistorted frames, only if the lens moves
    something by over 0.1 px), model.npz, database.db (features, not for given models) and last sfm.json.
    Raises SfmError with the diagnosed reason, ResourceError when memory or disk run out.
    """
    train = [f for f in frames if f.split == "train"]
    if given_model is not None and given_poses is not None:
        raise SfmError("Both a COLMAP model and a poses file are given for the cameras. Give one of them.")
    if len(train) < MIN_FRAMES:
        raise SfmError(
            f"Too few frames: {len(train)} given, 3-D needs at least {MIN_FRAMES} that show the scene from "
            "different places. Add frames; a single photo can only be sharpened in 2-D."
        )
    given = given_model if given_model is not None else given_poses
    job = "given_model" if given_model is not None else "given_poses" if given_poses is not None else "sfm"
    request: dict[str, Any] = {
        "work_dir": str(work_dir.resolve()),
        "frames": _listing(train, masks=masks or {}),
        "other_names": [f.name for f in frames if f.split != "train"],
        "max_image_size": max_image_size,
        "budget_s": budget_s,
        "memory_limit_mb": memory_limit_mb,
    }
    if given is not None:
        request["given"] = str(given.resolve())
    if rolling is not None:
        request["rolling"] = {"readout": rolling.readout}
    begun = time.monotonic()
    result = run_child(job, request, work_dir, log=log, timeout_s=timeout_s)
    if result.get("needs_restored"):
        log.info("SfM: restoring copies of the frames to find features in")
        staged = [str(f["staged"]) for f in request["frames"]]
        request["restored"] = write_restored(train, staged, work_dir / "work" / "restored", restore)
        # One budget and one time limit for the whole search, however many processes it takes.
        spent = time.monotonic() - begun
        request["spent_s"] = spent
        timeout_s = None if timeout_s is None else max(timeout_s - spent, 0.0)
        run_child(job, request, work_dir, log=log, timeout_s=timeout_s)
    return load_model(work_dir)


def read_given_poses(
    given: Path, frames: Sequence[Frame], out_dir: Path, *, log: Log, timeout_s: float | None = None
) -> PosedViews:
    """Poses of any frames, held-out ones included, from a COLMAP model folder or a poses file. Evaluation only.

    They are in the world of that model, which is the world of a SparseModel made from it. Undistorted copies, if
    needed, and the log go to `out_dir`.
    """
    request = {"given": str(given.resolve()), "frames": _listing(frames), "out_dir": str(out_dir.resolve())}
    return _posed_views(run_child("views", request, out_dir, log=log, timeout_s=timeout_s))


def register_test(
    sfm_dir: Path,
    train_frames: Sequence[Frame],
    test_frames: Sequence[Frame],
    out_dir: Path,
    *,
    log: Log,
    timeout_s: float | None = None,
) -> PosedViews:
    """Register held-out images to the finished training model in `sfm_dir`. Evaluation only, after training's SfM.

    Nothing in `sfm_dir` is changed: each pose is estimated alone from matches with the model's points, with the
    training camera's intrinsics. train_frames: the frames `run_sfm` was called with. Works and writes in `out_dir`.
    """
    if out_dir.resolve() == sfm_dir.resolve():
        raise ValueError("held-out images must not be registered inside the training model's folder")
    train = [f for f in train_frames if f.split == "train"]
    request = {
        "sfm_dir": str(sfm_dir.resolve()),
        "train_frames": _listing(train),
        "frames": _listing(test_frames, prefix="t"),
        "out_dir": str(out_dir.resolve()),
    }
    return _posed_views(run_child("register", request, out_dir, log=log, timeout_s=timeout_s))


@dataclass(frozen=True)
class SharpRender:
    """A sharp view of a trained scene, written to files.

    image: PNG. depth: .npy [H, W] float32, camera z in units of the SfM world, NaN where nothing is. camera: pinhole,
    of the image's size. camera_from_world: [4, 4], SfM world.
    """

    image: Path
    depth: Path
    camera: Camera
    camera_from_world: NDArray[np.float64]


def register_missing(
    sfm_dir: Path,
    renders: Sequence[SharpRender],
    frames: Sequence[Frame],
    out_dir: Path,
    *,
    masks: Mapping[str, Path] = MappingProxyType({}),
    log: Log,
    timeout_s: float | None = None,
) -> SparseModel:
    """Register the frames that SfM lost against sharp renders of the scene, and extend `sfm_dir` by those found.

    frames: all training frames in capture order. model.npz and sfm.json are written anew if any frame was found; a
    frame whose pose two halves of the renders do not agree on stays failed, with its reason. Works in `out_dir`.
    """
    model = load_model(sfm_dir)
    lost = {name for name, _ in model.failed}
    missing = [f for f in frames if f.name in lost and f.split == "train"]
    if not missing or not renders:
        return model
    pictures = [Frame(r.image.name, r.image, r.camera.width, r.camera.height) for r in renders]
    listing = [
        {
            **entry, "depth": str(r.depth.resolve()), "camera_from_world": r.camera_from_world.tolist(),
            "pinhole": [r.camera.width, r.camera.height, r.camera.fx, r.camera.fy, r.camera.cx, r.camera.cy],
        }
        for entry, r in zip(_listing(pictures, prefix="r"), renders, strict=True)
    ]  # fmt: skip
    request = {
        "sfm_dir": str(sfm_dir.resolve()),
        "renders": listing,
        "frames": _listing(missing, masks=masks),
        "images": str((sfm_dir / "images").resolve()),
        "out_dir": str(out_dir.resolve()),
    }
    posed = _posed_views(run_child("register_to_renders", request, out_dir, log=log, timeout_s=timeout_s))
    if not posed.camera_from_world:
        return model
    found = {n: (posed.cameras[n], posed.image_paths[n], p) for n, p in posed.camera_from_world.items()}
    failed = [(n, posed.failed.get(n, r)) for n, r in model.failed if n not in found]
    order = [f.name for f in frames if f.split == "train"]
    return extend(sfm_dir, Found(order, found, failed, posed.masks))


def undistort_like(
    sfm_dir: Path, frames: Sequence[Frame], out_dir: Path, *, log: Log, timeout_s: float | None = None
) -> dict[str, Path]:
    """Bring other images of the training views (sharp twins) into the pinhole geometry of their namesakes.

    Returns name -> path of the image that the model's camera of that name describes: the image itself where
    nothing had to be undistorted. Frames without a pose are left out.
    """
    request = {
        "sfm_dir": str(sfm_dir.resolve()),
        "frames": _listing(frames),
        "out_dir": str(out_dir.resolve()),
    }
    result = run_child("undistort", request, out_dir, log=log, timeout_s=timeout_s)
    return {n: Path(p) for n, p in result["paths"].items()}


def _listing(
    frames: Sequence[Frame], prefix: str = "f", masks: Mapping[str, Path] = MappingProxyType({})
) -> list[dict[str, Any]]:
    """Frames as the child wants them. The staged name is ours: a number, and the suffix so that COLMAP
    can decode."""
    return [
        {
            "staged": f"{prefix}{i:06d}{f.path.suffix.lower()}",
            "name": f.name,
            "path": str(f.path.resolve()),
            "width": f.width,
            "height": f.height,
            "time_s": f.time_s,
            "mask": str(masks[f.name].resolve()) if f.name in masks else None,
            "camera": f.camera,
            "path_px": None if f.blur is None else f.blur.path_px,
        }
        for i, f in enumerate(frames)
    ]


def _posed_views(result: dict[str, Any]) -> PosedViews:
    views = result["views"]
    return PosedViews(
        {v["name"]: np.array(v["camera_from_world"], dtype=np.float64) for v in views},
        {v["name"]: Camera(int(v["camera"][0]), int(v["camera"][1]), *v["camera"][2:]) for v in views},
        {v["name"]: Path(v["path"]) for v in views},
        {n: r for n, r in result["failed"]},
        {v["name"]: Path(v["mask"]) for v in views if v["mask"] is not None},
    )
