import pytest
import torch

from deblurgs.config import DensityConfig, TrainConfig
from deblurgs.math import quaternion
from deblurgs.raster.api import ScreenStatistics
from deblurgs.scene.camera import Camera
from deblurgs.scene.gaussians import PARAMETERS, Gaussians
from deblurgs.train.attribution import Shares
from deblurgs.train.density import (
    SPLIT_AT,
    AnnealedDensity,
    McmcDensity,
    shared_opacity_and_scale,
    split_longest,
)
from deblurgs.train.optimizer import FrameAdam, GaussianAdam

CAMERA = Camera(100, 80, 90.0, 90.0, 50.0, 40.0)


def scene(num: int) -> tuple[Gaussians, GaussianAdam]:
    generator = torch.Generator().manual_seed(0)
    gaussians = Gaussians.from_points(
        torch.randn(num, 3, generator=generator), torch.rand(num, 3), sh_degree=1
    )
    optimizer = GaussianAdam(gaussians, TrainConfig())
    sum(getattr(gaussians, n).square().sum() for n in PARAMETERS).backward()  # type: ignore[union-attr]
    optimizer.step()
    optimizer.zero_grad()
    return gaussians, optimizer


def test_copies_render_what_the_original_rendered_at_its_centre() -> None:
    """n coincident copies with opacity o' have alpha 1-(1-o')^n at the centre: the old opacity."""
    opacity = torch.tensor([0.05, 0.5, 0.9, 0.99])
    copies = torch.tensor([2, 3, 7, 51])
    new, factor = shared_opacity_and_scale(opacity, copies)
    assert torch.allclose(1 - (1 - new) ** copies, opacity, atol=1e-5)
    assert ((factor > 0) & (factor <= 1)).all()


def test_scale_factor_keeps_the_mass_of_two_copies() -> None:
    """Integral over the plane of 1-(1-o' g)^2, g of width C, equals the integral of o g of width 1 along a line."""
    opacity = torch.tensor([0.6])
    new, factor = shared_opacity_and_scale(opacity, torch.tensor([2]))
    x = torch.linspace(-12, 12, 20001, dtype=torch.float64)
    alone = 0.6 * torch.exp(-0.5 * x**2)
    copy = float(new) * torch.exp(-0.5 * (x / float(factor)) ** 2)
    together = 1 - (1 - copy) ** 2
    assert torch.allclose(together.sum(), alone.sum(), rtol=1e-4)


def test_growth_respects_the_cap_and_keeps_optimizer_state_in_step() -> None:
    gaussians, optimizer = scene(50)
    density = McmcDensity(
        DensityConfig(max_gaussians=70, every=1, growth=0.25),
        gaussians,
        optimizer,
        100,
        torch.Generator().manual_seed(0),
    )
    for step in range(1, 10):
        density.after_step(step, None, CAMERA, 1e-3)
        assert gaussians.num_gaussians <= 70
    assert gaussians.num_gaussians == 70
    for group in optimizer.adam.param_groups:
        state = optimizer.adam.state[group["params"][0]]
        assert state["exp_avg"].shape == group["params"][0].shape
    gaussians.means.sum().backward()
    optimizer.step()


def test_dead_gaussians_move_to_living_ones() -> None:
    gaussians, optimizer = scene(40)
    with torch.no_grad():
        gaussians.logit_opacities[:10] = -9.0
        gaussians.means[:10] = 100.0
    density = McmcDensity(
        DensityConfig(max_gaussians=40, every=1), gaussians, optimizer, 100, torch.Generator().manual_seed(0)
    )
    density.after_step(1, None, CAMERA, 1e-3)
    assert gaussians.num_gaussians == 40
    assert gaussians.means.abs().max() < 50.0
    assert (gaussians.opacities > 0.005 - 1e-6).all()


def test_nothing_changes_after_the_last_step_of_growth() -> None:
    gaussians, optimizer = scene(20)
    density = McmcDensity(
        DensityConfig(max_gaussians=100, every=1, until=0.5), gaussians, optimizer, 10, torch.Generator()
    )
    density.after_step(6, None, CAMERA, 1e-3)
    assert gaussians.num_gaussians == 20


def test_annealed_splits_only_above_the_threshold_and_prunes() -> None:
    gaussians, optimizer = scene(30)
    with torch.no_grad():
        gaussians.logit_opacities[:5] = -9.0
    config = DensityConfig(strategy="annealed", max_gaussians=33, every=1, growth=0.5)
    density = AnnealedDensity(config, gaussians, optimizer, 100, torch.Generator().manual_seed(0))
    gradient = torch.zeros(30)
    gradient[10:25] = torch.linspace(1e-3, 2e-3, 15)
    density.after_step(1, [ScreenStatistics(torch.ones(30, dtype=torch.bool), gradient)], CAMERA, 1e-3)
    # 5 pruned leave 25; the cap leaves room for 8 of the 15 candidates.
    assert gaussians.num_gaussians == 33


def test_frame_adam_counts_the_visits_of_each_frame() -> None:
    """A first visit moves by exactly lr, however many steps other frames made before."""
    knots = torch.nn.Parameter(torch.zeros(2, 3, 6))
    adam = FrameAdam(knots)
    for _ in range(50):
        knots.grad = torch.ones_like(knots)
        adam.step(torch.tensor([0]), 1e-2)
    knots.grad = torch.full_like(knots, 3.0)
    adam.step(torch.tensor([1]), 1e-2)
    assert torch.allclose(knots[1], torch.full((3, 6), -1e-2), atol=1e-6)


def test_a_scene_of_dead_gaussians_stays_as_it_is() -> None:
    """Nothing could be relocated to and nothing would be left: a later round sees more."""
    for strategy in (McmcDensity, AnnealedDensity):
        gaussians, optimizer = scene(20)
        with torch.no_grad():
            gaussians.logit_opacities.fill_(-20.0)
        config = DensityConfig(max_gaussians=20, every=1)
        density = strategy(config, gaussians, optimizer, 100, torch.Generator().manual_seed(0))
        before = gaussians.tensors()
        density.after_step(1, [], CAMERA, 1e-3)
        assert all(torch.equal(before[n], getattr(gaussians, n)) for n in PARAMETERS)


def test_a_split_keeps_centre_and_variance_of_the_whole() -> None:
    torch.manual_seed(1)
    gaussians = Gaussians.from_points(torch.randn(6, 3), torch.rand(6, 3), 0)
    with torch.no_grad():
        gaussians.log_scales += 0.5 * torch.randn(6, 3)
        gaussians.quats += 0.3 * torch.randn(6, 4)
    before, chosen = covariances(gaussians), torch.tensor([0, 2, 5])
    longest = gaussians.scales.amax(dim=1)
    with torch.no_grad():
        offset = split_longest(gaussians, chosen)
    after = covariances(gaussians)
    # Parts at +-offset: their mean is the old centre, and by the law of total variance their spread is the old one.
    whole = after[chosen] + offset[:, :, None] * offset[:, None, :]
    assert torch.allclose(whole, before[chosen], atol=1e-6)
    assert torch.allclose(offset.norm(dim=1), SPLIT_AT * longest[chosen], rtol=1e-5)
    others = torch.tensor([1, 3, 4])
    assert torch.equal(after[others], before[others])


def covariances(gaussians: Gaussians) -> torch.Tensor:
    """[N,3,3]."""
    half = quaternion.to_matrix(quaternion.normalize(gaussians.quats)) * gaussians.scales[:, None, :]
    return (half @ half.transpose(1, 2)).detach()


def test_growth_per_round_keeps_annealed_splitting_from_taking_everything_at_once() -> None:
    gaussians, optimizer = scene(100)
    config = DensityConfig(strategy="annealed", max_gaussians=150, every=1)
    density = AnnealedDensity(config, gaussians, optimizer, 1000, torch.Generator().manual_seed(0))
    density.gradients += torch.arange(100.0)  # nearly all of them above the threshold
    density.seen += 1.0
    strongest = gaussians.means[75:].detach().clone()
    density.after_step(1, None, CAMERA, 1e-3)
    assert gaussians.num_gaussians == 125
    assert not torch.isclose(gaussians.means[75:100], strongest).all(dim=1).any(), "the strongest were split"


def test_growth_of_zero_keeps_the_number_of_gaussians() -> None:
    gaussians, optimizer = scene(20)
    config = DensityConfig(strategy="annealed", max_gaussians=40, every=1, growth=0.0)
    density = AnnealedDensity(config, gaussians, optimizer, 100, torch.Generator().manual_seed(0))
    density.gradients += 1.0
    density.seen += 1.0
    density.after_step(1, None, CAMERA, 1e-3)
    assert gaussians.num_gaussians == 20


@pytest.mark.parametrize(("growth", "gradient"), [(0.0, 1.0), (0.25, 0.0)])
def test_at_the_cap_nothing_goes_that_nothing_replaces(growth: float, gradient: float) -> None:
    """Without growth, and where nothing is to be split."""
    gaussians, optimizer = scene(40)
    config = DensityConfig(strategy="annealed", max_gaussians=40, every=1, growth=growth)
    density = AnnealedDensity(config, gaussians, optimizer, 100, torch.Generator().manual_seed(0))
    areas = torch.full((40,), 10.0)
    areas[:8] = 0.1
    density.add_shares(Shares(torch.ones(40), areas))
    density.gradients += gradient
    density.seen += 1.0
    density.after_step(1, None, CAMERA, 1e-3)
    assert gaussians.num_gaussians == 40


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("strategy", [McmcDensity, AnnealedDensity])
def test_a_round_happens_where_the_gaussians_lie(strategy: type, device: str) -> None:
    """With and without anything to split."""
    gaussians, _ = scene(40)
    gaussians = gaussians.to(device)
    optimizer = GaussianAdam(gaussians, TrainConfig())
    config = DensityConfig(max_gaussians=60, every=1, threshold_start=1e-3)
    density = strategy(config, gaussians, optimizer, 100, torch.Generator(device).manual_seed(0))
    visible = torch.ones(40, dtype=torch.bool, device=device)
    for step, gradient in ((1, 0.0), (2, 1.0)):
        count = gaussians.num_gaussians
        statistics = [
            ScreenStatistics(
                visible[:1].expand(count), visible.new_full((count,), gradient, dtype=torch.float32)
            )
        ]
        density.after_step(step, statistics, CAMERA, 1e-3)
        if strategy is AnnealedDensity:
            assert (gaussians.num_gaussians > count) == (gradient > 0)
        for name in PARAMETERS:
            parameter = getattr(gaussians, name)
            assert parameter.device.type == device and len(parameter) == gaussians.num_gaussians
            assert bool(torch.isfinite(parameter).all())


def test_misfit_decides_between_equal_gradients() -> None:
    gaussians, optimizer = scene(20)
    config = DensityConfig(strategy="annealed", max_gaussians=22, every=3, growth=0.5)
    density = AnnealedDensity(config, gaussians, optimizer, 100, torch.Generator().manual_seed(0))
    visible = torch.ones(20, dtype=torch.bool)
    shares = torch.ones(20)
    shares[[4, 11]] = 5.0
    before = gaussians.means.detach().clone()
    for step in range(4):
        if density.wants_shares(step):
            density.add_shares(Shares(shares, torch.ones(20)))
        density.after_step(step, [ScreenStatistics(visible, torch.full((20,), 1e-3))], CAMERA, 1e-3)
    assert gaussians.num_gaussians == 22
    moved = (gaussians.means[:20] != before).any(dim=1).nonzero()[:, 0]
    assert moved.tolist() == [4, 11]


def test_a_misfit_that_is_not_finite_says_nothing() -> None:
    gaussians, optimizer = scene(20)
    config = DensityConfig(strategy="annealed", max_gaussians=22, every=3, growth=0.5)
    density = AnnealedDensity(config, gaussians, optimizer, 100, torch.Generator().manual_seed(0))
    density.add_shares(Shares(torch.full((20,), torch.nan), torch.ones(20)))
    errors = torch.ones(20)
    errors[[4, 11]] = 5.0
    density.add_shares(Shares(errors, torch.ones(20)))
    assert torch.equal(density.errors, errors)


def test_at_the_cap_what_shows_least_makes_room_for_what_is_matched_worst() -> None:
    gaussians, optimizer = scene(40)
    config = DensityConfig(strategy="annealed", max_gaussians=40, every=3, growth=0.5, relocate=0.1)
    density = AnnealedDensity(config, gaussians, optimizer, 100, torch.Generator().manual_seed(0))
    errors, areas = torch.ones(40), torch.full((40,), 10.0)
    # The fourth was not seen, the last is not small enough.
    areas[[3, 7, 20, 21, 30]] = torch.tensor([0.5, 1.0, 1.5, 0.0, 2.5])
    errors[[0, 1, 2]] = torch.tensor([9.0, 8.0, 7.0])
    before = gaussians.means.detach().clone()
    gradient = torch.full((40,), 1e-3)
    for step in range(4):
        if density.wants_shares(step):
            density.add_shares(Shares(errors, areas))
        density.after_step(step, [ScreenStatistics(torch.ones(40, dtype=torch.bool), gradient)], CAMERA, 1e-3)
    assert gaussians.num_gaussians == 40
    stayed = torch.ones(40, dtype=torch.bool)
    stayed[[3, 7, 20]] = False
    rest = gaussians.means[:37]
    moved = (rest != before[stayed]).any(dim=1).nonzero()[:, 0]
    assert moved.tolist() == [0, 1, 2], "split, each into itself and one of the new"
