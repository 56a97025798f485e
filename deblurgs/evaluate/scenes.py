"""From a capture with ground truth to an `EvaluationScene`: references, their cameras and their SfM poses."""

import dataclasses
from pathlib import Path

from deblurgs.capture.dataset import Capture
from deblurgs.capture.image import read_rgb
from deblurgs.evaluate.protocol import EvaluationScene, Reference
from deblurgs.log import Log
from deblurgs.sfm.model import SparseModel
from deblurgs.sfm.stage import read_given_poses, register_test, undistort_like
from deblurgs.train.data import TrainingSet, as_tensor


def evaluation_scene(
    name: str,
    given: Path | None,
    capture: Capture,
    model: SparseModel,
    training: TrainingSet,
    sfm_dir: Path,
    work_dir: Path,
    log: Log,
) -> EvaluationScene:
    """References of both tasks. `given`: the camera model that came with the scene, None for our own SfM.

    Poses of held-out views come from the given model, or by registering them to the *finished* training model.
    """
    novel: list[Reference] = []
    if capture.test_frames:
        if given is not None:
            posed = read_given_poses(given, capture.test_frames, work_dir / "test", log=log)
        else:
            posed = register_test(sfm_dir, capture.frames, capture.test_frames, work_dir / "test", log=log)
        for view, reason in posed.failed.items():
            log.warn(f"held-out view {view} has no pose and is left out of the table: {reason}")
        for view, pose in posed.camera_from_world.items():
            in_scene = training.scene_from_sfm.apply_camera_from_world(pose)
            image = as_tensor(read_rgb(posed.image_paths[view]))
            novel.append(Reference(view, image, posed.cameras[view], as_tensor(in_scene)))
    return EvaluationScene(
        name,
        "blurry-only" if given is None else "given",
        training,
        novel,
        _twins(capture, model, sfm_dir, work_dir, log),
    )


def _twins(capture: Capture, model: SparseModel, sfm_dir: Path, work_dir: Path, log: Log) -> list[Reference]:
    """Sharp twins in the pinhole geometry of their blurred frames."""
    by_name = {frame.name: frame for frame in capture.frames}
    wanted = [
        dataclasses.replace(by_name[n], path=capture.twins[n]) for n in model.names if n in capture.twins
    ]
    if not wanted:
        return []
    paths = undistort_like(sfm_dir, wanted, work_dir / "twins", log=log)
    cameras = dict(zip(model.names, model.cameras, strict=True))
    return [Reference(n, as_tensor(read_rgb(path)), cameras[n]) for n, path in paths.items()]
