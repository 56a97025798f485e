"""How many virtual views an exposure needs."""

import math

import torch
from torch import Tensor

from deblurgs.config import TrainConfig
from deblurgs.scene.camera import Camera
from deblurgs.scene.trajectory import path_length_px
from deblurgs.train.data import TrainingSet
from deblurgs.train.model import AnyTrajectory


@torch.no_grad()
def exposure_lengths_px(trajectory: AnyTrajectory, cameras: list[Camera], depths: Tensor) -> Tensor:
    """The longest way of an image point during each exposure, [F] pixels of `cameras`; depths [F] as in the scene."""
    u = torch.linspace(0.0, 1.0, 9, device=trajectory.knots.device)
    return path_length_px(trajectory(trajectory.frame_numbers, u), cameras, depths)


@torch.no_grad()
def count_views(
    trajectory: AnyTrajectory, cameras: list[Camera], depths: Tensor, config: TrainConfig
) -> list[int]:
    """Virtual views per frame: enough that neighbouring views lie `px_per_view` apart, within the bounds."""
    if trajectory.kind == "static":
        return [1] * trajectory.num_frames
    return [views_of(px, config) for px in exposure_lengths_px(trajectory, cameras, depths).tolist()]


def views_of(length_px: float, config: TrainConfig) -> int:
    """Virtual views for a blur of this length."""
    c = config.trajectory
    return int(min(max(math.ceil(length_px / c.px_per_view) + 1, c.min_views), c.max_views))


def first_views(data: TrainingSet, cameras: list[Camera], config: TrainConfig) -> list[int]:
    """Virtual views per frame before there are paths, from the blur that is known of the photos; 1 where none is."""
    known = data.blurs_px or [None] * data.num_frames
    return [
        1 if px is None else views_of(px * small.width / full.width, config)
        for px, full, small in zip(known, data.cameras, cameras, strict=True)
    ]
