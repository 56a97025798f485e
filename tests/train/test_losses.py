"""The native loss against a float64 torch computation of the same definition, value and gradient."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from deblurgs.raster import native
from deblurgs.train.losses import photometric_loss, photometric_terms
from deblurgs.train.torch_loss import torch_loss as reference_loss

library, reason = native.load()
pytestmark = pytest.mark.skipif(library is None, reason=f"compiled library: {reason}")

# Sides below the window, of one lane, not multiples of any vector, and more than one band of rows.
SIZES = [(1, 1), (3, 5), (16, 16), (37, 21), (21, 37), (65, 130)]


@pytest.fixture(params=["baseline", "avx2", "avx512"])
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every instruction set that this machine has."""
    assert library is not None
    if library.deblurgs_cpu_select_isa(request.param.encode()) != 0:
        pytest.skip(f"this machine has no {request.param}")
    yield request.param
    library.deblurgs_cpu_select_isa(None)


def images(height: int, width: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """A prediction that reaches below 0 and above 1, an observation with flat parts, a soft mask."""
    g = torch.Generator().manual_seed(seed)
    observed = torch.rand(height, width, 3, generator=g)
    observed[: height // 3] = 0.25
    prediction = 1.3 * torch.rand(height, width, 3, generator=g) - 0.1
    mask = (torch.rand(height, width, generator=g) * 2 - 0.5).clamp(0, 1)
    mask[0, 0] = 1.0
    return prediction, observed, mask


@pytest.mark.parametrize("height,width", SIZES)
@pytest.mark.parametrize("encode_srgb", [True, False])
@pytest.mark.parametrize(
    ("ssim_weight", "edge_weight"), [(0.0, 0.0), (0.2, 0.0), (1.0, 0.0), (0.2, 3.0), (0.0, 3.0), (1.0, 0.5)]
)
@pytest.mark.parametrize("masked", [False, True])
def test_value_and_gradient(
    height: int, width: int, encode_srgb: bool, ssim_weight: float, edge_weight: float, masked: bool, isa: str
) -> None:
    prediction, observed, mask = images(height, width)
    chosen = mask if masked else None
    ours = prediction.clone().requires_grad_()
    loss, alone = photometric_terms(
        ours, observed, ssim_weight=ssim_weight, edge_weight=edge_weight, encode_srgb=encode_srgb, mask=chosen
    )
    assert not alone.requires_grad
    loss.backward()
    exact = prediction.double().requires_grad_()
    wanted, plain = reference_loss(
        exact,
        observed.double(),
        ssim_weight,
        edge_weight,
        encode_srgb,
        None if chosen is None else chosen.double(),
    )
    wanted.backward()
    assert abs(float(loss.detach()) - float(wanted.detach())) < 2e-6 * (1.0 + edge_weight)
    assert abs(float(alone) - float(plain)) < 2e-6 * (1.0 + edge_weight)
    assert ours.grad is not None and exact.grad is not None
    error = (ours.grad.double() - exact.grad).norm() / exact.grad.norm()
    assert error < 2e-5


def test_gradient_is_scaled_by_what_follows() -> None:
    prediction, observed, _ = images(20, 30)
    a, b = prediction.clone().requires_grad_(), prediction.clone().requires_grad_()
    photometric_loss(a, observed).backward()
    (3.0 * photometric_loss(b, observed)).backward()
    assert a.grad is not None and b.grad is not None
    torch.testing.assert_close(3.0 * a.grad, b.grad)


def test_same_bits_for_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    prediction, observed, mask = images(150, 70)
    results = []
    for threads in ("1", "2", "3"):
        monkeypatch.setenv("DEBLURGS_THREADS", threads)
        ours = prediction.clone().requires_grad_()
        loss = photometric_loss(ours, observed, edge_weight=2.0, mask=mask)
        loss.backward()
        assert ours.grad is not None
        results.append((loss.detach(), ours.grad))
    for loss, gradient in results[1:]:
        assert torch.equal(loss, results[0][0]) and torch.equal(gradient, results[0][1])


def test_equal_images_lose_nothing() -> None:
    _, observed, _ = images(40, 40)
    ours = observed.clone().requires_grad_()
    loss = photometric_loss(ours, observed, edge_weight=2.0, encode_srgb=False)
    loss.backward()
    assert abs(float(loss.detach())) < 1e-7
    assert ours.grad is not None and ours.grad.abs().max() < 1e-7


def test_masked_pixels_have_no_influence() -> None:
    prediction, observed, _ = images(40, 40)
    mask = torch.ones(40, 40)
    mask[10:20, 5:30] = 0.0
    other = prediction.clone()
    other[mask == 0] = 5.0
    a, b = prediction.clone().requires_grad_(), other.requires_grad_()
    loss_a, loss_b = (photometric_loss(p, observed, edge_weight=2.0, mask=mask) for p in (a, b))
    loss_a.backward()
    loss_b.backward()
    assert torch.equal(loss_a, loss_b)
    assert a.grad is not None and b.grad is not None
    assert torch.equal(a.grad, b.grad) and not a.grad[mask == 0].any()


def test_an_empty_mask_gives_zero() -> None:
    prediction, observed, _ = images(12, 12)
    ours = prediction.requires_grad_()
    loss = photometric_loss(ours, observed, edge_weight=2.0, mask=torch.zeros(12, 12))
    loss.backward()
    assert ours.grad is not None
    assert float(loss.detach()) == 0.0 and not ours.grad.any()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p, o, m: (p[..., :2], o, m), "H,W,3"),
        (lambda p, o, m: (p, o[:5], m), "H,W,3"),
        (lambda p, o, m: (p, o, m[:5]), "mask"),
        (lambda p, o, m: (p.double(), o, m), "prediction"),
        (lambda p, o, m: (p, o.double(), m), "observed"),
        (lambda p, o, m: (p, o, m.double()), "mask"),
    ],
)
def test_wrong_arguments_are_named(change, words: str) -> None:
    prediction, observed, mask = change(*images(12, 12))
    with pytest.raises(ValueError, match=words):
        photometric_loss(prediction, observed, mask=mask)
