"""CausalSR: enlargement of one picture by a network that is told, or estimates, how the picture was degraded.

After the formulation of "CausalSR: Structural Causal Model-Driven Super-Resolution with Counterfactual Inference"
(arXiv 2501.15852); its published code cannot run and holds no weights, so the network is a design of its own:

- `FactorEncoder`: the posterior q(z | Y), Gaussian, over the factors of `degradation.FACTORS`;
- `Intervention`: z + strength * mask * direction, bounded and sparse by construction, the learnt correction of the
  estimate; strength 0 is the identity;
- `EnlargingNet`: filters fitted in closed form per degradation and kind of neighbourhood, added to the bicubic
  enlargement, and beside them residual blocks at the size of the small picture, modulated by z (FiLM: Perez et al.
  2018).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblurgs.restore.degradation import FACTORS, enlarge

SCALES = (2, 3, 4)
MAX_INTERVENTION = 0.25
"""No coordinate of z moves further than this by the learnt intervention."""
_GRID = 8  # JPEG's block size


@dataclass(frozen=True)
class Posterior:
    """q(z | Y): `mean` and `log_variance`, each [B,3]; the mean lies in [0,1]."""

    mean: Tensor
    log_variance: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """Reparameterised: mean + std * noise [B,3], kept inside [0,1]."""
        return (self.mean + noise * torch.exp(0.5 * self.log_variance)).clamp(0, 1)


class FactorEncoder(nn.Module):
    """Small sRGB picture [B,3,H,W], its 8x8 JPEG grid starting at the top left, H and W >= 32 -> `Posterior`.

    Degradations show in the statistics of filter responses, not in their places: the responses of a 4x4 cosine basis
    at three resolutions are pooled to log energies (of all, and of the calmest tenth of the picture, where noise is
    alone), and differences between neighbours by their place in the 8x8 grid, where JPEG leaves steps. Only the
    perceptron behind these statistics is learnt, which takes seconds.
    """

    bank: Tensor
    centre: Tensor
    spread: Tensor

    def __init__(self, hidden: int = 64) -> None:
        super().__init__()
        self.register_buffer("bank", _cosine_bank(), persistent=False)
        features = 3 * 2 * _NUM_FILTERS + 2 * 3 + 2 * (_GRID + 2)
        self.register_buffer("centre", torch.zeros(features))
        self.register_buffer("spread", torch.ones(features))
        self.head = nn.Sequential(
            nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, 2 * len(FACTORS)),
        )  # fmt: skip

    def statistics(self, observed: Tensor) -> Tensor:
        """The numbers that the perceptron sees, [B,features]."""
        grey = observed.mean(1, keepdim=True)
        parts: list[Tensor] = []
        level = grey
        for _ in range(3):
            parts += _log_energies(F.conv2d(level, self.bank))
            level = F.avg_pool2d(level, 2)
        colour = (observed - grey).diff(dim=3)  # noise is coloured, structure is mostly not
        parts += _log_energies(colour)
        return torch.cat([*parts, *_grid_steps(observed)], 1)

    def read(self, statistics: Tensor) -> Posterior:
        """[B,features] -> the posterior."""
        raw = self.head((statistics - self.centre) / self.spread)
        mean, log_variance = raw.chunk(2, 1)
        return Posterior(torch.sigmoid(mean), log_variance.clamp(-8.0, 0.0))

    def forward(self, observed: Tensor) -> Posterior:
        return self.read(self.statistics(observed))


_NUM_FILTERS = 15


def _cosine_bank() -> Tensor:
    """The 15 alternating filters of the 4x4 cosine transform, [15,1,4,4]."""
    place = torch.arange(4) + 0.5
    waves = torch.cos(torch.pi / 4 * torch.arange(4)[:, None] * place) * 0.5**0.5
    waves[0] = 0.5
    return torch.einsum("iy,jx->ijyx", waves, waves).reshape(16, 1, 4, 4)[1:]


def _log_energies(response: Tensor) -> tuple[Tensor, Tensor]:
    """Mean log energy [B,C] of the whole picture and of its calmest tenth (patches of 4x4)."""
    local = F.avg_pool2d(response.square(), 4, ceil_mode=True).flatten(2)
    calm = local.sort(-1).values[..., : max(1, local.shape[-1] // 10)]
    return torch.log(local.mean(-1) + 1e-7), torch.log(calm.mean(-1) + 1e-7)


def _grid_steps(observed: Tensor) -> tuple[Tensor, ...]:
    """Log mean step between neighbours at each place of the 8-pixel grid [B,8] per axis, and overall [B,2] each."""
    grey = observed.mean(1)
    out = []
    for axis in (1, 2):
        step = grey.diff(dim=axis).abs().mean(3 - axis)  # [B,n]
        second = grey.diff(n=2, dim=axis).abs().mean((1, 2))
        usable = step.shape[1] // _GRID * _GRID
        by_place = torch.log(step[:, :usable].reshape(len(step), -1, _GRID).mean(1) + 1e-4)
        overall = by_place.mean(1, keepdim=True)
        out += [by_place - overall, torch.cat([overall, torch.log(second + 1e-4)[:, None]], 1)]
    return tuple(out)


class Intervention(nn.Module):
    """The adaptive intervention: z + strength * mask * direction with |change| <= MAX_INTERVENTION per coordinate."""

    def __init__(self, hidden: int = 24) -> None:
        super().__init__()
        size = len(FACTORS)
        self.body = nn.Sequential(nn.Linear(2 * size, hidden), nn.ReLU(), nn.Linear(hidden, 2 * size))

    def forward(self, posterior: Posterior, strength: float = 1.0) -> tuple[Tensor, Tensor]:
        """-> (changed z [B,3] in [0,1], mask [B,3] in [0,1]). Strength lies in [0,1]; 0 returns the mean as it is."""
        raw = self.body(torch.cat([posterior.mean, posterior.log_variance], 1))
        direction, gate = raw.chunk(2, 1)
        mask = torch.sigmoid(gate - 2.0)  # closed unless there is a reason
        change = MAX_INTERVENTION * strength * mask * torch.tanh(direction)
        return (posterior.mean + change).clamp(0, 1), mask


class _Block(nn.Module):
    """x + conv(ReLU(FiLM(conv(x), z)))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.film = nn.Linear(_CONTEXT, 2 * width)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        gain, shift = self.film(context)[:, :, None, None].chunk(2, 1)
        return x + self.second(F.relu(self.first(x) * (1.0 + gain) + shift))


_CONTEXT = 24
LINEAR_PX = 7
NODES = ((0.0, 0.5, 1.0), (0.0, 0.25, 1.0), (0.0, 0.6))
"""Values of blur, noise and jpeg at which filters are fitted; between them filters are interpolated."""
NUM_CLASSES = 9
"""Kinds of neighbourhood with filters of their own: flat, and weak and strong edges in four directions each."""
_FLAT, _NOISY, _STRONG = 0.008, 0.03, 3.0


def node_weights(factors: Tensor) -> Tensor:
    """Multilinear weights of the nodes for z [B,3]: [B,18], sum 1; the last axis of `NODES` runs fastest."""
    weights = torch.ones(len(factors), 1)
    for value, nodes in zip(factors.unbind(1), NODES, strict=True):
        axis = torch.tensor(nodes)
        at = value.clamp(0.0, nodes[-1])[:, None]
        left = (torch.searchsorted(axis, at, right=True) - 1).clamp(0, len(nodes) - 2)
        share = (at - axis[left]) / (axis[left + 1] - axis[left])
        hat = torch.zeros(len(factors), len(nodes)).scatter(1, left, 1 - share).scatter(1, left + 1, share)
        weights = (weights[:, :, None] * hat[:, None]).flatten(1)
    return weights


def neighbourhood_classes(observed: Tensor, noise: Tensor) -> Tensor:
    """Which filters each pixel of [B,3,h,w] gets, int [B,h,w]; noise [B] is the factor as the network is told it.

    By the structure tensor over 5x5 pixels, as in RAISR (Romano, Isidoro, Milanfar 2017): its energy against a limit
    that grows with the noise, and the direction of its larger axis.
    """
    grey = F.pad(observed.mean(1, keepdim=True), (3, 3, 3, 3), mode="replicate")
    dx = 0.5 * (grey[..., 1:-1, 2:] - grey[..., 1:-1, :-2])
    dy = 0.5 * (grey[..., 2:, 1:-1] - grey[..., :-2, 1:-1])
    xx, yy, xy = (F.avg_pool2d(p, 5, 1)[:, 0] for p in (dx * dx, dy * dy, dx * dy))
    strength = (xx + yy).sqrt()
    limit = (_FLAT + _NOISY * noise)[:, None, None]
    angle = 0.5 * torch.atan2(2 * xy, xx - yy)  # of the gradient, in (-pi/2, pi/2]
    direction = torch.round(angle / (torch.pi / 4)).long() % 4
    edge = 1 + direction + 4 * (strength > _STRONG * limit).long()
    return torch.where(strength < limit, 0, edge)


class LinearRestorer(nn.Module):
    """The best linear answer to a degradation and a kind of neighbourhood: 7x7 filters of each colour, per scale.

    They are found in closed form (ridge regression of what bicubic lacks, at each node of z), as a Wiener filter is, so
    the network beside them only learns what they cannot do.
    """

    def __init__(self) -> None:
        super().__init__()
        count, side = len(NODES[0]) * len(NODES[1]) * len(NODES[2]), LINEAR_PX * LINEAR_PX
        self.filters = nn.ParameterDict(
            {str(s): nn.Parameter(torch.zeros(count, NUM_CLASSES, s * s, side)) for s in SCALES}
        )

    def forward(self, observed: Tensor, factors: Tensor, scale: int) -> Tensor:
        """[B,3,h,w], z [B,3] -> what to add to the bicubic enlargement, [B,3,s*h,s*w]."""
        batch, channels, height, width = observed.shape
        mixed = torch.einsum("bk,kcop->bcop", node_weights(factors), self.filters[str(scale)])
        classes = neighbourhood_classes(observed, factors[:, 1])
        padded = F.pad(observed, (LINEAR_PX // 2,) * 4, mode="replicate")
        planes = padded.reshape(1, batch * channels, *padded.shape[-2:])
        total = torch.zeros(batch, channels * scale * scale, height, width)
        for c in range(NUM_CLASSES):
            kernel = mixed[:, c].reshape(batch, 1, scale * scale, 1, LINEAR_PX, LINEAR_PX)
            kernel = kernel.expand(-1, channels, -1, -1, -1, -1).flatten(0, 2)
            answer = F.conv2d(planes, kernel, groups=batch * channels).reshape(total.shape)
            total = total + answer * (classes == c)[:, None]
        return F.pixel_shuffle(total, scale)


class EnlargingNet(nn.Module):
    """Small sRGB picture [B,3,h,w] and z [B,3] -> [B,3,s*h,s*w], not clamped. An untrained net is bicubic."""

    def __init__(self, width: int = 24, num_blocks: int = 0) -> None:
        super().__init__()
        self.linear = LinearRestorer()
        self.context = nn.Sequential(nn.Linear(len(FACTORS), _CONTEXT), nn.ReLU())
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList(_Block(width) for _ in range(num_blocks))
        self.tails = nn.ModuleDict({str(s): nn.Conv2d(width, 3 * s * s, 3, padding=1) for s in SCALES})
        for tail in self.tails.values():
            nn.init.zeros_(tail.weight)  # pyright: ignore[reportArgumentType]
            nn.init.zeros_(tail.bias)  # pyright: ignore[reportArgumentType]

    @property
    def reach_px(self) -> int:
        """How far, in pixels of the small picture, an output pixel looks: the overlap that tiles need."""
        return max(2 + 2 * len(self.blocks), LINEAR_PX // 2 + 1) + 1

    def filtered(self, observed: Tensor, factors: Tensor, scale: int) -> Tensor:
        """Bicubic enlargement and the fitted filters, without the blocks: [B,3,s*h,s*w]."""
        return enlarge(observed, scale) + self.linear(observed, factors, scale)

    def detail(self, observed: Tensor, factors: Tensor, scale: int) -> Tensor:
        """What the blocks add to that, [B,3,s*h,s*w]; zero without blocks."""
        if len(self.blocks) == 0:
            return observed.new_zeros(()).expand(
                *observed.shape[:2], *(scale * n for n in observed.shape[2:])
            )
        context = self.context(factors)
        x = self.stem(observed)
        for block in self.blocks:
            x = block(x, context)
        return F.pixel_shuffle(self.tails[str(scale)](x), scale)

    def forward(self, observed: Tensor, factors: Tensor, scale: int) -> Tensor:
        return self.filtered(observed, factors, scale) + self.detail(observed, factors, scale)


class CausalSR(nn.Module):
    """Encoder, intervention and enlarging network under one set of weights."""

    def __init__(self, width: int = 24, num_blocks: int = 0) -> None:
        super().__init__()
        self.encoder = FactorEncoder()
        self.intervention = Intervention()
        self.net = EnlargingNet(width, num_blocks)

    def forward(self, observed: Tensor, factors: Tensor, scale: int) -> Tensor:
        return self.net(observed, factors, scale)
