"""What the shipped weights mean by an intervention. Held-out pictures: the demo's frames, which no training saw."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from deblurgs.capture.image import read_rgb
from deblurgs.restore.causal_sr import MAX_INTERVENTION, CausalSR, Posterior
from deblurgs.restore.degradation import FACTORS, enlarge, observe, random_factors, random_shape
from deblurgs.restore.upscale import explain, shipped_model

DESK = Path(__file__).resolve().parents[2] / "scenes" / "desk" / "images"


@pytest.fixture(scope="module")
def model() -> CausalSR:
    return shipped_model()


@pytest.fixture(scope="module")
def sharp() -> Tensor:
    """A 192x192 piece of a render, reduced by two so that its own blur is gone; [1,3,96,96]."""
    picture = torch.from_numpy(read_rgb(DESK / "008.jpg")).permute(2, 0, 1)[None]
    small = torch.nn.functional.interpolate(picture, scale_factor=0.5, mode="bicubic", antialias=True)
    return small[..., :144, :192].clamp(0, 1).contiguous()


def seen(sharp: Tensor, z: tuple[float, float, float], scale: int = 2) -> Tensor:
    noise = torch.randn(
        1, 3, sharp.shape[2] // scale, sharp.shape[3] // scale, generator=torch.Generator().manual_seed(4)
    )
    return observe(sharp, torch.tensor([z]), torch.tensor([[1.0, 0.0]]), noise, scale).observed


def test_strength_zero_is_the_identity(model: CausalSR) -> None:
    posterior = Posterior(torch.rand(20, 3), torch.zeros(20, 3))
    changed, _ = model.intervention(posterior, 0.0)
    assert torch.equal(changed, posterior.mean)


def test_the_intervention_is_bounded_and_sparse(model: CausalSR) -> None:
    posterior = Posterior(torch.rand(200, 3), -8.0 * torch.rand(200, 3))
    changed, mask = model.intervention(posterior, 1.0)
    assert float((changed - posterior.mean).abs().max()) <= MAX_INTERVENTION + 1e-6
    assert float(mask.mean()) < 0.5


def test_an_untrained_network_is_bicubic() -> None:
    observed = torch.rand(1, 3, 12, 10)
    assert torch.allclose(CausalSR().net(observed, torch.rand(1, 3), 3), enlarge(observed, 3), atol=1e-6)


def test_do_noise_keeps_the_grain_and_moves_nothing(model: CausalSR, sharp: Tensor) -> None:
    """Told that there is no noise, the answer keeps it; edges stay where they are whatever is said about noise."""
    noisy, clean = seen(sharp, (0.2, 0.8, 0.0)), seen(sharp, (0.2, 0.0, 0.0))
    without, with_noise = torch.tensor([[0.2, 0.0, 0.0]]), torch.tensor([[0.2, 0.8, 0.0]])
    kept, removed = model.net(noisy, without, 2), model.net(noisy, with_noise, 2)
    left_kept = (kept - model.net(clean, without, 2)).square().mean()
    left_removed = (removed - model.net(clean, with_noise, 2)).square().mean()
    assert float(left_kept) > 2.0 * float(left_removed)
    added, true_noise = kept - removed, enlarge(noisy - clean, 2)
    correlation = torch.corrcoef(torch.stack([added.flatten(), true_noise.flatten()]))[0, 1]
    assert float(correlation) > 0.5  # what do(noise = 0) brings back is this picture's own noise
    a, b = (torch.nn.functional.avg_pool2d(p.mean(1, keepdim=True), 5, 1) for p in (kept, removed))
    a, b = a - a.mean(), b - b.mean()
    spectrum = torch.fft.rfft2(a) * torch.fft.rfft2(b).conj()
    peak = int(torch.fft.irfft2(spectrum, s=a.shape[-2:]).flatten().argmax())
    assert peak == 0  # the best match of both is without any shift


@pytest.mark.parametrize("index", range(len(FACTORS)), ids=FACTORS)
def test_the_effect_of_each_factor_is_monotone(model: CausalSR, sharp: Tensor, index: int) -> None:
    """The further a factor is said to be present, the further the answer goes from the one without it."""
    truth = [0.3, 0.3, 0.3]
    observed = seen(sharp, tuple(truth))
    answers = []
    for value in (0.0, 0.25, 0.5, 0.75, 1.0):
        told = torch.tensor([truth])
        told[0, index] = value
        answers.append(model.net(observed, told, 2))
    distances = [float((a - answers[0]).abs().mean()) for a in answers]
    assert all(b > a for a, b in itertools.pairwise(distances))


def test_a_do_operation_sets_its_factor_and_no_other(model: CausalSR, sharp: Tensor) -> None:
    pixels = (seen(sharp, (0.5, 0.5, 0.0))[0].permute(1, 2, 0).numpy() * 255 + 0.5).astype(np.uint8)
    free, _ = explain(model, pixels)
    told, explanation = explain(model, pixels, {"noise": 0.0})
    assert explanation.told["noise"] == 0.0 and explanation.estimated["noise"] > 0.0
    assert torch.equal(told[0, [0, 2]], free[0, [0, 2]])


def test_estimated_factors_follow_the_true_ones(model: CausalSR) -> None:
    generator = torch.Generator().manual_seed(11)
    truths, guesses = [], []
    for path in sorted(DESK.glob("*.jpg"))[::3]:
        picture = torch.from_numpy(read_rgb(path)).permute(2, 0, 1)[None]
        small = torch.nn.functional.interpolate(picture, scale_factor=0.5, mode="bicubic", antialias=True)
        small = small[..., :160, :240].clamp(0, 1)
        for _ in range(6):
            factors = random_factors(1, generator)
            noise = torch.randn(1, 3, 80, 120, generator=generator)
            observed = observe(small, factors, random_shape(1, generator), noise, 2).observed
            truths.append(factors[0])
            guesses.append(model.encoder(observed).mean[0])
    truth, guess = torch.stack(truths), torch.stack(guesses)
    for i, name in enumerate(FACTORS):
        correlation = float(torch.corrcoef(torch.stack([truth[:, i], guess[:, i]]))[0, 1])
        assert correlation >= 0.8, f"{name}: {correlation:.2f}"


def test_enlarging_gains_over_bicubic(model: CausalSR, sharp: Tensor) -> None:
    for scale in (2, 3, 4):
        observed = seen(sharp, (0.5, 0.5, 0.3), scale)
        answer = model.net(observed, torch.tensor([[0.5, 0.5, 0.3]]), scale)
        better, plain = ((p - sharp).square().mean() for p in (answer, enlarge(observed, scale)))
        assert float(better) < 0.83 * float(plain)  # 0.8 dB
