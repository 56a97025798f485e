"""Cameras the user already has: a COLMAP model, or poses and intrinsics in JSON. Runs in the SfM child."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblurgs.errors import SfmError
from deblurgs.sfm import colmap
from deblurgs.sfm.features import features_and_matches
from deblurgs.sfm.output import fit_lens
from deblurgs.sfm.rungs import RUNGS
from deblurgs.sfm.staging import FrameFile, Settings, stage_images

_MAX_JSON_BYTES = 64 << 20
_MIN_POINTS = 20
# Share of matched keypoints that must become observations of points; wrong poses still explain many pairs by chance.
# Measured: true poses 0.77 to 0.83, poses shuffled among frames or inverted 0.31 to 0.39.
_MIN_EXPLAINED = 0.45


@dataclass(frozen=True)
class GivenPoses:
    """camera_from_world [4, 4] (OpenCV axes) and lens of each frame by its name."""

    lenses: Mapping[str, colmap.Lens]
    camera_from_world: Mapping[str, NDArray[np.float64]]


View = tuple[FrameFile, NDArray[np.float64], colmap.Lens]


def find_frames(
    model: colmap.Model, frames: Sequence[FrameFile], folder: Path
) -> tuple[dict[int, FrameFile], list[tuple[str, str]]]:
    """Image id -> frame for each frame that the model has a pose for, in capture order, and the others with reason.

    Names are compared as they are, then with folders as part of the file name (as frames are named), then without
    folders, then without suffix, each where that is unambiguous.
    """
    keys = (_whole, _flat, _file, _stem)
    tables: list[dict[str, int | None]] = []
    for key in keys:
        table: dict[str, int | None] = {}
        for image_id, image in model.images.items():
            name = key(image.name)
            table[name] = None if name in table else image_id
        tables.append(table)
    chosen: dict[int, FrameFile] = {}
    failed = []
    for frame in frames:
        candidates = (t.get(key(frame.name)) for t, key in zip(tables, keys, strict=True))
        image_id = next((c for c in candidates if c is not None), None)
        if image_id is None:
            failed.append((frame.name, f"not in the given model {folder.name}"))
        elif not model.image(image_id).has_pose:
            failed.append((frame.name, "listed in the given model without a pose"))
        elif image_id in chosen:
            failed.append((frame.name, f"the given model names it like {chosen[image_id].name}"))
        else:
            fit_lens(colmap.lens(model, model.image(image_id).camera_id), frame)
            chosen[image_id] = frame
    return chosen, failed


def absent_images(
    model: colmap.Model, chosen: Mapping[int, FrameFile], other_names: Sequence[str], folder: Path
) -> list[str]:
    """A warning that names the images of the model which are neither used nor held out: they are not on
    disk."""
    known = {_stem(n) for n in other_names}
    absent = sorted(
        model.image(i).name
        for i in model.reg_image_ids()
        if i not in chosen
        and known.isdisjoint({_stem(model.image(i).name), _stem(_flat(model.image(i).name))})
    )
    if not absent:
        return []
    listing = ", ".join(absent[:8]) + (", ..." if len(absent) > 8 else "")
    return [
        f"{len(absent)} images of the model {folder} are not among the frames and are ignored: {listing}."
    ]


def read_poses(path: Path) -> GivenPoses:
    """Read {"width", "height", "fx", "fy", "cx", "cy", "frames": {name: 4x4 camera_from_world}}, one pinhole camera for
    all frames, or {"views": {name: {"model", "width", "height", "params", "camera_from_world"}}}, COLMAP cameras.

    Raises SfmError naming the frame with NaN, a wrong shape, or a matrix that is no rotation.
    """
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise SfmError(
                f"The poses file {path} is over {_MAX_JSON_BYTES >> 20} MB: that is not a poses file."
            )
        data = json.loads(path.read_text(encoding="utf-8"))
        if "views" in data:
            lenses = {str(name): _lens(view) for name, view in data["views"].items()}
            listing: dict[str, Any] = {n: v["camera_from_world"] for n, v in data["views"].items()}
        else:
            numbers = [float(data[k]) for k in ("width", "height", "fx", "fy", "cx", "cy")]
            listing = dict(data["frames"])
            shared = colmap.Lens("PINHOLE", int(numbers[0]), int(numbers[1]), tuple(numbers[2:]))
            lenses = {str(name): shared for name in listing}
    except (OSError, AttributeError, OverflowError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise SfmError(
            f"The poses file {path} cannot be read ({type(error).__name__}: {error}). It needs width, "
            "height, fx, fy, cx, cy and frames, or views."
        ) from error
    for lens in {id(lens): lens for lens in lenses.values()}.values():
        numbers = [lens.width, lens.height, *lens.params]
        if not (np.isfinite(numbers).all() and min(lens.width, lens.height, lens.params[0]) > 0):
            raise SfmError(f"The poses file {path} has an impossible camera: {numbers}.")
    poses = {}
    for name, rows in listing.items():
        try:
            matrix = np.array(rows, dtype=np.float64)
        except (ValueError, TypeError):
            matrix = np.zeros(0)
        if matrix.shape == (3, 4):
            matrix = np.vstack([matrix, [0.0, 0.0, 0.0, 1.0]])
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
            raise SfmError(f"The poses file {path}: the pose of {name!r} is not a finite 4x4 matrix.")
        rotation = matrix[:3, :3]
        if np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-3 or np.linalg.det(rotation) < 0:
            raise SfmError(
                f"The poses file {path}: the pose of {name!r} holds no rotation (scaled, mirrored or "
                "singular matrix)."
            )
        u, _, vt = np.linalg.svd(rotation)
        matrix[:3, :3] = u @ vt
        poses[str(name)] = matrix
    return GivenPoses(lenses, poses)


def _lens(view: dict[str, Any]) -> colmap.Lens:
    """Raises ValueError for an unknown camera model or a wrong number of parameters."""
    lens = colmap.Lens(
        str(view["model"]), int(view["width"]), int(view["height"]), tuple(float(p) for p in view["params"])
    )
    wanted = colmap.num_parameters(lens.model)
    if len(lens.params) != wanted:
        raise ValueError(f"a {lens.model} camera has {wanted} parameters, not {len(lens.params)}")
    return lens


def triangulate(
    frames: Sequence[FrameFile],
    poses: GivenPoses,
    folder: Path,
    max_image_size: int,
    say: Callable[[str], None],
) -> tuple[colmap.Model, Path, Settings, list[dict[str, Any]]]:
    """Points for frames with known poses; poses and intrinsics stay exactly as given.

    Returns the model, its feature database, the settings and the report of each try.
    Raises SfmError when no settings give points: the poses then do not belong to the images.
    """
    images = folder / "stage"
    # Frames with a lens of their own count as those of another camera.
    lenses = [fit_lens(poses.lenses[f.name], f) for f in frames]
    numbers = {lens: i for i, lens in enumerate(dict.fromkeys(lenses))}
    frames = [replace(f, camera=f"lens {numbers[n]}") for f, n in zip(frames, lenses, strict=True)]
    stage_images(frames, images)
    tried = []
    for number, rung in enumerate(RUNGS[:2], start=1):
        settings = replace(rung, max_image_size=max_image_size)
        database, extract_s, match_s = features_and_matches(
            frames, images, folder / f"given{number}", settings, say
        )
        model = colmap.triangulate(
            database,
            images,
            folder / f"given{number}" / "model",
            {
                f.staged: (lens, poses.camera_from_world[f.name])
                for f, lens in zip(frames, lenses, strict=True)
            },
        )
        used = model.compute_num_observations() / max(colmap.matched_keypoints(database), 1)
        entry = {
            "rung": settings.name,
            "registered": len(frames),
            "points": model.num_points3D(),
            "matches_explained": round(used, 4),
            "seconds": {"extract": round(extract_s, 2), "match": round(match_s, 2)},
            "kept": model.num_points3D() >= _MIN_POINTS and used >= _MIN_EXPLAINED,
        }
        tried.append(entry)
        if entry["kept"]:
            return model, database, settings, tried
    raise SfmError(
        f"The given poses explain only {100 * tried[-1]['matches_explained']:.0f} % of the matches between "
        f"the {len(frames)} frames ({tried[-1]['points']} points): they do not fit the images (wrong axes, "
        "order, or focal length), or the images show too little texture. Leave the poses out to let "
        "deblurgs find the cameras itself."
    )


def views(source: Path, frames: Sequence[FrameFile]) -> tuple[list[View], list[tuple[str, str]]]:
    """Pose and lens of each named frame in a COLMAP model folder or a poses file, and the frames without."""
    if source.is_dir():
        model = colmap.read_model(source)
        chosen, failed = find_frames(model, frames, source)
        known = colmap.poses(model)
        found = [
            (f, known[model.image(i).name], colmap.lens(model, model.image(i).camera_id))
            for i, f in chosen.items()
        ]
        return found, failed
    poses = read_poses(source)
    found = [
        (f, poses.camera_from_world[f.name], poses.lenses[f.name])
        for f in frames
        if f.name in poses.camera_from_world
    ]
    failed = [(f.name, f"no pose in {source.name}") for f in frames if f.name not in poses.camera_from_world]
    return found, failed


def _whole(name: str) -> str:
    return name


def _flat(name: str) -> str:
    return name.replace("\\", "/").replace("/", "__")


def _file(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).name


def _stem(name: str) -> str:
    return _file(name).rsplit(".", 1)[0]
