"""The causal graph itself: counterfactuals that are computed must agree with the graph."""

import torch

from deblurgs.restore.degradation import enlarge, observe

SHAPE = torch.tensor([[0.7, 0.4]])


def observation(factors: tuple[float, float, float]):
    generator = torch.Generator().manual_seed(0)
    sharp = torch.rand(1, 3, 24, 24, generator=generator).repeat_interleave(2, 2).repeat_interleave(2, 3)
    return observe(sharp, torch.tensor([factors]), SHAPE, torch.randn(1, 3, 24, 24, generator=generator), 2)


def test_without_any_factor_the_picture_is_only_reduced() -> None:
    seen = observation((0.0, 0.0, 0.0))
    assert torch.equal(seen.observed, seen.low)


def test_taking_everything_away_gives_the_sharp_picture() -> None:
    seen = observation((0.5, 0.6, 0.7))
    assert torch.allclose(seen.explained(seen.factors), seen.sharp, atol=1e-5)


def test_do_noise_zero_leaves_exactly_the_noise() -> None:
    seen = observation((0.0, 0.6, 0.0))
    left = seen.explained(torch.tensor([[0.0, 0.0, 0.0]])) - seen.sharp
    assert torch.allclose(left, enlarge(seen.noisy - seen.low, 2), atol=1e-5)


def test_blur_keeps_the_mean_light_and_more_of_it_removes_more() -> None:
    spread = [float(observation((b, 0.0, 0.0)).low.std()) for b in (0.0, 0.4, 0.8)]
    assert spread[0] > spread[1] > spread[2]


def test_jpeg_strength_loses_more() -> None:
    lost = [
        float((o.observed - o.noisy).abs().mean())
        for o in map(observation, ((0, 0, 0.1), (0, 0, 0.5), (0, 0, 1.0)))
    ]
    assert lost[0] < lost[1] < lost[2]
