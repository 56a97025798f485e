"""Joint optimisation of Gaussians and exposure trajectories (DeblurGS, arXiv 2404.11358, eq. 5-8, in linear light)."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from deblurgs.config import TrainConfig
from deblurgs.errors import DivergedError
from deblurgs.log import Log
from deblurgs.raster.api import ScreenStatistics
from deblurgs.scene.camera import Camera
from deblurgs.scene.continuous import MAX_READOUT, ContinuousTrajectory
from deblurgs.scene.gaussians import Gaussians
from deblurgs.scene.photometry import Photometry
from deblurgs.scene.shutter import sample_exposure
from deblurgs.scene.trajectory import Trajectory, path_length_px
from deblurgs.scene.transform import Similarity, align_poses
from deblurgs.train.data import (
    Pyramid,
    TrainingSet,
    frame_times,
    has_times,
    pyramid_level,
    scaled,
    training_camera,
)
from deblurgs.train.density import make_density
from deblurgs.train.holdout import BestState, HeldOutBlocks, Snapshot
from deblurgs.train.losses import photometric_loss
from deblurgs.train.model import AnyTrajectory, frame_light, supersampled
from deblurgs.train.optimizer import FrameAdam, GaussianAdam, exponential
from deblurgs.train.sampler import FrameSampler

# Path lengths change slowly; counting virtual views anew this often costs nothing.
VIEWS_EVERY = 50
# Looking at a held-out view costs one forward pass.
PROBE_EVERY = 200
# Three non-finite losses restore the last snapshot, three restores end the run.
MAX_STRIKES = 3


@dataclass
class TrainedScene:
    """The result in the scene frame; `training_cameras` are the cameras at training size."""

    gaussians: Gaussians
    trajectory: AnyTrajectory
    photometry: Photometry
    training_cameras: list[Camera]
    depths: Tensor
    config: TrainConfig
    seconds: float

    @torch.no_grad()
    def path_lengths_px(self, cameras: list[Camera]) -> list[float]:
        """The longest way of an image point during each exposure, in pixels of the given cameras."""
        poses = self.trajectory(torch.arange(self.trajectory.num_frames), torch.linspace(0.0, 1.0, 9))
        return path_length_px(poses, cameras, self.depths).tolist()

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
        return frame_drift(self.trajectory)


Report = Callable[[dict[str, float]], None]
Probe = Callable[[Gaussians, AnyTrajectory], float]


@torch.no_grad()
def frame_drift(trajectory: AnyTrajectory) -> Similarity:
    """trained_from_sfm, the similarity between the SfM poses and the mid-exposure poses of all frames."""
    sfm = trajectory.camera_from_world_sfm.double().numpy()
    return align_poses(sfm, trajectory.all_at(0.5).double().numpy())


@torch.no_grad()
def count_views(
    trajectory: AnyTrajectory, cameras: list[Camera], depths: Tensor, config: TrainConfig
) -> list[int]:
    """Virtual views per frame: enough that neighbouring views lie `px_per_view` apart, within the bounds."""
    c = config.trajectory
    if trajectory.kind == "static":
        return [1] * trajectory.num_frames
    u = torch.linspace(0.0, 1.0, 9)
    poses = trajectory(torch.arange(trajectory.num_frames), u)
    length = path_length_px(poses, cameras, depths)
    return [
        int(min(max(math.ceil(px / c.px_per_view) + 1, c.min_views), c.max_views)) for px in length.tolist()
    ]


class Trainer:
    """One run of the optimisation. `train()` walks through the scales; state lives here so that it can be watched."""

    def __init__(
        self,
        data: TrainingSet,
        config: TrainConfig,
        log: Log,
        report: Report | None = None,
        probe: Probe | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.data, self.config, self.log, self.report, self.probe = data, config, log, report, probe
        self.stop = stop
        self.held_out_psnr: float | None = None
        self.rng = torch.Generator().manual_seed(config.seed)
        # A given model may bring more points than the cap allows Gaussians.
        chosen = (
            torch.randperm(len(data.points), generator=self.rng)[: config.density.max_gaussians].sort().values
        )
        self.gaussians = Gaussians.from_points(data.points[chosen], data.colors[chosen], config.sh_degree)
        self.trajectory = make_trajectory(data, config, self.rng)
        self.photometry = Photometry(data.num_frames, num_bends=config.photometry.num_bends)
        self.optimizer = GaussianAdam(self.gaussians, config)
        self.knot_optimizer = FrameAdam(self.trajectory.knots)
        self.gain_optimizer = FrameAdam(self.photometry.log_gains)
        self.shared_optimizer = shared_adam(self.trajectory, self.photometry, config)
        self.density = make_density(
            config.density, self.gaussians, self.optimizer, config.total_steps, self.rng
        )
        self.training_cameras = [training_camera(c, config) for c in data.cameras]
        self.sampler = FrameSampler(data.num_frames, config.revisit, self.rng)
        self.best = BestState()
        self.step = 0
        self.supersample = 1  # of the present scale
        self.strikes = 0
        self.restores = 0
        self.lr_factor = 1.0

    def train(self) -> TrainedScene:
        # What torch does here is small; its worker threads cost more in waiting than they save, above all on a busy
        # machine. The kernels have their own threads.
        torch_threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return self._train()
        finally:
            torch.set_num_threads(torch_threads)

    def _train(self) -> TrainedScene:
        start = time.perf_counter()
        full = pyramid_level(self.data.images, self.training_cameras, self.data.masks)
        with self.log.progress("train", self.config.total_steps) as ticker:
            for stage, (factor, steps) in enumerate(zip(self.config.scales, self.config.steps, strict=True)):
                if self.stop():
                    break
                cameras = [scaled(c, factor) for c in self.training_cameras]
                level = pyramid_level(full.images, cameras, full.masks)
                self._train_level(level, steps, stage, start, ticker.update)
        return TrainedScene(
            self.gaussians, self.trajectory, self.photometry, self.training_cameras, self.data.depths, self.config,
            time.perf_counter() - start,
        )  # fmt: skip

    def _train_level(
        self, level: Pyramid, steps: int, stage: int, start: float, tick: Callable[[int, str], None]
    ) -> None:
        last = self.step + steps
        losses: list[float] = []
        finest = stage == len(self.config.scales) - 1
        self.supersample = self.config.train_scale if finest else 1
        blocks = HeldOutBlocks(
            [(c.width, c.height) for c in level.cameras],
            self.config.held_out if finest else 0.0,
            self.config.seed,
            level.masks,
        )
        views = count_views(self.trajectory, level.cameras, self.data.depths, self.config)
        snapshot = self.snapshot()
        while self.step < last and not self.stop():
            if self.step % VIEWS_EVERY == 0:
                views = count_views(self.trajectory, level.cameras, self.data.depths, self.config)
            if self.step % 500 == 0:
                snapshot = self.snapshot()
            frame = self.sampler.next()
            loss = self._one_step(level, frame, views[frame], blocks.train[frame])
            if math.isfinite(loss):
                losses.append(loss)
                self.sampler.saw(frame, loss)
            else:
                self._strike(snapshot)
            self.step += 1
            if blocks.any and (self.step % PROBE_EVERY == 0 or self.step == last):
                predict = partial(self._predicted_photo, level, views)
                self.best.offer(blocks.psnr(predict, level.images), self)
            if self.step % 50 == 0:
                mean = sum(losses[-self.data.num_frames :]) / max(len(losses[-self.data.num_frames :]), 1)
                count = self.gaussians.num_gaussians
                if self.probe and self.step % PROBE_EVERY == 0:
                    self.held_out_psnr = self.probe(self.gaussians, self.trajectory)
                known = "" if self.held_out_psnr is None else f"  held out {self.held_out_psnr:.2f} dB"
                tick(self.step, f"loss {mean:.4f}  {count} Gaussians{known}")
                if self.report:
                    latest = self.best.latest
                    self.report({
                        "step": self.step, "stage": stage, "loss": round(mean, 6), "num_gaussians": count,
                        "mean_views": sum(views) / len(views), "seconds": round(time.perf_counter() - start, 2),
                        **({} if latest is None else {"held_out_blocks_psnr": round(latest, 3)}),
                    })  # fmt: skip
                if self.best.stale >= self.config.patience:
                    self.log.info(f"held-out blocks stopped improving at step {self.step}")
                    break
        if blocks.any and self.best.state is not None and self.best.stale > 0:
            self._restore(self.best.state)

    @torch.no_grad()
    def _predicted_photo(self, level: Pyramid, views: list[int], frame: int) -> Tensor:
        """What the model predicts for one frame, display values."""
        u, weights = sample_exposure(views[frame])
        light = frame_light(
            self.gaussians, self.trajectory, frame, level.cameras[frame], u, weights,
            antialiased=self.config.antialiased, sh_degree=self._sh_degree(self.step / self.config.total_steps),
            supersample=self.supersample,
        )  # fmt: skip
        return self.photometry.developed(self.photometry.exposed(light, frame))

    def _one_step(self, level: Pyramid, frame: int, num_views: int, weight: Tensor | None) -> float:
        c, progress = self.config, self.step / self.config.total_steps
        u, weights = sample_exposure(num_views, shift=self._shift(num_views))
        camera = level.cameras[frame]
        statistics: list[ScreenStatistics] | None = [] if self.density.needs_statistics else None
        light = frame_light(
            self.gaussians, self.trajectory, frame, camera, u, weights, antialiased=c.antialiased,
            statistics=statistics, sh_degree=self._sh_degree(progress), supersample=self.supersample,
        )  # fmt: skip
        loss = self._photometric_loss(light, level, frame, weight)
        value = float(loss.detach())
        if not math.isfinite(value):
            return value
        total = (
            loss
            + c.opacity_reg * self.gaussians.opacities.mean()
            + c.scale_reg * self.gaussians.scales.mean()
        )
        if c.trajectory.smoothness > 0 and self.trajectory.num_knots > 2:
            bend = self.trajectory.bend(frame) * camera.fx  # pixels of the present scale
            total = total + c.trajectory.smoothness * bend.square().sum()
        total.backward()
        if not self._finite_gradients():
            self._zero_grad()
            return math.nan
        means_lr = exponential(c.means_lr, c.means_lr_end, progress) * self.lr_factor
        self.optimizer.set_means_lr(means_lr)
        self.optimizer.step()
        if self.step >= c.trajectory.start_step:
            self._step_cameras(frame, progress)
        self._zero_grad()
        self.density.after_step(self.step, statistics, supersampled(camera, self.supersample), means_lr)
        return value

    def _photometric_loss(self, light: Tensor, level: Pyramid, frame: int, weight: Tensor | None) -> Tensor:
        """What the photo's camera makes of the light, compared with the photo."""
        c = self.config
        limit = level.limits[frame] if c.photometry.saturation else None
        counted = self.photometry.exposed(light, frame) if c.photometry.gain else light
        if limit is not None:
            counted = torch.minimum(counted, limit)
        curve = self.photometry.has_curve
        return photometric_loss(
            self.photometry.developed(counted) if curve else counted, level.images[frame],
            ssim_weight=c.ssim_weight, encode_srgb=not curve, mask=weight,
        )  # fmt: skip

    def _step_cameras(self, frame: int, progress: float) -> None:
        """Knots, gains and what all frames share."""
        c = self.config
        lr = exponential(c.trajectory.lr, c.trajectory.lr_end, progress) * self.lr_factor
        self.knot_optimizer.step(self.trajectory.knot_rows(frame), lr)
        if c.photometry.gain:
            gain_lr = exponential(c.photometry.gain_lr, 0.1 * c.photometry.gain_lr, progress) * self.lr_factor
            self.gain_optimizer.step(torch.tensor([frame]), gain_lr)
        if self.shared_optimizer is not None:
            for group in self.shared_optimizer.param_groups:
                group["lr"] = (
                    exponential(group["first_lr"], group["first_lr"] / 20, progress) * self.lr_factor
                )
            self.shared_optimizer.step()
            with torch.no_grad():
                self.trajectory.readout.clamp_(-MAX_READOUT, MAX_READOUT)
        self.photometry.hold_gauge()
        if progress < c.trajectory.straight_until:
            self.trajectory.straighten(frame)

    def _zero_grad(self) -> None:
        self.optimizer.zero_grad()
        for module in (self.trajectory, self.photometry):
            module.zero_grad(set_to_none=True)

    def _shift(self, num_views: int) -> float:
        """Where this step's virtual views lie within their slices of the exposure."""
        if not self.config.trajectory.jitter or num_views == 1:
            return 0.5
        return float(torch.rand((), generator=self.rng))

    def _finite_gradients(self) -> bool:
        """Cheap: one sum per tensor is non-finite if any of its numbers is."""
        parameters = (
            *self.gaussians.parameters(), *self.trajectory.parameters(), *self.photometry.parameters(),
        )  # fmt: skip
        return all(math.isfinite(float(p.grad.sum())) for p in parameters if p.grad is not None)

    def _sh_degree(self, progress: float) -> int:
        """One degree more at each fifth of the run: colour first, gloss later."""
        return min(self.config.sh_degree, int(progress * 5))

    def snapshot(self) -> Snapshot:
        """Copies of everything that is optimised."""
        return (
            self.gaussians.tensors(),
            {name: p.detach().clone() for name, p in self.trajectory.named_parameters()},
            {name: p.detach().clone() for name, p in self.photometry.named_parameters()},
        )

    def _restore(self, snapshot: Snapshot) -> None:
        gaussians, trajectory, photometry = snapshot
        self.gaussians = Gaussians(**gaussians)
        with torch.no_grad():
            for module, values in ((self.trajectory, trajectory), (self.photometry, photometry)):
                for name, parameter in module.named_parameters():
                    parameter.copy_(values[name])

    def _strike(self, snapshot: Snapshot) -> None:
        """Skip a step with a non-finite loss; after three, go back to the last snapshot with halved learning rates."""
        self.strikes += 1
        if self.strikes < MAX_STRIKES:
            return
        self.strikes = 0
        self.restores += 1
        if self.restores >= MAX_STRIKES:
            raise DivergedError(
                f"the optimisation produced non-finite numbers {MAX_STRIKES * MAX_STRIKES} times (step {self.step}, "
                f"seed {self.config.seed}). Try another --train.seed or a lower --train.means-lr."
            )
        self.log.warn(
            f"non-finite loss at step {self.step}: back to the last good state with halved learning rates"
        )
        self._restore(snapshot)
        self.lr_factor *= 0.5
        self.optimizer = GaussianAdam(self.gaussians, self.config)
        self.optimizer.scale_lr(self.lr_factor)
        self.knot_optimizer = FrameAdam(self.trajectory.knots)
        self.gain_optimizer = FrameAdam(self.photometry.log_gains)
        self.shared_optimizer = shared_adam(self.trajectory, self.photometry, self.config)
        self.density = make_density(
            self.config.density, self.gaussians, self.optimizer, self.config.total_steps, self.rng
        )


def make_trajectory(data: TrainingSet, config: TrainConfig, rng: torch.Generator) -> AnyTrajectory:
    """The paths at the start, as the settings want them."""
    t = config.trajectory
    trajectory: AnyTrajectory
    if t.kind == "continuous":
        trajectory = ContinuousTrajectory(data.camera_from_world, frame_times(data), duty=t.duty)
        if not has_times(data):
            trajectory.interval_s = None
    else:
        trajectory = Trajectory(
            data.camera_from_world, t.kind, t.num_knots, start_spread=t.start_spread, generator=rng
        )
    with torch.no_grad():
        trajectory.readout.fill_(t.readout or 0.0)
    trajectory.readout.requires_grad_(t.rolling_shutter and t.readout is None)
    return trajectory


def shared_adam(
    trajectory: AnyTrajectory, photometry: Photometry, config: TrainConfig
) -> torch.optim.Adam | None:
    """Adam over the numbers that all frames share, None when there are none to learn."""
    rates: list[tuple[Tensor, float]] = []
    if trajectory.readout.requires_grad:
        rates.append((trajectory.readout, config.trajectory.timing_lr))
    if isinstance(trajectory, ContinuousTrajectory):
        rates.append((trajectory.logit_duty, config.trajectory.timing_lr))
    if photometry.has_curve:
        rates.append((photometry.bends, config.photometry.bends_lr))
    groups = [{"params": [p], "lr": lr, "first_lr": lr} for p, lr in rates]
    return torch.optim.Adam(groups, betas=(0.9, 0.99)) if groups else None


def train(
    data: TrainingSet, config: TrainConfig, log: Log, report: Report | None = None, probe: Probe | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> TrainedScene:  # fmt: skip
    """Optimise the scene; see `Trainer`. Raises DivergedError when numbers stay non-finite.

    report receives a line for metrics.jsonl every 50 steps. probe is shown the scene now and then and answers with the
    PSNR of a held-out view, which is displayed and never acted upon. stop is asked before every step; when it says yes
    the scene is returned as it is then.
    """
    return Trainer(data, config, log, report, probe, stop).train()
