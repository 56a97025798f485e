"""Optimisers: Adam over Gaussians whose number changes, and Adam over rows of which every step visits a few."""

import math

import torch
from torch import Tensor, nn

from deblurgs.config import TrainConfig
from deblurgs.scene.gaussians import PARAMETERS, Gaussians


class GaussianAdam:
    """torch's fused Adam, one group per parameter kind; rows are dropped, copied and reset with the model."""

    def __init__(self, gaussians: Gaussians, config: TrainConfig) -> None:
        self.gaussians = gaussians
        rates = {
            "means": config.means_lr,
            "quats": config.quats_lr,
            "log_scales": config.scales_lr,
            "logit_opacities": config.opacities_lr,
            "sh0": config.colors_lr,
            "shN": config.colors_lr / 15.0,
        }
        groups = [
            {"params": [getattr(gaussians, n)], "lr": rates[n], "first_lr": rates[n], "name": n}
            for n in PARAMETERS
        ]
        self.adam = torch.optim.Adam(groups, betas=(0.9, 0.999), eps=1e-15, fused=True)

    def set_rates(self, means_lr: float, factor: float) -> None:
        """means_lr for the positions; everything else learns at `factor` times its first rate."""
        for group in self.adam.param_groups:
            group["lr"] = means_lr if group["name"] == "means" else factor * group["first_lr"]

    def step(self, good: Tensor | None = None) -> None:
        """good: bool scalar on the device; where it is False nothing changes, and nobody has to wait to know."""
        if good is not None:
            skip_unless(self.adam, good)
        self.adam.step()

    def zero_grad(self) -> None:
        self.adam.zero_grad(set_to_none=True)

    @torch.no_grad()
    def replace_rows(self, index: Tensor, new_rows: dict[str, Tensor], num_new: int) -> None:
        """Keep rows `index` [M], append `new_rows` (num_new of each parameter); appended rows have no moments yet."""
        for group in self.adam.param_groups:
            name = group["name"]
            old: nn.Parameter = group["params"][0]
            state = self.adam.state.pop(old, {})
            new = nn.Parameter(torch.cat([old.detach()[index], new_rows[name]]).contiguous())
            for key in ("exp_avg", "exp_avg_sq"):
                if key in state:
                    moment: Tensor = state[key]
                    state[key] = torch.cat([moment[index], moment.new_zeros(num_new, *moment.shape[1:])])
            setattr(self.gaussians, name, new)
            group["params"][0] = new
            if state:
                self.adam.state[new] = state

    @torch.no_grad()
    def reset_rows(self, index: Tensor, names: tuple[str, ...] = PARAMETERS) -> None:
        """Forget the moments of some rows: their parameters were just set to something else."""
        for group in self.adam.param_groups:
            if group["name"] in names:
                state = self.adam.state.get(group["params"][0], {})
                for key in ("exp_avg", "exp_avg_sq"):
                    if key in state:
                        state[key][index] = 0.0


class FrameAdam:
    """Adam (Kingma & Ba 2015) over a parameter [R,...] of which each step touches a few rows only, those of one frame.

    Bias correction counts the visits of each row: with a global count a rarely visited one would make huge steps.
    """

    def __init__(
        self, parameter: nn.Parameter, betas: tuple[float, float] = (0.9, 0.99), eps: float = 1e-15
    ) -> None:
        self.parameter, self.betas, self.eps = parameter, betas, eps
        self.visits = torch.zeros(parameter.shape[0], device=parameter.device)
        self.first = torch.zeros_like(parameter)
        self.second = torch.zeros_like(parameter)

    @torch.no_grad()
    def step(self, rows: Tensor, lr: float, good: Tensor | None = None) -> None:
        """Move the rows of these indices along the parameter's gradient. good: as in `GaussianAdam.step`."""
        if self.parameter.grad is None:
            return
        b1, b2 = self.betas
        grad = self.parameter.grad[rows]
        self.visits[rows] += 1
        n = self.visits[rows].reshape(-1, *[1] * (grad.ndim - 1))
        m = self.first[rows] * b1 + grad * (1 - b1)
        v = self.second[rows] * b2 + grad.square() * (1 - b2)
        move = lr * (m / (1 - b1**n)) / ((v / (1 - b2**n)).sqrt() + self.eps)
        if good is not None:
            self.visits[rows] -= (~good).float()
            m, v = torch.where(good, m, self.first[rows]), torch.where(good, v, self.second[rows])
            move = torch.where(good, move, torch.zeros_like(move))
        self.first[rows], self.second[rows] = m, v
        self.parameter[rows] -= move


def skip_unless(adam: torch.optim.Adam, good: Tensor) -> None:
    """Let the next step of a *fused* Adam change nothing where `good` (bool scalar on its device) is False.

    It is the way of torch's own GradScaler: the kernel itself reads `found_inf`.
    """
    adam.found_inf = (~good).float()  # type: ignore[attr-defined]


def exponential(start: float, end: float, progress: float) -> float:
    """start at progress 0, end at progress 1, a straight line on a log scale in between."""
    return start * (end / start) ** min(max(progress, 0.0), 1.0)


def cooled(start: float, end: float, progress: float) -> float:
    """1 until progress `start`, then along a half cosine to `end` at progress 1."""
    if progress <= start or start >= 1.0:
        return 1.0
    done = (min(progress, 1.0) - start) / (1.0 - start)
    return end + (1.0 - end) * 0.5 * (1.0 + math.cos(math.pi * done))
