"""Frames that structure from motion lost, found again by comparing them with sharp renders of a first trained scene."""

import shutil
from typing import TYPE_CHECKING

from deblurgs.log import Log
from deblurgs.run import RunFolder

if TYPE_CHECKING:
    from deblurgs.scene.transform import Similarity
    from deblurgs.sfm.model import SparseModel
    from deblurgs.train.trained import TrainedScene

MAX_RENDERS = 40
"""Sharp views that lost frames are compared with, evenly chosen."""


def find_lost_frames(
    run: RunFolder, model: "SparseModel", scene: "TrainedScene", scene_from_sfm: "Similarity", log: Log
) -> "SparseModel":
    """The SfM result, extended in the run folder by the frames whose poses were found; as it was if there is none.

    Nothing is looked for where no frame is missing, or where the cameras were given rather than estimated.
    """
    import numpy as np
    import torch

    from deblurgs.capture.dataset import load_capture
    from deblurgs.capture.image import write_png
    from deblurgs.files import read_json
    from deblurgs.render.render import frame_depth, sharp_view
    from deblurgs.sfm.stage import SharpRender, register_missing
    from deblurgs.stages.splats import sfm_from_scene as moved_back

    report = read_json(run.sfm / "sfm.json")
    if not model.failed or not isinstance(report, dict) or report.get("given"):
        return model
    sfm_from_scene = moved_back(scene, scene_from_sfm)
    with torch.no_grad():
        mid = scene.trajectory.all_at(0.5)
    poses = np.asarray(sfm_from_scene.apply_camera_from_world(mid.double().numpy()), np.float64)
    folder = run.sfm / "lost"
    folder.mkdir(parents=True, exist_ok=True)
    renders = []
    for f in np.unique(np.linspace(0, len(poses) - 1, min(len(poses), MAX_RENDERS)).round().astype(int)):
        camera = model.cameras[f]
        picture, depths = folder / f"render{f:04d}.png", folder / f"render{f:04d}.npy"
        write_png(picture, sharp_view(scene, mid[f], camera).numpy())
        depth = frame_depth(scene, int(f), camera).numpy() * float(sfm_from_scene.scale)
        np.save(depths, np.where(depth > 0, depth, np.nan).astype(np.float32))
        renders.append(SharpRender(picture, depths, camera, poses[f]))
    capture = load_capture(run.path)
    try:
        return register_missing(run.sfm, renders, capture.frames, folder, masks=capture.masks, log=log)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
