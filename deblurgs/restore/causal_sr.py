"""CausalSR: enlargement of one picture by a network that is told, or estimates, how the picture was degraded.

After the formulation of "CausalSR: Structural Causal Model-Driven Super-Resolution with Counterfactual Inference"
(arXiv 2501.15852); its published code cannot run and holds no weights, so the network is a design of its own:

- `FactorEncoder`: the posterior q(z | Y), Gaussian, over the factors of `degradation.FACTORS`;
- `Intervention`: z + strength * mask * direction, bounded and sparse by construction, the learnt correction of the
  estimate; strength 0 is the identity;
- `EnlargingNet`: residual blocks at the size of the small picture, modulated by z (FiLM: Perez et al. 2018), one
  pixel-shuffle tail per scale, added to the bicubic enlargement.
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
    """Small sRGB picture [B,3,H,W], its 8x8 JPEG grid starting at the top left, H and W >= 16 -> `Posterior`.

    Degradations show in the statistics of filter responses, not in their places: responses of three resolutions are
    pooled to log energies (all, and of the calmest tenth of the picture, where noise is alone), and differences
    between neighbours are pooled by their place in the 8x8 grid, where JPEG leaves steps.
    """

    def __init__(self, width: int = 12, hidden: int = 48) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, width, 5, padding=2)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.third = nn.Conv2d(width, width, 3, padding=1)
        features = 3 * 2 * width + 2 * _GRID + 4
        self.head = nn.Sequential(
            nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, 2 * len(FACTORS)),
        )  # fmt: skip

    def forward(self, observed: Tensor) -> Posterior:
        one = self.first(observed)
        two = self.second(F.avg_pool2d(F.relu(one), 2))
        three = self.third(F.avg_pool2d(F.relu(two), 2))
        pooled = [f for response in (one, two, three) for f in _log_energies(response)]
        raw = self.head(torch.cat([*pooled, *_grid_steps(observed)], 1))
        mean, log_variance = raw.chunk(2, 1)
        return Posterior(torch.sigmoid(mean), log_variance.clamp(-8.0, 0.0))


def _log_energies(response: Tensor) -> tuple[Tensor, Tensor]:
    """Mean log energy [B,C] of the whole picture and of its calmest tenth (patches of 4x4)."""
    local = F.avg_pool2d(response.square(), 4).flatten(2)
    calm = local.sort(-1).values[..., : max(1, local.shape[-1] // 10)]
    return torch.log(local.mean(-1) + 1e-6), torch.log(calm.mean(-1) + 1e-6)


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


class EnlargingNet(nn.Module):
    """Small sRGB picture [B,3,h,w] and z [B,3] -> [B,3,s*h,s*w], not clamped. An untrained net is bicubic."""

    def __init__(self, width: int = 24, num_blocks: int = 6) -> None:
        super().__init__()
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
        return 2 + 2 * len(self.blocks) + 2

    def forward(self, observed: Tensor, factors: Tensor, scale: int) -> Tensor:
        context = self.context(factors)
        x = self.stem(observed)
        for block in self.blocks:
            x = block(x, context)
        return enlarge(observed, scale) + F.pixel_shuffle(self.tails[str(scale)](x), scale)


class CausalSR(nn.Module):
    """Encoder, intervention and enlarging network under one set of weights."""

    def __init__(self, width: int = 24, num_blocks: int = 6) -> None:
        super().__init__()
        self.encoder = FactorEncoder()
        self.intervention = Intervention()
        self.net = EnlargingNet(width, num_blocks)

    def forward(self, observed: Tensor, factors: Tensor, scale: int) -> Tensor:
        return self.net(observed, factors, scale)
