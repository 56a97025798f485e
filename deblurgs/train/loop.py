"""Joint optimisation of Gaussians and exposure trajectories (DeblurGS, arXiv 2404.11358, eq. 5-8, in linear light)."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor

from deblurgs.config import TrainConfig
from deblurgs.errors import DivergedError
from deblurgs.log import Log
from deblurgs.raster import backend
from deblurgs.raster.api import ScreenStatistics
from deblurgs.scene.alignment import align_views
from deblurgs.scene.camera import Camera
from deblurgs.scene.continuous import MAX_READOUT, ContinuousTrajectory
from deblurgs.scene.gaussians import Gaussians
from deblurgs.scene.photometry import Photometry
from deblurgs.scene.shutter import sample_exposure
from deblurgs.scene.subframe import NUM_PIECES
from deblurgs.scene.trajectory import Trajectory, path_length_px
from deblurgs.scene.transform import Similarity
from deblurgs.train.data import (
    Pyramid,
    TrainingSet,
    frame_times,
    has_times,
    pyramid_level,
    relative_exposures,
    scaled,
    training_camera,
)
from deblurgs.train.density import make_density
from deblurgs.train.holdout import BestState, HeldOutBlocks, Snapshot
from deblurgs.train.losses import photometric_loss
from deblurgs.train.model import AnyTrajectory, frame_light, supersampled
from deblurgs.train.optimizer import FrameAdam, GaussianAdam, cooled, exponential, skip_unless
from deblurgs.train.outcome import LOOK_EVERY, LossRecord, all_finite
from deblurgs.train.relief import relieve
from deblurgs.train.sampler import FrameSampler

# Path lengths change slowly; counting virtual views anew this often costs nothing.
VIEWS_EVERY = 50
# Looking at a held-out view costs one forward pass.
PROBE_EVERY = 200
# Three non-finite losses restore the last snapshot, three restores end the run.
MAX_STRIKES = 3
# Paths begin as a spot. Until every frame was visited this often after its path was let go, what triage tells of its
# blur sets the number of its virtual views if that is larger; then the path has grown and is the better judge.
VISITS_BEFORE_PATHS_COUNT = 5


@dataclass
class TrainedScene:
    """The result in the scene frame, in host memory; `training_cameras` are the cameras at training size.

    device: where it is rendered. The pictures come back to host memory.
    """

    gaussians: Gaussians
    trajectory: AnyTrajectory
    photometry: Photometry
    training_cameras: list[Camera]
    depths: Tensor
    config: TrainConfig
    seconds: float
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    _splats: Gaussians | None = field(default=None, repr=False)

    def splats(self) -> Gaussians:
        """The Gaussians on `device`."""
        if self.device.type == "cpu":
            return self.gaussians
        if self._splats is None:
            self._splats = Gaussians(**{k: t.to(self.device) for k, t in self.gaussians.tensors().items()})
        return self._splats

    @torch.no_grad()
    def path_lengths_px(self, cameras: list[Camera]) -> list[float]:
        """The longest way of an image point during each exposure, in pixels of the given cameras."""
        poses = self.trajectory(self.trajectory.frame_numbers, torch.linspace(0.0, 1.0, 9))
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
        return frame_drift(self.trajectory, self.training_cameras, self.depths)


Report = Callable[[dict[str, float]], None]
Probe = Callable[[Gaussians, AnyTrajectory], float]
Keep = Callable[["Trainer", bool], None]
"""Called between two steps; `True` asks for a checkpoint at once, `False` only if it is time for one."""
Observe = Callable[["Trainer"], None]


@torch.no_grad()
def frame_drift(trajectory: AnyTrajectory, cameras: list[Camera], depths: Tensor) -> Similarity:
    """trained_from_sfm, the similarity after which the SfM poses show what the mid-exposure poses of all frames show.

    cameras and depths [F] (typical, SfM side of the scene frame) of the frames.
    """
    sfm = trajectory.camera_from_world_sfm.double().cpu().numpy()
    extents = np.array([(0.5 * c.width / c.fx, 0.5 * c.height / c.fy) for c in cameras])
    return align_views(
        sfm, trajectory.all_at(0.5).double().cpu().numpy(), depths.double().cpu().numpy(), extents
    )


@torch.no_grad()
def count_views(
    trajectory: AnyTrajectory, cameras: list[Camera], depths: Tensor, config: TrainConfig
) -> list[int]:
    """Virtual views per frame: enough that neighbouring views lie `px_per_view` apart, within the bounds."""
    if trajectory.kind == "static":
        return [1] * trajectory.num_frames
    u = torch.linspace(0.0, 1.0, 9, device=trajectory.knots.device)
    poses = trajectory(trajectory.frame_numbers, u)
    return [views_of(px, config) for px in path_length_px(poses, cameras, depths).tolist()]


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


class Trainer:
    """One run of the optimisation. `train()` walks through the scales; state lives here so that it can be watched.

    It happens where `data` lies. Away from the CPU no step waits for the device: non-finite numbers stop an update
    there, and losses are asked for every `LOOK_EVERY` steps. Rounds of density control ask how many Gaussians are dead.
    """

    def __init__(
        self,
        data: TrainingSet,
        config: TrainConfig,
        log: Log,
        report: Report | None = None,
        probe: Probe | None = None,
        stop: Callable[[], bool] = lambda: False,
        keep: Keep | None = None,
        observe: Observe | None = None,
    ) -> None:
        self.observe = observe
        self.data, self.config, self.log, self.report, self.probe = data, config, log, report, probe
        self.stop, self.keep = stop, keep
        self.held_out_psnr: float | None = None
        self.device = data.points.device
        self.on_host = self.device.type == "cpu"
        self.rng = torch.Generator().manual_seed(config.seed)
        self.device_rng = self.rng if self.on_host else device_generator(self.device, config.seed)
        # A given model may bring more points than the cap allows Gaussians.
        chosen = (
            torch.randperm(len(data.points), generator=self.rng)[: config.density.max_gaussians].sort().values
        ).to(self.device)
        self.gaussians = Gaussians.from_points(data.points[chosen], data.colors[chosen], config.sh_degree)
        self.trajectory = make_trajectory(data, config, self.rng)
        self.photometry = Photometry(data.num_frames, num_bends=config.photometry.num_bends).to(self.device)
        self.record = LossRecord()
        self.optimizer = GaussianAdam(self.gaussians, config)
        self.knot_optimizer = FrameAdam(self.trajectory.knots)
        self.times_optimizer = times_adam(self.trajectory)
        self.gain_optimizer = FrameAdam(self.photometry.log_gains)
        self.shared_optimizer = shared_adam(self.trajectory, self.photometry, config, fused=not self.on_host)
        self.density = make_density(
            config.density, self.gaussians, self.optimizer, config.total_steps, self.device_rng
        )
        self.training_cameras = [training_camera(c, config) for c in data.cameras]
        self.sampler = FrameSampler(data.num_frames, config.revisit, self.rng)
        self.best = BestState()
        self.step = 0
        self.supersample = 1  # of the present scale
        self.strikes = 0
        self.restores = 0
        self.lr_factor = 1.0
        self.views: list[int] = []
        self.losses: list[float] = []  # of the present scale
        self.most_views = config.trajectory.max_views  # lowered when memory runs out
        self.relieved = False
        self.seconds_before = 0.0

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
        start = time.perf_counter() - self.seconds_before
        full = pyramid_level(self.data.images, self.training_cameras, self.data.masks)
        with self.log.progress("train", self.config.total_steps) as ticker:
            end = 0
            for stage, (factor, steps) in enumerate(zip(self.config.scales, self.config.steps, strict=True)):
                end += steps
                if self.step >= end:
                    continue  # done before the checkpoint that this training goes on from
                if self._stopped():
                    break
                cameras = [scaled(c, factor) for c in self.training_cameras]
                level = pyramid_level(full.images, cameras, full.masks)
                self._train_level(level, end, stage, start, ticker.update)
        backend.finish(self.gaussians.means)
        host = torch.device("cpu")
        return TrainedScene(
            self.gaussians.to(host), self.trajectory.to(host), self.photometry.to(host), self.training_cameras,
            self.data.depths.to(host), self.config, time.perf_counter() - start, self.device,
        )  # fmt: skip

    def _train_level(
        self, level: Pyramid, last: int, stage: int, start: float, tick: Callable[[int, str], None]
    ) -> None:
        finest = stage == len(self.config.scales) - 1
        self.supersample = self.config.train_scale if finest else 1
        blocks = HeldOutBlocks(
            [(c.width, c.height) for c in level.cameras],
            self.config.held_out if finest else 0.0,
            self.config.seed,
            level.masks,
            self.device,
        )
        if self.step == last - self.config.steps[stage]:  # not in the middle of it, after a checkpoint
            self.losses, self.views = [], self._count_views(level)
        losses = self.losses
        snapshot = self.snapshot()
        while self.step < last and not self._stopped():
            if self.step % VIEWS_EVERY == 0:
                self.views = self._count_views(level)
            if self.step % 500 == 0:
                snapshot = self.snapshot()
            frame = self.sampler.next()
            try:
                loss = self._one_step(level, frame, self.views[frame], blocks.train[frame])
            except (MemoryError, RuntimeError) as error:
                relieve(self, level.cameras[frame], self.views[frame], error)
                continue
            self.record.add(frame, loss)
            if self.on_host or (self.step + 1) % LOOK_EVERY == 0 or self.step + 1 == last:
                for seen, value in self.record.take():
                    if math.isfinite(value):
                        losses.append(value)
                        self.sampler.saw(seen, value)
                    elif self._strike(snapshot):
                        break  # what follows in this batch was computed from the state that was left
            self.step += 1
            if self.observe:
                self.observe(self)
            if blocks.any and (self.step % PROBE_EVERY == 0 or self.step == last):
                predict = partial(self._predicted_photo, level, self.views)
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
                        "mean_views": sum(self.views) / len(self.views),
                        "seconds": round(time.perf_counter() - start, 2),
                        **({} if latest is None else {"held_out_blocks_psnr": round(latest, 3)}),
                    })  # fmt: skip
                if self.best.stale >= self.config.patience:
                    self.log.info(f"held-out blocks stopped improving at step {self.step}")
                    break
            if self.keep is not None and self.step < last:
                self.keep(self, False)
        if blocks.any and self.best.state is not None and self.best.stale > 0:
            self._restore(self.best.state)

    def _stopped(self) -> bool:
        """Whether somebody asked to stop; what is reached by then is kept."""
        stopped = self.stop()
        if stopped and self.keep is not None:
            self.keep(self, True)
        return stopped

    def _count_views(self, level: Pyramid) -> list[int]:
        views = count_views(self.trajectory, level.cameras, self.data.depths, self.config)
        c = self.config.trajectory
        # A continuous path has its lengths from the start.
        if c.kind not in ("static", "continuous") and (
            self.step < c.start_step + VISITS_BEFORE_PATHS_COUNT * self.data.num_frames
        ):
            first = first_views(self.data, level.cameras, self.config)
            views = [max(pair) for pair in zip(views, first, strict=True)]
        return [min(v, self.most_views) for v in views]

    @torch.no_grad()
    def _predicted_photo(self, level: Pyramid, views: list[int], frame: int) -> Tensor:
        """What the model predicts for one frame, display values."""
        u, weights = sample_exposure(views[frame], device=self.device)
        light = frame_light(
            self.gaussians, self.trajectory, frame, level.cameras[frame], u, weights,
            antialiased=self.config.antialiased, sh_degree=self._sh_degree(self.step / self.config.total_steps),
            supersample=self.supersample,
        )  # fmt: skip
        return self.photometry.developed(self.photometry.exposed(light, frame))

    def _one_step(self, level: Pyramid, frame: int, num_views: int, weight: Tensor | None) -> Tensor:
        """The loss, a scalar; non-finite when nothing was changed."""
        c, progress = self.config, self.step / self.config.total_steps
        u, weights = sample_exposure(num_views, shift=self._shift(num_views), device=self.device)
        camera = level.cameras[frame]
        statistics: list[ScreenStatistics] | None = [] if self.density.needs_statistics else None
        light = frame_light(
            self.gaussians, self.trajectory, frame, camera, u, weights, antialiased=c.antialiased,
            statistics=statistics, sh_degree=self._sh_degree(progress), supersample=self.supersample,
        )  # fmt: skip
        loss = self._photometric_loss(light, level, frame, weight)
        value = loss.detach()
        if self.on_host and not math.isfinite(float(value)):
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
        good: Tensor | None = None
        if not self.on_host:
            good = all_finite(loss, (p.grad for p in self._parameters()))
            value = torch.where(good, value, math.nan)
        elif not self._finite_gradients():
            self.forget_gradients()
            return torch.full_like(value, math.nan)
        means_lr = exponential(c.means_lr, c.means_lr_end, progress) * self.lr_factor
        self.optimizer.set_rates(means_lr, self.lr_factor * cooled(c.cool_from, c.cool_to, progress))
        self.optimizer.step(good)
        if self.step >= c.trajectory.start_step:
            self._step_cameras(frame, progress, good)
        self.forget_gradients()
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

    def _step_cameras(self, frame: int, progress: float, good: Tensor | None) -> None:
        """Knots, gains and what all frames share."""
        c = self.config
        lr = exponential(c.trajectory.lr, c.trajectory.lr_end, progress) * self.lr_factor
        self.knot_optimizer.step(self.trajectory.knot_rows(frame), lr, good)
        if self.times_optimizer is not None:
            times_lr = (
                exponential(c.trajectory.times_lr, c.trajectory.times_lr / 20, progress) * self.lr_factor
            )
            self.times_optimizer.step(self.trajectory.frame_numbers[frame : frame + 1], times_lr, good)
        if c.photometry.gain:
            gain_lr = exponential(c.photometry.gain_lr, 0.1 * c.photometry.gain_lr, progress) * self.lr_factor
            self.gain_optimizer.step(self.trajectory.frame_numbers[frame : frame + 1], gain_lr, good)
        if self.shared_optimizer is not None:
            for group in self.shared_optimizer.param_groups:
                group["lr"] = (
                    exponential(group["first_lr"], group["first_lr"] / 20, progress) * self.lr_factor
                )
            if good is not None:
                skip_unless(self.shared_optimizer, good)
            self.shared_optimizer.step()
            if self.trajectory.readout.requires_grad:
                with torch.no_grad():
                    self.trajectory.readout.clamp_(-MAX_READOUT, MAX_READOUT)
        self.photometry.hold_gauge()
        if progress < c.trajectory.straight_until:
            self.trajectory.straighten(frame)

    def forget_gradients(self) -> None:
        """Before a step, and after one that failed."""
        self.optimizer.zero_grad()
        for module in (self.trajectory, self.photometry):
            module.zero_grad(set_to_none=True)

    def _shift(self, num_views: int) -> float:
        """Where this step's virtual views lie within their slices of the exposure."""
        if not self.config.trajectory.jitter or num_views == 1:
            return 0.5
        return float(torch.rand((), generator=self.rng))

    def _parameters(self) -> Iterator[Tensor]:
        for module in (self.gaussians, self.trajectory, self.photometry):
            yield from module.parameters()

    def _finite_gradients(self) -> bool:
        """Cheap: one sum per tensor is non-finite if any of its numbers is."""
        return all(math.isfinite(float(p.grad.sum())) for p in self._parameters() if p.grad is not None)

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

    def _strike(self, snapshot: Snapshot) -> bool:
        """Skip a step with a non-finite loss; after three, go back to the last snapshot with halved learning rates.

        Returns whether it went back.
        """
        self.strikes += 1
        if self.strikes < MAX_STRIKES:
            return False
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
        self.knot_optimizer = FrameAdam(self.trajectory.knots)
        self.times_optimizer = times_adam(self.trajectory)
        self.gain_optimizer = FrameAdam(self.photometry.log_gains)
        self.shared_optimizer = shared_adam(
            self.trajectory, self.photometry, self.config, fused=not self.on_host
        )
        growth = self.density.growth  # of the whole run, not of what is left of it
        self.density = make_density(
            self.config.density, self.gaussians, self.optimizer, self.config.total_steps, self.device_rng
        )
        self.density.growth = growth
        return True


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


def train(
    data: TrainingSet, config: TrainConfig, log: Log, report: Report | None = None, probe: Probe | None = None,
    stop: Callable[[], bool] = lambda: False, keep: Keep | None = None, observe: Observe | None = None,
) -> TrainedScene:  # fmt: skip
    """Optimise the scene; see `Trainer`. Raises DivergedError when numbers stay non-finite.

    report receives a line for metrics.jsonl every 50 steps. probe is shown the scene now and then and answers with the
    PSNR of a held-out view, which is displayed and never acted upon. stop is asked before every step; when it says yes
    the scene is returned as it is then. keep is called between two steps and may write a checkpoint; to go on from one,
    make a `Trainer` and let `Checkpoints.resume` bring it there. observe sees the trainer after every step, may look at
    everything, change nothing, and hold the training up for as long as it likes.
    """
    return Trainer(data, config, log, report, probe, stop, keep, observe).train()
