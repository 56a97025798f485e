import pytest
import torch
from scipy.interpolate import BSpline
from torch import Tensor

from deblurgs.math.spline import basis, basis_derivative

KINDS = ["linear", "bezier", "cubic"]
COUNTS = [2, 3, 4, 5, 10]


def places(num: int = 41) -> Tensor:
    return torch.linspace(0, 1, num, dtype=torch.float64)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_knots", COUNTS)
def test_rows_sum_to_one_and_ends_are_met(kind: str, num_knots: int) -> None:
    rows = basis(kind, num_knots, places())
    assert rows.shape == (41, num_knots)
    torch.testing.assert_close(rows.sum(-1), torch.ones(41, dtype=torch.float64), rtol=0, atol=1e-14)
    eye = torch.eye(num_knots, dtype=torch.float64)
    torch.testing.assert_close(rows[0], eye[0], rtol=0, atol=1e-14)
    torch.testing.assert_close(rows[-1], eye[-1], rtol=0, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_knots", COUNTS)
def test_evenly_spaced_knots_give_constant_speed(kind: str, num_knots: int) -> None:
    knots = torch.linspace(-2, 3, num_knots, dtype=torch.float64)
    torch.testing.assert_close(
        basis(kind, num_knots, places()) @ knots, -2 + 5 * places(), rtol=0, atol=1e-13
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_knots", COUNTS)
def test_basis_is_symmetric_in_time(kind: str, num_knots: int) -> None:
    forward, backward = basis(kind, num_knots, places()), basis(kind, num_knots, 1 - places())
    torch.testing.assert_close(forward, backward.flip(-1), rtol=0, atol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_knots", COUNTS)
def test_derivative_agrees_with_autograd_and_differences(kind: str, num_knots: int) -> None:
    u = torch.linspace(0.013, 0.991, 23, dtype=torch.float64, requires_grad=True)  # off every corner
    rows = basis_derivative(kind, num_knots, u.detach())
    by_autograd = torch.stack(
        [torch.autograd.grad(basis(kind, num_knots, u)[:, k].sum(), u)[0] for k in range(num_knots)], dim=-1
    )
    torch.testing.assert_close(rows, by_autograd, rtol=0, atol=1e-12)
    step = 1e-6
    middle = u.detach()
    slope = (basis(kind, num_knots, middle + step) - basis(kind, num_knots, middle - step)) / (2 * step)
    torch.testing.assert_close(rows, slope, rtol=0, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_knots", COUNTS)
def test_derivative_exists_at_both_ends(kind: str, num_knots: int) -> None:
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64, requires_grad=True)
    rows = basis_derivative(kind, num_knots, ends.detach())
    step = 1e-7
    inside = basis(kind, num_knots, torch.tensor([step, 1 - step], dtype=torch.float64))
    slope = (inside - basis(kind, num_knots, ends.detach())) / torch.tensor([[step], [-step]]).double()
    torch.testing.assert_close(rows, slope, rtol=0, atol=1e-4)
    basis(kind, num_knots, ends).sum().backward()
    assert ends.grad is not None and ends.grad.isfinite().all()


@pytest.mark.parametrize("num_knots", COUNTS)
def test_cubic_agrees_with_scipy_on_knots_with_extrapolated_ends(num_knots: int) -> None:
    generator = torch.Generator().manual_seed(3)
    knots = torch.randn(num_knots, generator=generator, dtype=torch.float64)
    padded = torch.cat([2 * knots[:1] - knots[1:2], knots, 2 * knots[-1:] - knots[-2:-1]])
    # Control value j belongs to the place j - 1, the middle of its support on unit-spaced spline knots.
    spline = BSpline(torch.arange(-3.0, num_knots + 3.0).double().numpy(), padded.numpy(), 3)
    u = places()
    expected = torch.from_numpy(spline(u.numpy() * (num_knots - 1)))
    torch.testing.assert_close(basis("cubic", num_knots, u) @ knots, expected, rtol=0, atol=1e-12)


def test_bezier_agrees_with_de_casteljau() -> None:
    knots = torch.randn(10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for u in (0.0, 0.123, 0.5, 0.9):
        level = knots
        while len(level) > 1:
            level = (1 - u) * level[:-1] + u * level[1:]
        value = basis("bezier", 10, torch.tensor(u, dtype=torch.float64)) @ knots
        torch.testing.assert_close(value, level[0], rtol=0, atol=1e-13)


def test_batch_shapes_and_float32() -> None:
    u = torch.rand(3, 5, generator=torch.Generator().manual_seed(0))
    for kind in KINDS:
        assert basis(kind, 4, u).shape == (3, 5, 4)
        assert basis_derivative(kind, 4, u).shape == (3, 5, 4)
        assert basis(kind, 4, u).dtype == torch.float32


@pytest.mark.parametrize(
    ("kind", "num_knots", "u", "word"),
    [
        ("quintic", 4, 0.5, "kind"),
        ("cubic", 1, 0.5, "2 knots"),
        ("linear", 2, 1.01, "u"),
        ("linear", 2, float("nan"), "u"),
    ],
)
def test_wrong_arguments_are_named(kind: str, num_knots: int, u: float, word: str) -> None:
    for function in (basis, basis_derivative):
        with pytest.raises(ValueError, match=word):
            function(kind, num_knots, torch.tensor([u]))
