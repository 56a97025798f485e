"""A tiny run folder's worth of content, without running anything: some Gaussians and four frames that saw them."""

import numpy as np
import torch

from deblurgs.config import TrainConfig
from deblurgs.export.ply import SplatArrays
from deblurgs.scene.camera import Camera
from deblurgs.scene.gaussians import Gaussians
from deblurgs.scene.photometry import Photometry
from deblurgs.scene.trajectory import Trajectory
from deblurgs.train.trained import TrainedScene
from deblurgs.view.content import Content, Frames, StoredKind

NUM_FRAMES = 4


def splat_arrays(num: int = 300) -> SplatArrays:
    """A coloured wall of splats at z about 1, seen from the origin."""
    rng = np.random.default_rng(3)
    means = np.stack(
        [rng.uniform(-0.6, 0.6, num), rng.uniform(-0.4, 0.4, num), rng.uniform(0.95, 1.1, num)], axis=1
    )
    return SplatArrays(
        means=means.astype(np.float32),
        quats_wxyz=rng.normal(size=(num, 4)).astype(np.float32),
        log_scales=np.log(rng.uniform(0.01, 0.05, (num, 3))).astype(np.float32),
        logit_opacities=np.full(num, 3.0, np.float32),
        sh0=rng.normal(0.0, 1.0, (num, 3)).astype(np.float32),
        shN=np.zeros((num, 3, 3), np.float32),
    )


def content() -> Content:
    """Frames whose exposures turn the camera by a few degrees."""
    a = splat_arrays()
    t = torch.from_numpy
    gaussians = Gaussians(
        means=t(a.means), quats=t(a.quats_wxyz), log_scales=t(a.log_scales), logit_opacities=t(a.logit_opacities),
        sh0=t(a.sh0)[:, None], shN=t(a.shN),
    )  # fmt: skip
    poses = torch.eye(4).repeat(NUM_FRAMES, 1, 1)
    poses[:, 0, 3] = torch.linspace(-0.1, 0.1, NUM_FRAMES)
    trajectory = Trajectory(poses, "linear", 2)
    with torch.no_grad():
        trajectory.knots[:, 0, 4], trajectory.knots[:, 1, 4] = -0.1, 0.1
    camera = Camera(96, 64, 90.0, 90.0, 48.0, 32.0)
    scene = TrainedScene(
        gaussians, trajectory, Photometry(NUM_FRAMES), [camera] * NUM_FRAMES, torch.ones(NUM_FRAMES), TrainConfig(), 1.0
    )  # fmt: skip

    def observed(frame: int) -> np.ndarray:
        return np.full((64, 96, 3), 0.2 * frame, np.float32)

    def stored(kind: StoredKind, frame: int) -> np.ndarray | None:
        return None

    frames = Frames(
        scene, [f"{f:03d}.png" for f in range(NUM_FRAMES)], [camera] * NUM_FRAMES, observed, stored
    )
    return Content(gaussians, False, frames)
