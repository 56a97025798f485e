"""Adds frames whose poses were found later to a finished SparseModel and its report."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deblurgs.files import write_json_atomic
from deblurgs.scene.camera import Camera
from deblurgs.sfm.model import SparseModel, load_model, save_model


@dataclass(frozen=True)
class Found:
    """Frames whose poses were found later.

    order: names of all frames in capture order. views: name -> (pinhole camera, image that it describes,
    camera_from_world [4, 4]). failed: those still without a pose, with the reason. masks: of those found that have one.
    """

    order: Sequence[str]
    views: Mapping[str, tuple[Camera, Path, NDArray[np.float64]]]
    failed: Sequence[tuple[str, str]] = ()
    masks: Mapping[str, Path] = field(default_factory=dict)


def extended(model: SparseModel, found: Found) -> SparseModel:
    """The model with the found frames. Each is said to see the points of its nearest neighbours in capture order that
    fall into its picture.
    """
    place = {name: k for k, name in enumerate(found.order)}
    entries = [
        (name, model.cameras[k], model.image_paths[k], model.camera_from_world[k], model.observations[k])
        for k, name in enumerate(model.names)
    ]
    for name, (camera, path, pose) in found.views.items():
        nearest = sorted(range(len(model.names)), key=lambda k: abs(place[model.names[k]] - place[name]))[:4]
        near = np.unique(np.concatenate([model.observations[k] for k in nearest]))
        entries.append((name, camera, path, pose, near[_in_picture(model.points[near], camera, pose)]))
    entries.sort(key=lambda e: place[e[0]])
    return replace(
        model,
        names=[e[0] for e in entries],
        cameras=[e[1] for e in entries],
        image_paths=[e[2] for e in entries],
        camera_from_world=np.stack([e[3] for e in entries]),
        observations=[e[4] for e in entries],
        failed=list(found.failed),
        masks={**model.masks, **found.masks},
    )


def extend(sfm_dir: Path, found: Found) -> SparseModel:
    """`extended`, written to model.npz and sfm.json in `sfm_dir`. sparse/0 keeps the frames that SfM itself found."""
    model = extended(load_model(sfm_dir), found)
    report = json.loads((sfm_dir / "sfm.json").read_text(encoding="utf-8"))
    report["registered"] = len(model.names)
    report["failed"] = [{"name": n, "reason": r} for n, r in found.failed]
    report["registered_to_renders"] = [*report.get("registered_to_renders", []), *found.views]
    save_model(model, sfm_dir)
    write_json_atomic(sfm_dir / "sfm.json", report)
    return model


def _in_picture(points: NDArray[np.float64], camera: Camera, pose: NDArray[np.float64]) -> NDArray[np.bool_]:
    x = points @ pose[:3, :3].T + pose[:3, 3]
    z = np.where(x[:, 2] > 0, x[:, 2], np.nan)
    column, row = camera.fx * x[:, 0] / z + camera.cx, camera.fy * x[:, 1] / z + camera.cy
    return (column >= 0) & (column <= camera.width) & (row >= 0) & (row <= camera.height)
