"""The jobs of the SfM child process. Each takes the request as JSON data and returns the result as JSON
data."""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from deblurgs.errors import SfmError
from deblurgs.files import write_json_atomic
from deblurgs.scene.camera import Camera
from deblurgs.sfm import colmap, given, ladder, renders
from deblurgs.sfm import register as registration
from deblurgs.sfm.diagnose import WARN_SHARE, examine, floor_problem
from deblurgs.sfm.distortion import without_needless_distortion
from deblurgs.sfm.model import SparseModel, save_model
from deblurgs.sfm.output import Lenses, sparse_model, write_sparse
from deblurgs.sfm.staging import FrameFile

Request = dict[str, Any]
Say = Callable[[str], None]
DATABASE = "database.db"
REPORT = "sfm.json"


def sfm(request: Request, say: Say) -> dict[str, Any]:
    """Find the cameras of the frames and write sparse/0, images/, model.npz, sfm.json and database.db.

    {"needs_restored": true} if that cannot go on without restored copies of the frames, request["restored"].
    """
    begun = time.monotonic()
    work_dir, frames = Path(request["work_dir"]), _frames(request["frames"])
    folder = work_dir / "work"
    restored = (
        {name: Path(path) for name, path in request["restored"].items()} if "restored" in request else None
    )
    result = ladder.climb(
        frames, folder, request["max_image_size"], request["budget_s"], say, restored,
        spent_s=request.get("spent_s", 0.0), rolling="rolling" in request,
    )  # fmt: skip
    if result is None:
        return {"needs_restored": True}
    warnings = list(result.warnings)
    rolled = None
    if "rolling" in request:
        from deblurgs.sfm.rolling import shutter  # brings torch, which nothing else here needs

        rolled = shutter.refine_model(result.model, frames, request["rolling"]["readout"], warnings, say)
    if rolled is None:
        model, distortion = without_needless_distortion(result.model)
    else:
        model, distortion = rolled.model, rolled.distortion
    model = colmap.in_own_frame(model, frames)
    health = examine(colmap.reading(model, frames), result.health.parallax_px)
    others = next((t["other_models"] for t in result.tried if t["kept"]), [])
    warnings += _warnings(health.registered, len(frames), result.failed, others)
    by_name = {model.image(i).name: i for i in model.reg_image_ids()}
    chosen = {by_name[f.staged]: f for f in frames if f.staged in by_name}
    report = {
        "given": False,
        "settings": {
            "sift": dict(result.settings.sift),
            "mapper": dict(result.settings.mapper),
            "max_image_size": result.settings.max_image_size,
        },
        "rung": result.settings.name,
        "distortion": distortion,
        "tried": result.tried,
    }
    if rolled is not None:
        report["rolling_shutter"] = rolled.report
    _write(
        work_dir, model, chosen, result.failed, health.as_dict(), report, warnings, begun,
        readout=None if rolled is None else rolled.readout,
    )  # fmt: skip
    result.database.replace(work_dir / DATABASE)
    shutil.rmtree(folder, ignore_errors=True)
    return {"warnings": warnings}


def given_model(request: Request, say: Say) -> dict[str, Any]:
    """Take over a COLMAP model; only the poses of the requested (training) frames are kept."""
    begun = time.monotonic()
    work_dir, frames = Path(request["work_dir"]), _frames(request["frames"])
    folder = Path(request["given"])
    model = colmap.read_model(folder)
    chosen, failed = given.find_frames(model, frames, folder)
    warnings = _warnings(len(chosen), len(frames), failed)
    warnings += given.absent_images(model, chosen, request["other_names"], folder)
    problem = floor_problem(len(chosen), len(frames))
    if problem:
        listing = "; ".join(f"{n}: {r}" for n, r in failed[:5])
        raise SfmError(f"The COLMAP model {folder} cannot be used: {problem}. {listing}.")
    if not model.num_points3D():
        raise SfmError(
            f"The COLMAP model {folder} has no 3-D points, from which the scene is started. Give a model "
            "with points, or leave it out to let deblurgs find the cameras itself."
        )
    colmap.ensure_errors(model)
    own = {i: f.name for i, f in chosen.items()}
    reading = colmap.reading(colmap.renamed(model, {i: f.staged for i, f in chosen.items()}), frames)
    health = examine(reading)
    if health.problems:
        warnings.append(f"The given COLMAP model looks doubtful: {'; '.join(health.problems)}.")
    only = colmap.restricted(model, list(own))
    _write(
        work_dir,
        model,
        chosen,
        failed,
        health.as_dict(),
        {"given": True, "source": str(folder)},
        warnings,
        begun,
        only,
    )
    (work_dir / DATABASE).unlink(missing_ok=True)
    say(f"SfM: using the given model, {len(chosen)}/{len(frames)} frames")
    return {"warnings": warnings}


def given_poses(request: Request, say: Say) -> dict[str, Any]:
    """Triangulate points from features of the frames with poses and intrinsics from a JSON file."""
    begun = time.monotonic()
    work_dir, frames = Path(request["work_dir"]), _frames(request["frames"])
    source = Path(request["given"])
    poses = given.read_poses(source)
    failed = [(f.name, f"no pose in {source.name}") for f in frames if f.name not in poses.camera_from_world]
    usable = [f for f in frames if f.name in poses.camera_from_world]
    problem = floor_problem(len(usable), len(frames))
    if problem:
        raise SfmError(
            f"The poses in {source} cannot be used: {problem}. Check that its names are those of the images."
        )
    folder = work_dir / "work"
    model, database, settings, tried = given.triangulate(
        usable, poses, folder, request["max_image_size"], say
    )
    health = examine(colmap.reading(model, frames))
    warnings = _warnings(len(usable), len(frames), failed)
    if health.problems:
        warnings.append(f"The given poses look doubtful: {'; '.join(health.problems)}.")
    by_name = {model.image(i).name: i for i in model.reg_image_ids()}
    chosen = {by_name[f.staged]: f for f in usable}
    report = {
        "given": True,
        "source": str(source),
        "settings": {"sift": dict(settings.sift), "mapper": {}, "max_image_size": settings.max_image_size},
        "tried": tried,
    }
    _write(work_dir, model, chosen, failed, health.as_dict(), report, warnings, begun)
    database.replace(work_dir / DATABASE)
    shutil.rmtree(folder, ignore_errors=True)
    return {"warnings": warnings}


def views(request: Request, say: Say) -> dict[str, Any]:
    """Poses and pinhole cameras of named frames from a given COLMAP model or poses file, for evaluation."""
    frames, source = _frames(request["frames"]), Path(request["given"])
    lenses = Lenses(Path(request["out_dir"]) / "images")
    found, failed = given.views(source, frames)
    return {"views": [_view(f, pose, lens, lenses) for f, pose, lens in found], "failed": failed}


def register(request: Request, say: Say) -> dict[str, Any]:
    """Register held-out images to a finished model without changing anything in its folder."""
    frames, out_dir = _frames(request["frames"]), Path(request["out_dir"])
    train = _frames(request["train_frames"])
    found, failed = registration.register(Path(request["sfm_dir"]), train, frames, out_dir / "work", say)
    lenses = Lenses(out_dir / "images")
    result = [_view(f, pose, lens, lenses) for f, pose, lens in found]
    shutil.rmtree(out_dir / "work", ignore_errors=True)
    return {"views": result, "failed": failed}


def register_to_renders(request: Request, say: Say) -> dict[str, Any]:
    """Find frames without a pose by means of sharp renders; see renders.py. The model is only read."""
    out_dir, frames = Path(request["out_dir"]), _frames(request["frames"])
    views = [
        renders.Render(
            file,
            np.load(r["depth"], allow_pickle=False),
            Camera(*r["pinhole"]),
            np.array(r["camera_from_world"]),
        )
        for file, r in zip(_frames(request["renders"]), request["renders"], strict=True)
    ]
    found, failed = renders.register(Path(request["sfm_dir"]), views, frames, out_dir / "work", say)
    lenses = Lenses(Path(request["images"]))
    result = [_view(f, pose, lens, lenses) for f, pose, lens in found]
    shutil.rmtree(out_dir / "work", ignore_errors=True)
    return {"views": result, "failed": failed}


def undistort_images(request: Request, say: Say) -> dict[str, Any]:
    """Bring further images (sharp twins, masks' photos) into the pinhole geometry of the frames of the
    same name."""
    frames, out_dir = _frames(request["frames"]), Path(request["out_dir"])
    model = colmap.read_model(Path(request["sfm_dir"]) / "sparse" / "0")
    by_name = {model.image(i).name: i for i in model.reg_image_ids()}
    lenses = Lenses(out_dir)
    result = {}
    for frame in frames:
        if frame.name not in by_name:
            continue
        lens = colmap.lens(model, model.image(by_name[frame.name]).camera_id)
        result[frame.name] = str(lenses.view(lens, frame)[1])
    return {"paths": result}


def _view(frame: FrameFile, pose: Any, lens: colmap.Lens, lenses: Lenses) -> dict[str, Any]:
    camera, path = lenses.view(lens, frame)
    mask = lenses.mask(lens, frame)
    numbers = [camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy]
    return {
        "name": frame.name, "camera": numbers, "path": str(path), "camera_from_world": pose.tolist(),
        "mask": None if mask is None else str(mask),
    }  # fmt: skip


def _write(
    work_dir: Path,
    model: colmap.Model,
    chosen: dict[int, FrameFile],
    failed: Sequence[tuple[str, str]],
    health: dict[str, Any],
    report: dict[str, Any],
    warnings: list[str],
    begun: float,
    written: colmap.Model | None = None,
    readout: float | None = None,
) -> None:
    """Write all result files; sfm.json last, so that its presence means the stage is complete."""
    (work_dir / REPORT).unlink(missing_ok=True)
    shutil.rmtree(work_dir / "images", ignore_errors=True)
    lenses = Lenses(work_dir / "images")
    sparse: SparseModel = replace(sparse_model(model, chosen, lenses, failed), readout=readout)
    write_sparse(written if written is not None else model, chosen, work_dir)
    save_model(sparse, work_dir)
    cameras = {
        i: {"model": c.model, "width": c.width, "height": c.height, "params": [round(p, 6) for p in c.params]}
        for i in sorted({model.image(j).camera_id for j in chosen})
        for c in [colmap.lens(model, i)]
    }
    data = {
        "registered": len(chosen),
        "total": len(chosen) + len(failed),
        "failed": [{"name": n, "reason": r} for n, r in failed],
        "error_px": health["error_px"],
        "median_triangulation_deg": health["median_triangulation_deg"],
        "points": health["points"],
        "seconds": round(time.monotonic() - begun, 2),
        "health": health,
        "cameras": cameras,
        "undistorted_frames": lenses.undistorted,
        "largest_displacement_px": round(lenses.largest_px, 3),
        "staged": [[i, f.staged, f.name] for i, f in chosen.items()],
        "warnings": warnings,
        **report,
    }
    write_json_atomic(work_dir / REPORT, data)


def _warnings(
    registered: int, total: int, failed: Sequence[tuple[str, str]], others: Sequence[int] = ()
) -> list[str]:
    """others: how many frames other models of the same attempt have, of which the first may have all, too."""
    if not failed:
        return []
    listing = "; ".join(f"{n} ({r})" for n, r in failed[:8]) + ("; ..." if len(failed) > 8 else "")
    few = (
        " Fewer than half of the frames are used: expect holes in the scene."
        if registered < WARN_SHARE * total
        else ""
    )
    told = [f"{len(failed)} of {total} frames have no camera pose and are left out: {listing}.{few}"]
    if others:
        told.append(
            f"SfM found {1 + len(others)} disconnected models; the largest with {registered} frames "
            f"is used, those with {', '.join(map(str, others))} frames are not."
        )
    return told


def _frames(listing: Sequence[dict[str, Any]]) -> list[FrameFile]:
    return [
        FrameFile(
            f["staged"],
            f["name"],
            Path(f["path"]),
            f["width"],
            f["height"],
            f.get("time_s"),
            Path(f["mask"]) if f.get("mask") else None,
            f.get("camera"),
            f.get("path_px"),
        )
        for f in listing
    ]
