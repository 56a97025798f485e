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
from deblurgs.train.attribution import Shares
from deblurgs.train.optimizer import GaussianAdam, exponential

MAX_COPIES = 51
FULL_AT = 0.4
"""Share of all steps by which the number of Gaussians may reach the cap, if `MOST_GROWTH` per round allows it."""
MOST_GROWTH = 1.0
SPLIT_AT = 0.8
"""The two parts of a split Gaussian lie this many of its standard deviations off its centre."""


STATISTICS = ("gradients", "seen", "errors", "areas", "measured")
"""What `AnnealedDensity` gathers between two rounds, one number per Gaussian each."""
MEASURE_EVERY = 3
"""Steps from one look at what the Gaussians show to the next; a look costs less than half a step."""
SUPERFLUOUS = 0.2
"""A Gaussian may be moved if the area that it fills in all photos is below this share of a typical one's. With a larger
share a scene that is nearly right suffers from the moves."""
FULL = 0.98
"""Share of the cap from which on there is no room to grow, and Gaussians are moved instead."""


class Density(Protocol):
    """Called once per step after the optimiser. `statistics` comes from the renderer when `needs_statistics`, one entry
    for each band of rows."""

    needs_statistics: bool
    growth: float
    cap: int
    """Cap on the number of Gaussians at the present scale; whoever trains sets it when the scale changes."""

    def wants_shares(self, step: int) -> bool:
        """Whether `add_shares` should be called for this step, before `after_step`."""
        ...

    def add_shares(self, shares: Shares) -> None: ...

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


def growth_per_round(config: DensityConfig, num_gaussians: int, total_steps: int) -> float:
    """By how much the number of Gaussians may grow in one round, relative to what there is.

    Blurred captures start from few points. Where the usual growth would be too slow it is raised so that the cap is
    reached in time for the detail to be learnt; faster growth would let the first, wrong paths place all of them.
    """
    rounds = max(1.0, FULL_AT * total_steps / config.every)
    needed = (config.max_gaussians / max(num_gaussians, 1)) ** (1.0 / rounds) - 1.0
    return max(config.growth, min(needed, MOST_GROWTH)) if config.growth > 0 else 0.0


def cap_at(scale: float, max_gaussians: int) -> int:
    """The most Gaussians at an image scale, relative to the finest: a small image cannot tell more of them apart.

    The time of a coarse step goes mostly into projecting Gaussians, so there can be more such steps.
    """
    return math.ceil(scale * max_gaussians)


def next_count(count: int, growth: float, most: int) -> int:
    """How many Gaussians a round of growth may leave: at most `most`, at least one more unless growth is 0."""
    return min(most, max(count + 1, int(count * (1.0 + growth)))) if growth > 0 else count


class McmcDensity:
    """Relocation and growth as state transitions that keep the rendered image (3DGS-MCMC, arXiv 2404.09591, eq. 9)."""

    needs_statistics = False

    def __init__(
        self, config: DensityConfig, gaussians: Gaussians, optimizer: GaussianAdam, total_steps: int,
        rng: torch.Generator,
    ) -> None:  # fmt: skip
        self.config, self.gaussians, self.optimizer, self.rng = config, gaussians, optimizer, rng
        self.cap = config.max_gaussians
        self.last_step = int(config.until * total_steps)
        self.growth = growth_per_round(config, gaussians.num_gaussians, total_steps)

    def wants_shares(self, step: int) -> bool:
        return False

    def add_shares(self, shares: Shares) -> None:
        pass

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
        num_new = next_count(count, self.growth, self.cap) - count
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
    """Split Gaussians on which misfit falls and whose screen gradient exceeds a threshold that falls over time.

    DeblurGS (arXiv 2404.11358, section 3.4): while trajectories are wrong, fine Gaussians would explain the blur, so
    the threshold starts high and the scene stays coarse until the poses settle. Where most gradients exceed it, growth
    per round and the cap take first those with the largest product of gradient and misfit: under a Gaussian that is
    too large for what it shows pulls in different directions cancel, while misfits add up. At the cap, each round makes
    room by leaving out those that fill next to no area of all photos.
    """

    needs_statistics = True

    def __init__(
        self, config: DensityConfig, gaussians: Gaussians, optimizer: GaussianAdam, total_steps: int,
        rng: torch.Generator,
    ) -> None:  # fmt: skip
        self.config, self.gaussians, self.optimizer = config, gaussians, optimizer
        self.cap = config.max_gaussians
        self.last_step = int(config.until * total_steps)
        self.growth = growth_per_round(config, gaussians.num_gaussians, total_steps)
        self._reset()

    def _reset(self) -> None:
        none = self.gaussians.means.new_zeros(self.gaussians.num_gaussians)
        self.gradients, self.seen, self.errors, self.areas, self.measured = (none.clone() for _ in STATISTICS)

    def wants_shares(self, step: int) -> bool:
        return step <= self.last_step and step % MEASURE_EVERY == 0

    @torch.no_grad()
    def add_shares(self, shares: Shares) -> None:
        # A GPU is not waited for: a frame whose light was not finite has been drawn all the same, and says nothing.
        self.errors += shares.error.nan_to_num(0.0, 0.0, 0.0)
        self.areas += shares.area
        self.measured += (shares.area > 0).float()

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
                self.gradients += band.gradient_px * (0.5 * max(camera.width, camera.height))
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
        mean = self.gradients / self.seen.clamp_min(1.0)
        if c.relocate > 0 and self.growth > 0 and int(keep.sum()) >= FULL * self.cap:
            wanted = int((keep & (mean > threshold)).sum())
            keep &= ~self._least_shown(keep, min(int(c.relocate * self.cap), wanted))
        mean[~keep] = 0.0
        count = int(keep.sum())
        room = next_count(count, self.growth, self.cap) - count
        chosen = (mean > threshold).nonzero()[:, 0]
        if len(chosen) > room:
            # Rounds that are closer than looks at the misfit go by the gradient alone.
            urgency = mean * self.errors / self.measured.clamp_min(1.0) if self.measured.any() else mean
            chosen = chosen[urgency[chosen].argsort(descending=True)[: max(room, 0)]]
        offset = split_longest(g, chosen)
        rows = {name: getattr(g, name).detach()[chosen].clone() for name in PARAMETERS}
        rows["means"] += offset
        g.means[chosen] -= offset
        self.optimizer.reset_rows(chosen)
        self.optimizer.replace_rows(keep.nonzero()[:, 0], rows, len(chosen))

    def _least_shown(self, keep: Tensor, most: int) -> Tensor:
        """bool [N]: at most `most` of those in `keep` that fill the least area of all photos, if it is little enough.

        One of which nothing is known stays.
        """
        areas = torch.where(keep & (self.measured > 0), self.areas, math.inf)
        typical = areas[areas < math.inf]
        least = torch.zeros_like(keep)
        if len(typical) > 0:
            order = areas.argsort()[:most]
            least[order] = areas[order] < SUPERFLUOUS * typical.median()
        return least


@torch.no_grad()
def split_longest(gaussians: Gaussians, chosen: Tensor) -> Tensor:
    """Shrink the longest axis of Gaussians `chosen` [M] in place; -> the offset [M,3] of one part, the other's is its
    opposite.

    Two equal parts at +-d standard deviations have together the centre and covariance of the whole if each keeps
    sqrt(1 - d^2) of its length. Opacity is kept, so their weight is 2 sqrt(1 - d^2) = 1.2 times the old one. A random
    offset and three shorter axes, as in 3DGS, tear holes into a scene that starts with few points; fainter parts were
    no better.
    """
    longest = gaussians.log_scales[chosen].argmax(dim=1, keepdim=True)
    axes = quaternion.to_matrix(quaternion.normalize(gaussians.quats[chosen]))
    direction = axes.gather(2, longest[:, :, None].expand(-1, 3, 1))[..., 0]
    offset = SPLIT_AT * gaussians.scales[chosen].gather(1, longest) * direction
    shrink = torch.zeros_like(offset).scatter(1, longest, 0.5 * math.log(1.0 - SPLIT_AT**2))
    gaussians.log_scales[chosen] += shrink
    return offset
