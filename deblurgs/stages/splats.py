"""A trained scene in the SfM's own world, as exports want it: Gaussians, mid-exposure poses, and what to render."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deblurgs.log import Log
from deblurgs.raster.devices import DeviceName, resolve
from deblurgs.run import RunFolder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from deblurgs.export.html import View
    from deblurgs.export.ply import SplatArrays
    from deblurgs.scene.gaussians import Gaussians
    from deblurgs.scene.transform import Similarity
    from deblurgs.sfm.model import SparseModel
    from deblurgs.train.trained import TrainedScene


@dataclass(frozen=True)
class FinishedScene:
    """sfm_from_scene takes the scene frame of training to the world of sfm/sparse/0 and of every export."""

    scene: "TrainedScene"
    names: list[str]
    sfm_from_scene: "Similarity"
    model: "SparseModel"

    def splats(self) -> "SplatArrays":
        return splat_arrays(self.scene, self.sfm_from_scene)

    def mid_poses(self) -> "NDArray[np.float64]":
        """camera_from_world at u = 0.5 in the SfM world, [F,4,4]."""
        return poses_in_sfm(self.scene.trajectory.all_at(0.5), self.sfm_from_scene)

    def views(self) -> "list[View]":
        from deblurgs.export.html import View

        return [
            View(name, pose, camera)
            for name, pose, camera in zip(self.names, self.mid_poses(), self.model.cameras, strict=True)
        ]


def load_finished(run: RunFolder, log: Log, device: DeviceName = "cpu") -> FinishedScene:
    """What `train` left in the run folder, to be drawn on `device`. Raises UsageError when there is no scene."""
    from deblurgs.sfm.model import load_model
    from deblurgs.stages.train import scene_path
    from deblurgs.train.checkpoint import load_scene

    scene, names, scene_from_sfm = load_scene(scene_path(run, log), resolve(device))
    return FinishedScene(scene, names, sfm_from_scene(scene, scene_from_sfm), load_model(run.sfm))


def sfm_from_scene(scene: "TrainedScene", scene_from_sfm: "Similarity") -> "Similarity":
    """Joint optimisation may have moved the scene as a whole; exports live where the SfM cameras are."""
    return scene_from_sfm.inverse() @ scene.frame_drift().inverse()


def splat_arrays(scene: "TrainedScene", sfm_from_scene: "Similarity") -> "SplatArrays":
    """The Gaussians in the SfM world."""
    from deblurgs.export.ply import SplatArrays

    moved = {name: t.numpy() for name, t in scene.gaussians.transformed(sfm_from_scene).tensors().items()}
    return SplatArrays(
        means=moved["means"], quats_wxyz=moved["quats"], log_scales=moved["log_scales"],
        logit_opacities=moved["logit_opacities"], sh0=moved["sh0"][:, 0], shN=moved["shN"],
        antialiased=scene.config.antialiased,
    )  # fmt: skip


def gaussians_from_arrays(arrays: "SplatArrays") -> "Gaussians":
    """What a splat file holds, ready to be drawn by `rasterize` (raster/api.py)."""
    import torch

    from deblurgs.scene.gaussians import Gaussians

    t = torch.from_numpy
    return Gaussians(
        means=t(arrays.means), quats=t(arrays.quats_wxyz), log_scales=t(arrays.log_scales),
        logit_opacities=t(arrays.logit_opacities), sh0=t(arrays.sh0)[:, None], shN=t(arrays.shN),
    )  # fmt: skip


def poses_in_sfm(camera_from_world: "Tensor", sfm_from_scene: "Similarity") -> "NDArray[np.float64]":
    """Poses of the scene frame [...,4,4] in the SfM world."""
    import numpy as np

    poses = camera_from_world.detach().double().numpy()
    return np.asarray(sfm_from_scene.apply_camera_from_world(poses), np.float64)
