"""Density control under a hard cap: MCMC relocation and growth, or splitting by an annealed gradient threshold."""

import math
from typing import Protocol

import torch
from torch import Tensor

from deblurgs.config import DensityConfig
from deblurgs.math import quaternion
from deblurgs.raster.api import ScreenStatistics
from deblurgs.scene.camera import Camera
from deblurgs.scene.gaussians import PARAMETERS, Gaussians
from deblurgs.train.optimizer import GaussianAdam, exponential

MAX_COPIES = 51
FULL_AT = 0.4
"""Share of all steps at which `mcmc` has reached its cap at the latest, if `MOST_GROWTH` per round allows it."""
MOST_GROWTH = 1.0


class Density(Protocol):
    """Called once per step after the optimiser. `statistics` comes from the renderer when `needs_statistics`, one entry
    for each band of rows."""

    needs_statistics: bool

    def after_step(
        self, step: int, statistics: list[ScreenStatistics] | None, camera: Camera, means_lr: float
    ) -> None: ...


def make_density(
    config: DensityConfig,
    gaussians: Gaussians,
    optimizer: GaussianAdam,
    total_steps: int,
    rng: torch.Generator,
) -> Density:
    strategy = McmcDensity if config.strategy == "mcmc" else AnnealedDensity
    return strategy(config, gaussians, optimizer, total_steps, rng)


class McmcDensity:
    """Relocation and growth as state transitions that keep the rendered image (3DGS-MCMC, arXiv 2404.09591, eq. 9)."""

    needs_statistics = False

    def __init__(
        self, config: DensityConfig, gaussians: Gaussians, optimizer: GaussianAdam, total_steps: int,
        rng: torch.Generator,
    ) -> None:  # fmt: skip
        self.config, self.gaussians, self.optimizer, self.rng = config, gaussians, optimizer, rng
        self.last_step = int(config.until * total_steps)
        # Blurred captures start from few points. Where the usual growth would be too slow it is raised so that the cap
        # is reached in time for the detail to be learnt.
        rounds = max(1.0, FULL_AT * total_steps / config.every)
        needed = (config.max_gaussians / max(gaussians.num_gaussians, 1)) ** (1.0 / rounds) - 1.0
        self.growth = max(config.growth, min(needed, MOST_GROWTH)) if config.growth > 0 else 0.0

    @torch.no_grad()
    def after_step(
        self, step: int, statistics: list[ScreenStatistics] | None, camera: Camera, means_lr: float
    ) -> None:
        if step > self.last_step:
            return
        if self.config.noise > 0:
            self._explore(means_lr)
        if step % self.config.every == 0 and step > 0:
            self._relocate()
            self._grow()

    def _explore(self, means_lr: float) -> None:
        """Noise shaped like each Gaussian, felt by nearly transparent ones only (eq. 8)."""
        g = self.gaussians
        gate = torch.sigmoid(-100.0 * (g.opacities - 0.005))
        local = torch.randn(g.means.shape, generator=self.rng, device=g.means.device) * g.scales
        world = torch.einsum("nij,nj->ni", quaternion.to_matrix(quaternion.normalize(g.quats)), local)
        g.means.add_(world * (gate * self.config.noise * means_lr * 100.0)[:, None])

    def _relocate(self) -> None:
        g = self.gaussians
        alive = g.opacities > self.config.min_opacity
        alive &= finite_rows(g)
        dead_idx, alive_idx = (~alive).nonzero()[:, 0], alive.nonzero()[:, 0]
        if len(dead_idx) == 0 or len(alive_idx) == 0:
            return
        source = alive_idx[self._sample(g.opacities[alive_idx], len(dead_idx))]
        self._share(source)
        for name in PARAMETERS:
            parameter = getattr(g, name)
            parameter[dead_idx] = parameter[source]
        touched = torch.cat([dead_idx, source])
        self.optimizer.reset_rows(touched)

    def _grow(self) -> None:
        g = self.gaussians
        count = g.num_gaussians
        target = min(self.config.max_gaussians, max(count + 1, int(count * (1.0 + self.growth))))
        num_new = target - count
        if num_new <= 0:
            return
        source = self._sample(g.opacities, num_new)
        self._share(source)
        rows = {name: getattr(g, name).detach()[source].clone() for name in PARAMETERS}
        self.optimizer.reset_rows(source)
        self.optimizer.replace_rows(torch.arange(count, device=source.device), rows, num_new)

    def _sample(self, weights: Tensor, num: int) -> Tensor:
        return torch.multinomial(weights.clamp_min(1e-8), num, replacement=True, generator=self.rng)

    def _share(self, source: Tensor) -> None:
        """Let a Gaussian and its n-1 coming copies render together what it rendered alone: opacity and scale shrink."""
        g = self.gaussians
        counts = torch.bincount(source, minlength=g.num_gaussians) + 1
        touched = (counts > 1).nonzero()[:, 0]
        n = counts[touched].clamp_max(MAX_COPIES)
        opacity = g.opacities[touched].clamp(self.config.min_opacity, 1 - 1e-4)
        shared, factor = shared_opacity_and_scale(opacity, n)
        g.logit_opacities[touched] = shared.clamp(self.config.min_opacity, 1 - 1e-4).logit()
        g.log_scales[touched] += factor.log()[:, None]


def finite_rows(gaussians: Gaussians) -> Tensor:
    """bool [N]: every number of every parameter of a Gaussian is finite."""
    rows = torch.ones(gaussians.num_gaussians, dtype=torch.bool, device=gaussians.means.device)
    for name in PARAMETERS:
        finite = torch.isfinite(getattr(gaussians, name).detach())
        rows &= finite if finite.ndim == 1 else finite.all(dim=tuple(range(1, finite.ndim)))
    return rows


def shared_opacity_and_scale(opacity: Tensor, copies: Tensor) -> tuple[Tensor, Tensor]:
    """Opacity of each of n coincident copies and the factor on their scales (3DGS-MCMC eq. 9): o_new, C [M].

    o_new = 1 - (1-o)^(1/n);  C = o / sum_{i=1..n} sum_{k=0..i-1} binom(i-1,k) (-1)^k o_new^(k+1) / sqrt(k+1).
    """
    new = 1.0 - (1.0 - opacity) ** (1.0 / copies)
    largest = int(copies.max())
    # sum over i of binom(i-1,k) for i = 1..n is binom(n, k+1) (hockey stick), which leaves a single sum over k.
    k = torch.arange(largest, dtype=torch.float64)
    table = torch.zeros(largest + 1, largest, dtype=torch.float64)
    for n in range(1, largest + 1):
        for j in range(n):
            table[n, j] = math.comb(n, j + 1) * (-1) ** j / math.sqrt(j + 1)
    powers = new.double()[:, None] ** (k + 1).to(new.device)
    denominator = (table.to(new.device)[copies] * powers).sum(dim=1)
    return new, (opacity.double() / denominator).clamp(0.05, 1.0).to(opacity.dtype)


class AnnealedDensity:
    """Clone small and split large Gaussians whose screen gradient exceeds a threshold that falls over time.

    DeblurGS (arXiv 2404.11358, section 3.4): while trajectories are wrong, fine Gaussians would explain the blur, so
    the threshold starts high and the scene stays coarse until the poses settle. The cap takes the strongest first.
    """

    needs_statistics = True

    def __init__(
        self, config: DensityConfig, gaussians: Gaussians, optimizer: GaussianAdam, total_steps: int,
        rng: torch.Generator,
    ) -> None:  # fmt: skip
        self.config, self.gaussians, self.optimizer, self.rng = config, gaussians, optimizer, rng
        self.last_step = int(config.until * total_steps)
        self._reset()

    def _reset(self) -> None:
        self.sum = self.gaussians.means.new_zeros(self.gaussians.num_gaussians)
        self.seen = torch.zeros_like(self.sum)

    @torch.no_grad()
    def after_step(
        self, step: int, statistics: list[ScreenStatistics] | None, camera: Camera, means_lr: float
    ) -> None:
        if step > self.last_step:
            return
        seen = torch.zeros_like(self.seen, dtype=torch.bool)
        for band in statistics or []:
            if band.gradient_px is not None and band.visible is not None:
                # Half the image side as unit: the threshold then does not depend on the training resolution.
                self.sum += band.gradient_px * (0.5 * max(camera.width, camera.height))
                seen |= band.visible
        self.seen += seen.float()
        if step % self.config.every == 0 and step > 0:
            self._densify(step / max(self.last_step, 1))
            self._reset()

    def _densify(self, progress: float) -> None:
        g, c = self.gaussians, self.config
        threshold = exponential(c.threshold_start, c.threshold_end, progress)
        keep = (g.opacities > c.min_opacity) & finite_rows(g)
        if not keep.any():
            return  # nothing would be left to train; a later round sees more
        mean = self.sum / self.seen.clamp_min(1.0)
        mean[~keep] = 0.0
        room = c.max_gaussians - int(keep.sum())
        chosen = (mean > threshold).nonzero()[:, 0]
        if len(chosen) > room:
            chosen = chosen[mean[chosen].argsort(descending=True)[: max(room, 0)]]
        rows = {name: getattr(g, name).detach()[chosen].clone() for name in PARAMETERS}
        largest = g.scales[chosen].amax(dim=1)
        split = largest > g.scales.amax(dim=1).median()
        # A split pair straddles the old centre along a random draw of its own shape; a clone starts in place.
        offset = torch.randn(len(chosen), 3, generator=self.rng, device=chosen.device) * g.scales[chosen]
        offset = (
            torch.einsum("nij,nj->ni", quaternion.to_matrix(quaternion.normalize(g.quats[chosen])), offset)
            * split[:, None]
        )
        rows["means"] += offset
        rows["log_scales"] -= math.log(1.6) * split[:, None]
        g.means[chosen] -= offset
        g.log_scales[chosen] -= math.log(1.6) * split[:, None]
        self.optimizer.reset_rows(chosen)
        self.optimizer.replace_rows(keep.nonzero()[:, 0], rows, len(chosen))
