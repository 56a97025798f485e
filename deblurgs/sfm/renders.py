"""Finds frames that SfM lost by comparing them with sharp renders of a first optimised scene. In the SfM child.

A blurred frame that shares too few features with its equally blurred neighbours often shares enough with a sharp view
of the same place. Every feature of a render has a place in space through the render's depth, so the pose follows from
2D-3D matches alone. A pose counts only if two disjoint halves of the renders give it too.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deblurgs.scene.camera import Camera
from deblurgs.sfm import colmap
from deblurgs.sfm.given import View
from deblurgs.sfm.register import lens_for
from deblurgs.sfm.rungs import UPRIGHT
from deblurgs.sfm.staging import DEFAULT_FEATURE_SIDE, FrameFile, stage_images

_MIN_INLIERS = 20
_MIN_INLIER_SHARE = 0.2
_MAX_ERROR_PX = 8.0
# How far the poses from two halves of the renders may lie apart: turned, and moved in units of the scene's depth.
_MAX_TURN_DEG = 3.0
_MAX_MOVE = 0.08


@dataclass(frozen=True)
class Render:
    """A sharp view of the scene: its picture, depth [H, W] (camera z in world units, NaN where nothing is), pinhole
    camera and camera_from_world [4, 4] in the world of the SfM model."""

    file: FrameFile
    depth: NDArray[np.float32]
    camera: Camera
    camera_from_world: NDArray[np.float64]


def lift(render: Render, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """The points of the world [n, 3] that pixels [n, 2] of a render show; NaN where it shows nothing."""
    c = render.camera
    column = np.clip(pixels[:, 0].astype(np.int64), 0, c.width - 1)
    row = np.clip(pixels[:, 1].astype(np.int64), 0, c.height - 1)
    z = render.depth[row, column].astype(np.float64)
    x_camera = np.stack(
        [(pixels[:, 0] - c.cx) / c.fx * z, (pixels[:, 1] - c.cy) / c.fy * z, z], axis=1
    )  # fmt: skip
    rotation, t = render.camera_from_world[:3, :3], render.camera_from_world[:3, 3]
    return (x_camera - t) @ rotation


def register(
    sfm_dir: Path,
    renders: Sequence[Render],
    frames: Sequence[FrameFile],
    folder: Path,
    say: Callable[[str], None],
) -> tuple[list[View], list[tuple[str, str]]]:
    """(frame, camera_from_world [4, 4], lens) of each frame that is found, and (name, reason) of the others.

    The lens is that of the model in `sfm_dir`, which is only read. Works in `folder`.
    """
    model = colmap.read_model(sfm_dir / "sparse" / "0")
    lenses = [
        colmap.lens(model, i) for i in sorted({model.image(j).camera_id for j in model.reg_image_ids()})
    ]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    images, database = folder / "stage", folder / "database.db"
    files = [r.file for r in renders]
    stage_images([*files, *frames], images)
    settings = replace(UPRIGHT, max_image_size=DEFAULT_FEATURE_SIDE)
    say(f"SfM: comparing {len(frames)} frames without a pose with {len(renders)} sharp renders")
    colmap.extract(database, images, [*files, *frames], settings)
    colmap.match(database, [(f.staged, r.staged) for f in frames for r in files], settings)
    found: list[View] = []
    failed: list[tuple[str, str]] = []
    for frame in frames:
        lens = lens_for(frame, lenses)
        if lens is None:
            failed.append((frame.name, f"no training camera has the shape {frame.width}x{frame.height} px"))
            continue
        pose = _pose(database, frame, renders, lens)
        if isinstance(pose, str):
            failed.append((frame.name, pose))
        else:
            found.append((frame, pose, lens))
    return found, failed


def _pose(
    database: Path, frame: FrameFile, renders: Sequence[Render], lens: colmap.Lens
) -> NDArray[np.float64] | str:
    """camera_from_world [4, 4] of one frame, or why there is none."""
    pixels, points, source = [np.zeros((0, 2))], [np.zeros((0, 3))], [np.zeros(0, dtype=np.int64)]
    for number, render in enumerate(renders):
        own, theirs = colmap.verified_keypoints(database, frame.staged, render.file.staged)
        places = lift(render, theirs)
        good = np.isfinite(places).all(axis=1)
        pixels.append(own[good])
        points.append(places[good])
        source.append(np.full(int(good.sum()), number))
    x, p, s = np.concatenate(pixels), np.concatenate(points), np.concatenate(source)
    limit = _MAX_ERROR_PX * max(1.0, max(frame.width, frame.height) / 1000.0)
    whole = colmap.absolute_pose(x, p, lens, limit) if len(x) >= _MIN_INLIERS else None
    if whole is None or whole[1] < max(_MIN_INLIERS, _MIN_INLIER_SHARE * len(x)):
        agreeing = 0 if whole is None else whole[1]
        return f"{len(x)} matches with sharp renders of the scene, {agreeing} agree on a pose"
    used = sorted(set(s.tolist()))
    for half in (used[::2], used[1::2]):
        chosen = np.isin(s, half)
        part = colmap.absolute_pose(x[chosen], p[chosen], lens, limit) if chosen.sum() >= 6 else None
        if part is None:
            return "matches with too few sharp renders of the scene to confirm a pose"
        turn, move = apart(whole[0], part[0], p)
        if turn > _MAX_TURN_DEG or move > _MAX_MOVE:
            return f"two sets of sharp renders give poses {turn:.1f} deg and {100 * move:.0f} % of the depth apart"
    return whole[0]


def apart(
    first: NDArray[np.float64], second: NDArray[np.float64], points: NDArray[np.float64]
) -> tuple[float, float]:
    """Angle in degrees between two camera_from_world [4, 4], and distance of their centres / median depth of points."""
    turn = first[:3, :3] @ second[:3, :3].T
    centers = [-m[:3, :3].T @ m[:3, 3] for m in (first, second)]
    depth = float(np.median(points @ first[2, :3] + first[2, 3]))
    return (
        float(np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1)))),
        float(np.linalg.norm(centers[0] - centers[1])) / max(abs(depth), 1e-12),
    )
