"""tools/train_restore.py: what its network learns from, and that it goes on where it stopped."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
import train_restore as tool

from deblurgs.restore.blur_code import CODE_SIZE, WINDOW_PX
from deblurgs.restore.mimo_unet import MimoConfig, MimoUNet
from deblurgs.restore.weights import save_weights

STEERED = MimoConfig(4, 1, steered=True)


@pytest.fixture(scope="module")
def photos() -> list[torch.Tensor]:
    rng = np.random.default_rng(0)
    return [torch.from_numpy(rng.integers(0, 256, (3, 240, 240), dtype=np.uint8))]


def batch(photos: list[torch.Tensor], seed: int, count: int = 2) -> "tool.Batch":
    return tool.draw_batch(np.random.default_rng(seed), photos, WINDOW_PX, count)


def test_a_batch_has_pictures_twins_and_codes(photos: list[torch.Tensor]) -> None:
    drawn = batch(photos, 0, 8)
    assert drawn.blurred.shape == drawn.sharp.shape == (8, 3, WINDOW_PX, WINDOW_PX)
    assert drawn.codes.shape == (8, CODE_SIZE)
    # The last number sums the lags next to zero: 10 of a sharp picture, less the longer the blur.
    assert (drawn.codes[:, -1] > 0).all() and (drawn.codes[:, -1] < 10.01).all()


@pytest.mark.parametrize("taught", [True, False])
def test_a_step_teaches_the_estimator(photos: list[torch.Tensor], taught: bool) -> None:
    torch.manual_seed(0)
    training = tool.Training(STEERED, "cpu")
    before = {name: value.clone() for name, value in training.network.state_dict().items()}
    picture, codes = training.advance(batch(photos, 1), 1e-3, batch(photos, 2) if taught else None)
    assert picture > 0 and codes > 0
    changed = {
        name for name, value in training.network.state_dict().items() if not torch.equal(value, before[name])
    }
    assert {"estimator.code.2.bias", "steering.heads.0.bias", "feat_extract.5.main.0.weight"} <= changed


@pytest.mark.parametrize("taught", [True, False])
def test_true_codes_steer_while_it_is_taught_and_read_ones_after(
    photos: list[torch.Tensor], taught: bool
) -> None:
    losses = []
    for reading in (0.0, 5.0):
        torch.manual_seed(0)
        training = tool.Training(STEERED, "cpu")
        for parameter in training.network.steering.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        torch.nn.init.constant_(training.network.estimator.code[2].bias, reading)
        losses.append(training.advance(batch(photos, 1), 1e-3, batch(photos, 2) if taught else None)[0])
    assert (losses[0] == losses[1]) == taught


def test_training_goes_on_where_it_stopped(tmp_path: Path, photos: list[torch.Tensor]) -> None:
    torch.manual_seed(0)
    one = tool.Training(STEERED, "cpu")
    one.advance(batch(photos, 1), 1e-3)
    one.save(tmp_path)
    other = tool.Training(STEERED, "cpu")
    assert other.resume(tmp_path) and other.step == 1
    for training in (one, other):
        training.advance(batch(photos, 2), 1e-3)
    for a, b in zip(one.network.parameters(), other.network.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_a_plain_network_may_begin_a_steered_one_of_its_size_only(tmp_path: Path) -> None:
    plain = MimoUNet(MimoConfig(4, 1))
    save_weights(tmp_path / "plain.safetensors", plain, notes={}, half=False)
    training = tool.Training(STEERED, "cpu", init=tmp_path / "plain.safetensors")
    state = training.average.state_dict()
    assert all(torch.equal(state[name], value) for name, value in plain.state_dict().items())
    with pytest.raises(ValueError, match="width 4 and 1 blocks"):
        tool.Training(MimoConfig(4, 2, steered=True), "cpu", init=tmp_path / "plain.safetensors")
    save_weights(tmp_path / "steered.safetensors", training.network, notes={}, half=False)
    with pytest.raises(ValueError, match="steered"):
        tool.Training(MimoConfig(4, 1), "cpu", init=tmp_path / "steered.safetensors")
