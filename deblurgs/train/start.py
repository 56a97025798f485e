"""What a training begins with: paths, random numbers and the optimisers of what frames share."""

import torch
from torch import Tensor

from deblurgs.config import TrainConfig
from deblurgs.scene.continuous import MAX_READOUT, ContinuousTrajectory
from deblurgs.scene.photometry import Photometry
from deblurgs.scene.subframe import NUM_PIECES
from deblurgs.scene.trajectory import Trajectory
from deblurgs.train.data import (
    TrainingSet,
    frame_times,
    has_times,
    relative_exposures,
)
from deblurgs.train.model import AnyTrajectory
from deblurgs.train.optimizer import FrameAdam


def make_trajectory(data: TrainingSet, config: TrainConfig, rng: torch.Generator) -> AnyTrajectory:
    """The paths at the start, as the settings want them, where the data lies."""
    t, poses = config.trajectory, data.camera_from_world.cpu()
    trajectory: AnyTrajectory
    if t.kind == "continuous":
        trajectory = ContinuousTrajectory(poses, frame_times(data), duty=t.duty)
        if not has_times(data):
            trajectory.interval_s = None
    else:
        trajectory = Trajectory(
            poses, t.kind, t.num_knots, start_spread=t.start_spread, generator=rng,
            num_time_pieces=NUM_PIECES if t.sub_frame_times and t.kind != "static" else 0,
        )  # fmt: skip
        with torch.no_grad():
            trajectory.knots.mul_(relative_exposures(data).to(poses)[:, None, None])
    with torch.no_grad():
        trajectory.readout.fill_(first_readout(data, config))
    trajectory.readout.requires_grad_(t.rolling_shutter and t.readout is None)
    return trajectory.to(data.points.device)


def first_readout(data: TrainingSet, config: TrainConfig) -> float:
    """The readout at the start, in the trajectory's unit: the given one, else what SfM found, else none."""
    t = config.trajectory
    if t.readout is not None:
        return t.readout
    if not t.rolling_shutter or data.readout is None:
        return 0.0
    in_unit = data.readout if t.kind == "continuous" else data.readout / t.duty
    return min(max(in_unit, -MAX_READOUT), MAX_READOUT)


def device_generator(device: torch.device, seed: int) -> torch.Generator:
    """Random numbers that are drawn on the device itself."""
    return torch.Generator(device).manual_seed(seed)


def times_adam(trajectory: AnyTrajectory) -> FrameAdam | None:
    """Adam over the sub-frame times, None where they are not learnt."""
    if isinstance(trajectory, Trajectory) and trajectory.log_speeds.shape[1] > 0:
        return FrameAdam(trajectory.log_speeds)
    return None


def shared_adam(
    trajectory: AnyTrajectory, photometry: Photometry, config: TrainConfig, *, fused: bool
) -> torch.optim.Adam | None:
    """Adam over the numbers that all frames share, None when there are none to learn.

    fused: only that one can skip a step without being waited for (`skip_unless`).
    """
    rates: list[tuple[Tensor, float]] = []
    if trajectory.readout.requires_grad:
        rates.append((trajectory.readout, config.trajectory.timing_lr))
    if isinstance(trajectory, ContinuousTrajectory):
        rates.append((trajectory.logit_duty, config.trajectory.timing_lr))
    if photometry.has_curve:
        rates.append((photometry.bends, config.photometry.bends_lr))
    groups = [{"params": [p], "lr": lr, "first_lr": lr} for p, lr in rates]
    return torch.optim.Adam(groups, betas=(0.9, 0.99), fused=fused or None) if groups else None
