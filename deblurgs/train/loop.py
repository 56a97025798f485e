"""Joint optimisation of Gaussians and exposure trajectories (DeblurGS, arXiv 2404.11358, eq. 5-8, in linear light)."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from deblurgs.config import TrainConfig
from deblurgs.errors import DivergedError
from deblurgs.log import Log
from deblurgs.raster.api import Rendered, ScreenStatistics, render_exposure
from deblurgs.scene.camera import Camera
from deblurgs.scene.gaussians import Gaussians
from deblurgs.scene.shutter import sample_exposure
from deblurgs.scene.trajectory import Trajectory, path_length_px
from deblurgs.scene.transform import Similarity, align_poses
from deblurgs.train.data import Pyramid, TrainingSet, pyramid_level, scaled, training_camera
from deblurgs.train.density import make_density
from deblurgs.train.losses import photometric_loss
from deblurgs.train.optimizer import FrameAdam, GaussianAdam, exponential

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
    trajectory: Trajectory
    training_cameras: list[Camera]
    depths: Tensor
    config: TrainConfig
    seconds: float

    def num_views(self, cameras: list[Camera]) -> list[int]:
        return count_views(self.trajectory, cameras, self.depths, self.config)

    def frame_drift(self) -> Similarity:
        """trained_from_sfm: how joint optimisation moved the scene as a whole."""
        return frame_drift(self.trajectory)


Report = Callable[[dict[str, float]], None]
Probe = Callable[[Gaussians, Trajectory], float]


@torch.no_grad()
def frame_drift(trajectory: Trajectory) -> Similarity:
    """trained_from_sfm, the similarity between the SfM poses and the mid-exposure poses of all frames."""
    sfm = trajectory.camera_from_world_sfm.double().numpy()
    return align_poses(sfm, trajectory.all_at(0.5).double().numpy())


def exposure_image(
    gaussians: Gaussians,
    viewmats: Tensor,
    weights: Tensor,
    camera: Camera,
    *,
    sh_degree: int | None = None,
    antialiased: bool = False,
    statistics: ScreenStatistics | None = None,
) -> Rendered:
    """The linear-light mean over the virtual views viewmats [V,4,4]."""
    g = gaussians
    return render_exposure(
        g.means, g.quats, g.scales, g.opacities, g.sh0, g.shN, viewmats, weights, camera,
        sh_degree=sh_degree, antialiased=antialiased, statistics=statistics,
    )  # fmt: skip


@torch.no_grad()
def count_views(
    trajectory: Trajectory, cameras: list[Camera], depths: Tensor, config: TrainConfig
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
    ) -> None:
        self.data, self.config, self.log, self.report, self.probe = data, config, log, report, probe
        self.held_out_psnr: float | None = None
        self.rng = torch.Generator().manual_seed(config.seed)
        # A given model may bring more points than the cap allows Gaussians.
        chosen = (
            torch.randperm(len(data.points), generator=self.rng)[: config.density.max_gaussians].sort().values
        )
        self.gaussians = Gaussians.from_points(data.points[chosen], data.colors[chosen], config.sh_degree)
        t = config.trajectory
        self.trajectory = Trajectory(
            data.camera_from_world, t.kind, t.num_knots, start_spread=t.start_spread, generator=self.rng
        )
        self.optimizer = GaussianAdam(self.gaussians, config)
        self.knot_optimizer = FrameAdam(self.trajectory.knots)
        self.density = make_density(
            config.density, self.gaussians, self.optimizer, config.total_steps, self.rng
        )
        self.training_cameras = [training_camera(c, config) for c in data.cameras]
        self.step = 0
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
        images = pyramid_level(self.data.images, self.training_cameras).images
        with self.log.progress("train", self.config.total_steps) as ticker:
            for stage, (factor, steps) in enumerate(zip(self.config.scales, self.config.steps, strict=True)):
                level = pyramid_level(images, [scaled(c, factor) for c in self.training_cameras])
                self._train_level(level, steps, stage, start, ticker.update)
        return TrainedScene(
            self.gaussians, self.trajectory, self.training_cameras, self.data.depths, self.config,
            time.perf_counter() - start,
        )  # fmt: skip

    def _train_level(
        self, level: Pyramid, steps: int, stage: int, start: float, tick: Callable[[int, str], None]
    ) -> None:
        last = self.step + steps
        order: list[int] = []
        losses: list[float] = []
        views = count_views(self.trajectory, level.cameras, self.data.depths, self.config)
        snapshot = self._snapshot()
        while self.step < last:
            if not order:
                order = torch.randperm(self.data.num_frames, generator=self.rng).tolist()
            if self.step % VIEWS_EVERY == 0:
                views = count_views(self.trajectory, level.cameras, self.data.depths, self.config)
            if self.step % 500 == 0:
                snapshot = self._snapshot()
            frame = order.pop()
            loss = self._one_step(level, frame, views[frame])
            if math.isfinite(loss):
                losses.append(loss)
            else:
                self._strike(snapshot)
            self.step += 1
            if self.step % 50 == 0:
                mean = sum(losses[-self.data.num_frames :]) / max(len(losses[-self.data.num_frames :]), 1)
                count = self.gaussians.num_gaussians
                if self.probe and self.step % PROBE_EVERY == 0:
                    self.held_out_psnr = self.probe(self.gaussians, self.trajectory)
                known = "" if self.held_out_psnr is None else f"  held out {self.held_out_psnr:.2f} dB"
                tick(self.step, f"loss {mean:.4f}  {count} Gaussians{known}")
                if self.report:
                    self.report({
                        "step": self.step, "stage": stage, "loss": round(mean, 6), "num_gaussians": count,
                        "mean_views": sum(views) / len(views), "seconds": round(time.perf_counter() - start, 2),
                    })  # fmt: skip

    def _one_step(self, level: Pyramid, frame: int, num_views: int) -> float:
        c, progress = self.config, self.step / self.config.total_steps
        u, weights = sample_exposure(num_views)
        viewmats = self.trajectory(torch.tensor([frame]), u)[0]
        camera = level.cameras[frame]
        statistics = ScreenStatistics() if self.density.needs_statistics else None
        rendered = exposure_image(
            self.gaussians, viewmats, weights, camera, antialiased=c.antialiased, statistics=statistics,
            sh_degree=self._sh_degree(progress),
        )  # fmt: skip
        loss = photometric_loss(rendered.image, level.images[frame], ssim_weight=c.ssim_weight)
        value = float(loss.detach())
        if not math.isfinite(value):
            return value
        total = (
            loss
            + c.opacity_reg * self.gaussians.opacities.mean()
            + c.scale_reg * self.gaussians.scales.mean()
        )
        if c.trajectory.smoothness > 0 and self.trajectory.num_knots > 2:
            knots = self.trajectory.knots[frame] * camera.fx  # pixels of the present scale
            bend = knots[2:] - 2 * knots[1:-1] + knots[:-2]
            total = total + c.trajectory.smoothness * bend.square().sum()
        total.backward()
        if not self._finite_gradients():
            self.optimizer.zero_grad()
            self.knot_optimizer.zero_grad()
            return math.nan
        means_lr = exponential(c.means_lr, c.means_lr_end, progress) * self.lr_factor
        self.optimizer.set_means_lr(means_lr)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.step >= c.trajectory.start_step:
            lr = exponential(c.trajectory.lr, c.trajectory.lr_end, progress) * self.lr_factor
            self.knot_optimizer.step(frame, lr)
            if progress < c.trajectory.straight_until:
                self.trajectory.straighten(frame)
        self.knot_optimizer.zero_grad()
        self.density.after_step(self.step, statistics, camera, means_lr)
        return value

    def _finite_gradients(self) -> bool:
        """Cheap: one sum per tensor is non-finite if any of its numbers is."""
        parameters = (*self.gaussians.parameters(), self.trajectory.knots)
        return all(math.isfinite(float(p.grad.sum())) for p in parameters if p.grad is not None)

    def _sh_degree(self, progress: float) -> int:
        """One degree more at each fifth of the run: colour first, gloss later."""
        return min(self.config.sh_degree, int(progress * 5))

    def _snapshot(self) -> tuple[dict[str, Tensor], Tensor]:
        return self.gaussians.tensors(), self.trajectory.knots.detach().clone()

    def _strike(self, snapshot: tuple[dict[str, Tensor], Tensor]) -> None:
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
        tensors, knots = snapshot
        self.gaussians = Gaussians(**tensors)
        with torch.no_grad():
            self.trajectory.knots.copy_(knots)
        self.lr_factor *= 0.5
        self.optimizer = GaussianAdam(self.gaussians, self.config)
        self.optimizer.scale_lr(self.lr_factor)
        self.knot_optimizer = FrameAdam(self.trajectory.knots)
        self.density = make_density(
            self.config.density, self.gaussians, self.optimizer, self.config.total_steps, self.rng
        )


def train(
    data: TrainingSet, config: TrainConfig, log: Log, report: Report | None = None, probe: Probe | None = None
) -> TrainedScene:
    """Optimise the scene; see `Trainer`. Raises DivergedError when numbers stay non-finite.

    report receives a line for metrics.jsonl every 50 steps. probe is shown the scene now and then and answers with the
    PSNR of a held-out view, which is displayed and never acted upon.
    """
    return Trainer(data, config, log, report, probe).train()
