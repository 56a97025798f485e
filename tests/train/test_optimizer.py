"""Learning rates over a run, and what Adam does with them."""

from itertools import pairwise

import pytest
import torch

from deblurgs.config import TrainConfig
from deblurgs.scene.gaussians import Gaussians
from deblurgs.train.optimizer import GaussianAdam, cooled


def test_rates_stay_and_then_fall_to_the_given_share() -> None:
    assert [cooled(0.7, 0.1, p) for p in (0.0, 0.5, 0.7)] == [1.0, 1.0, 1.0]
    falling = [cooled(0.7, 0.1, 0.7 + 0.03 * k) for k in range(11)]
    assert all(a > b for a, b in pairwise(falling))
    assert falling[-1] == pytest.approx(0.1)
    assert cooled(1.0, 0.1, 1.0) == 1.0, "cool_from = 1 leaves the rates alone"


def test_the_factor_reaches_everything_but_the_positions() -> None:
    config = TrainConfig()
    gaussians = Gaussians.from_points(torch.randn(8, 3), torch.rand(8, 3), 1)
    optimizer = GaussianAdam(gaussians, config)
    before = {group["name"]: group["lr"] for group in optimizer.adam.param_groups}
    for _ in range(2):  # rates are set, not multiplied up
        optimizer.set_rates(3e-4, 0.5)
    after = {group["name"]: group["lr"] for group in optimizer.adam.param_groups}
    assert after.pop("means") == 3e-4
    before.pop("means")
    assert after == {name: pytest.approx(0.5 * rate) for name, rate in before.items()}
