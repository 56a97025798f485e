"""A trained scene -> files for other tools, in the SfM's own world: the stage `export`."""

from typing import TYPE_CHECKING

from deblurgs.log import Log
from deblurgs.run import RunFolder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from deblurgs.scene.transform import Similarity
    from deblurgs.train.trained import TrainedScene


def write_scene(
    run: RunFolder,
    scene: "TrainedScene",
    names: list[str],
    scene_from_sfm: "Similarity",
    times_s: dict[str, float | None],
    log: Log,
) -> None:
    """PLY and trajectories in the SfM's own world."""
    import torch

    from deblurgs.export.ply import write_ply
    from deblurgs.export.trajectories import FrameTrajectory, ShutterEstimate, write_trajectories, write_tum
    from deblurgs.scene.shutter import sample_exposure
    from deblurgs.stages.splats import poses_in_sfm, sfm_from_scene, splat_arrays

    similarity = sfm_from_scene(scene, scene_from_sfm)
    run.export.mkdir(exist_ok=True)
    dropped = write_ply(run.export / "scene.ply", splat_arrays(scene, similarity))
    if dropped:
        log.warn(f"{dropped} Gaussians with non-finite numbers were left out of export/scene.ply")

    def in_sfm(poses: "Tensor") -> "NDArray[np.float64]":
        return poses_in_sfm(poses, similarity)

    frames = []
    views = scene.num_views(scene.training_cameras)
    with torch.no_grad():
        for f, name in enumerate(names):
            u, weights = sample_exposure(views[f])
            frames.append(
                FrameTrajectory(
                    name=name, kind=scene.trajectory.kind, knots=in_sfm(scene.trajectory.knot_poses(f)),
                    u=u.double().numpy(), weights=weights.double().numpy(), time_s=times_s.get(name),
                    camera_from_world=in_sfm(scene.trajectory(torch.tensor([f]), u)[0]),
                    mid_camera_from_world=in_sfm(scene.trajectory(torch.tensor([f]), torch.tensor([0.5]))[0])[0],
                )
            )  # fmt: skip
    interval_s = getattr(scene.trajectory, "interval_s", None)
    write_trajectories(
        run.trajectories_json, frames, shutter=ShutterEstimate(interval_s=interval_s, **scene.shutter())
    )
    write_tum(run.export / "trajectory.tum", frames)
