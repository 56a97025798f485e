"""From a capture with ground truth to an `EvaluationScene`: references, their cameras and their SfM poses."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deblurgs.capture.image import read_rgb
from deblurgs.capture.source import Capture
from deblurgs.evaluate.protocol import EvaluationScene, Reference
from deblurgs.log import Log
from deblurgs.sfm.model import SparseModel
from deblurgs.sfm.test_views import given_test_poses, register_test_views
from deblurgs.train.data import TrainingSet, as_tensor


def evaluation_scene(
    name: str, sfm: str, capture: Capture, model: SparseModel, training: TrainingSet, sfm_dir: Path, log: Log
) -> EvaluationScene:
    """Poses of held-out views come from the given model, or by registering them to the *finished* training model."""
    poses: dict[str, np.ndarray] = {}
    if capture.test_frames:
        if sfm == "given":
            poses = given_test_poses(capture, [f.name for f in capture.test_frames])
        else:
            poses = register_test_views(capture.test_frames, sfm_dir, log=log)
    novel = []
    for frame in capture.test_frames:
        if frame.name not in poses:
            log.warn(f"held-out view {frame.name} could not be registered and is left out of the table")
            continue
        image = as_tensor(read_rgb(frame.path))
        pose = training.scene_from_sfm.apply_camera_from_world(poses[frame.name])
        novel.append(Reference(frame.name, image, _camera_for(image, model), as_tensor(pose)))
    twins = [
        Reference(n, as_tensor(read_rgb(capture.twins[n])), camera)
        for n, camera in zip(model.names, model.cameras, strict=True)
        if n in capture.twins
    ]
    return EvaluationScene(name, sfm, training, novel, twins)


def _camera_for(image: Tensor, model: SparseModel):
    size = (image.shape[1], image.shape[0])
    for camera in model.cameras:
        if (camera.width, camera.height) == size:
            return camera
    raise ValueError(f"no training camera has the size {size[0]}x{size[1]} of the held-out view")


__all__ = ["evaluation_scene", "torch"]
