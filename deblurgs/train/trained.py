"""What a training ends with: the scene, its paths and photometry, and how it is looked at."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from deblurgs.config import TrainConfig
from deblurgs.scene.alignment import align_to_paths, picture_grid
from deblurgs.scene.camera import Camera
from deblurgs.scene.continuous import ContinuousTrajectory
from deblurgs.scene.gaussians import Gaussians
from deblurgs.scene.photometry import Photometry
from deblurgs.scene.transform import Similarity
from deblurgs.train.model import AnyTrajectory
from deblurgs.train.views import count_views, exposure_lengths_px

SFM_NOISE_PX = 0.2
"""How far off structure from motion has a sharp frame."""
SFM_NOISE_OF_BLUR = 0.1
"""How much further off its path, as a share of the path's length, it has a blurred one."""
PLACES = 33
"""Places on a path at which structure from motion may have seen the frame."""


@dataclass
class TrainedScene:
    """The result in the scene frame, in host memory; `training_cameras` are the cameras at training size.

    depths [F]: the typical depth of what each frame sees. landmarks [F,G,3]: points of the scene frame that it was seen
    to see by structure from motion. device: where it is rendered. The pictures come back to host memory.
    """

    gaussians: Gaussians
    trajectory: AnyTrajectory
    photometry: Photometry
    training_cameras: list[Camera]
    depths: Tensor
    config: TrainConfig
    seconds: float
    landmarks: Tensor | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    _splats: Gaussians | None = field(default=None, repr=False)

    def splats(self) -> Gaussians:
        """The Gaussians on `device`."""
        if self.device.type == "cpu":
            return self.gaussians
        if self._splats is None:
            self._splats = Gaussians(**{k: t.to(self.device) for k, t in self.gaussians.tensors().items()})
        return self._splats

    def path_lengths_px(self, cameras: list[Camera]) -> list[float]:
        """The longest way of an image point during each exposure, in pixels of the given cameras."""
        return exposure_lengths_px(self.trajectory, cameras, self.depths).tolist()

    def num_views(self, cameras: list[Camera]) -> list[int]:
        return count_views(self.trajectory, cameras, self.depths, self.config)

    def shutter(self) -> dict[str, float]:
        """What was learnt or given about it: `duty` of the frame interval, `readout` in the trajectory's unit."""
        t = self.trajectory
        found = {"duty": round(float(t.duty.detach()), 4)} if isinstance(t, ContinuousTrajectory) else {}
        return found | ({"readout": round(float(t.readout.detach()), 4)} if t.rolling else {})

    def timing(self) -> list[str]:
        """What was found out about the shutter, in words; nothing for separate paths and a global shutter."""
        t, lines = self.trajectory, []
        if isinstance(t, ContinuousTrajectory):
            seconds = "" if t.exposure_s is None else f" ({t.exposure_s:.4g} s)"
            lines.append(f"shutter open for {float(t.duty.detach()):.2f} of the frame interval{seconds}")
        if t.rolling:
            unit = "frame interval" if isinstance(t, ContinuousTrajectory) else "exposure"
            lines.append(
                f"readout from the first to the last row: {float(t.readout.detach()):.2f} of the {unit}"
            )
        return lines

    def frame_drift(self) -> Similarity:
        """trained_from_sfm: how joint optimisation moved the scene as a whole."""
        return frame_drift(self.trajectory, self.training_cameras, self.depths, self.landmarks)


@torch.no_grad()
def frame_drift(
    trajectory: AnyTrajectory, cameras: list[Camera], depths: Tensor, landmarks: Tensor | None = None
) -> Similarity:
    """trained_from_sfm, the similarity after which the SfM poses show what the frames' paths show.

    cameras and depths [F] (typical, SfM side of the scene frame) of the frames; landmarks as in `TrainedScene`, without
    which a grid over each picture stands in. Where on its path SfM has put a camera is not known; `align_to_paths`
    finds it for each frame.
    """
    depths = depths.to(trajectory.knots.device)
    blur_px = exposure_lengths_px(trajectory, cameras, depths).double().cpu().numpy()
    sfm = trajectory.camera_from_world_sfm.double().cpu().numpy()
    u = torch.linspace(0.0, 1.0, PLACES, device=depths.device)
    paths = trajectory(trajectory.frame_numbers, u).double().cpu().numpy()
    focal = np.array([c.fx for c in cameras])
    noise = np.hypot(SFM_NOISE_PX, SFM_NOISE_OF_BLUR * blur_px) / focal
    if landmarks is None:
        extents = np.array([(0.5 * c.width / c.fx, 0.5 * c.height / c.fy) for c in cameras])
        world = picture_grid(sfm, depths.double().cpu().numpy(), extents)
    else:
        world = landmarks.double().cpu().numpy()
    return align_to_paths(sfm, paths, world, noise)
