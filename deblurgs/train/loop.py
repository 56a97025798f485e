"""Joint optimisation of Gaussians and exposure trajectories (DeblurGS, arXiv 2404.11358, eq. 5-8, in linear light)."""

import math
import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from deblurgs.config import TrainConfig
from deblurgs.errors import DivergedError
from deblurgs.log import Log
from deblurgs.raster import backend
from deblurgs.raster.api import ScreenStatistics
from deblurgs.scene.continuous import MAX_READOUT
from deblurgs.scene.gaussians import Gaussians
from deblurgs.scene.photometry import Photometry
from deblurgs.train.attribution import Shares, frame_shares
from deblurgs.train.data import (
    Pyramid,
    TrainingSet,
    pyramid_level,
    scaled,
    training_camera,
)
from deblurgs.train.density import cap_at, make_density
from deblurgs.train.holdout import BestState, HeldOutBlocks, Snapshot
from deblurgs.train.losses import photometric_terms
from deblurgs.train.model import AnyTrajectory, exposed_light, supersampled
from deblurgs.train.optimizer import FrameAdam, GaussianAdam, cooled, exponential, skip_unless
from deblurgs.train.outcome import LOOK_EVERY, LossRecord, all_finite
from deblurgs.train.relief import relieve
from deblurgs.train.sampler import FrameSampler
from deblurgs.train.start import device_generator, make_trajectory, shared_adam, times_adam
from deblurgs.train.trained import TrainedScene
from deblurgs.train.views import count_views, first_views

# Path lengths change slowly; counting virtual views anew this often costs nothing.
VIEWS_EVERY = 50
# Looking at a held-out view costs one forward pass.
PROBE_EVERY = 200
# Three non-finite losses restore the last snapshot, three restores end the run.
MAX_STRIKES = 3
# Paths begin as a spot. Until every frame was visited this often after its path was let go, what triage tells of its
# blur sets the number of its virtual views if that is larger; then the path has grown and is the better judge.
VISITS_BEFORE_PATHS_COUNT = 5


Report = Callable[[dict[str, float]], None]
Probe = Callable[[Gaussians, AnyTrajectory], float]
Keep = Callable[["Trainer", bool], None]
"""Called between two steps; `True` asks for a checkpoint at once, `False` only if it is time for one."""
Observe = Callable[["Trainer"], None]


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
            self.data.depths.to(host), self.config, time.perf_counter() - start,
            None if self.data.landmarks is None else self.data.landmarks.to(host), self.device,
        )  # fmt: skip

    def _train_level(
        self, level: Pyramid, last: int, stage: int, start: float, tick: Callable[[int, str, float], None]
    ) -> None:
        finest = stage == len(self.config.scales) - 1
        self.supersample = self.config.train_scale if finest else 1
        scales = self.config.scales
        self.density.cap = cap_at(scales[stage] / scales[-1], self.config.density.max_gaussians)
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
                share = self.config.work_done(self.step)
                tick(self.step, f"loss {mean:.4f}  {count} Gaussians{known}", share)
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
        light = exposed_light(
            self.gaussians, self.trajectory, frame, level.cameras[frame], self.data.depths[frame], views[frame],
            antialiased=self.config.antialiased, sh_degree=self._sh_degree(self.step / self.config.total_steps),
            supersample=self.supersample,
        )  # fmt: skip
        return self.photometry.developed(self.photometry.exposed(light, frame))

    def _one_step(self, level: Pyramid, frame: int, num_views: int, weight: Tensor | None) -> Tensor:
        """The loss as it is reported, a scalar; non-finite when nothing was changed."""
        c, progress = self.config, self.step / self.config.total_steps
        camera = level.cameras[frame]
        statistics: list[ScreenStatistics] | None = [] if self.density.needs_statistics else None
        light = exposed_light(
            self.gaussians, self.trajectory, frame, camera, self.data.depths[frame], num_views,
            shift=self._shift(num_views), antialiased=c.antialiased, statistics=statistics,
            sh_degree=self._sh_degree(progress), supersample=self.supersample,
        )  # fmt: skip
        loss, value = self._photometric_terms(light, level, frame, weight)
        if self.on_host and not math.isfinite(float(loss.detach())):
            return torch.full_like(value, math.nan)
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
        shares: Shares | None = None
        if self.density.wants_shares(self.step):
            # Before anything is changed: if memory runs out here the step can be made again.
            error = self._misfit(light.detach(), level, frame, weight)
            shares = frame_shares(
                self.gaussians, self.trajectory, frame, camera, error, num_views, antialiased=c.antialiased
            )
        means_lr = exponential(c.means_lr, c.means_lr_end, progress) * self.lr_factor
        self.optimizer.set_rates(means_lr, self.lr_factor * cooled(c.cool_from, c.cool_to, progress))
        self.optimizer.step(good)
        if self.step >= c.trajectory.start_step:
            self._step_cameras(frame, progress, good)
        self.forget_gradients()
        if shares is not None:
            self.density.add_shares(shares)
        self.density.after_step(self.step, statistics, supersampled(camera, self.supersample), means_lr)
        return value

    def _counted(self, light: Tensor, level: Pyramid, frame: int) -> Tensor:
        """What the photo's sensor counts of the light, linear: its gain, and no more than where it is full."""
        c = self.config
        limit = level.limits[frame] if c.photometry.saturation else None
        counted = self.photometry.exposed(light, frame) if c.photometry.gain else light
        return counted if limit is None else torch.minimum(counted, limit)

    @torch.no_grad()
    def _misfit(self, light: Tensor, level: Pyramid, frame: int, weight: Tensor | None) -> Tensor:
        """How far the predicted photo is off, [H,W]: mean over the channels in display values."""
        predicted = self.photometry.developed(self._counted(light, level, frame))
        error = (predicted - level.images[frame]).abs().mean(dim=-1)
        return error if weight is None else error * weight

    def _photometric_terms(
        self, light: Tensor, level: Pyramid, frame: int, weight: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """What the photo's camera makes of the light, compared with the photo: the loss, and what is reported of it."""
        c, counted = self.config, self._counted(light, level, frame)
        curve = self.photometry.has_curve
        edges = c.edge_weight if self.step >= c.edges_from * c.total_steps else 0.0
        return photometric_terms(
            self.photometry.developed(counted) if curve else counted, level.images[frame],
            ssim_weight=c.ssim_weight, edge_weight=edges, encode_srgb=not curve, mask=weight,
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
        # Of the whole run and of this scale, not of what is left of them.
        growth, cap = self.density.growth, self.density.cap
        self.density = make_density(
            self.config.density, self.gaussians, self.optimizer, self.config.total_steps, self.device_rng
        )
        self.density.growth, self.density.cap = growth, cap
        return True


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
