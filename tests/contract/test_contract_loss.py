"""The photometric loss of every device against its definition in torch, value and gradient."""

from collections.abc import Callable, Iterator

import pytest
import torch
from emulated_launcher import EmulatedLauncher, unavailable
from test_losses import images, reference_loss
from torch import Tensor

from deblurgs.raster import native
from deblurgs.raster.cuda_loss import cuda_loss
from deblurgs.raster.devices import launcher_for
from deblurgs.train.losses import photometric_loss

Loss = Callable[..., Tensor]


@pytest.fixture(params=["cpu", "cuda-emulated", "cuda"])
def loss(request: pytest.FixtureRequest) -> Iterator[Loss]:
    """The loss as a function of CPU tensors, wherever it is computed."""
    if request.param == "cpu":
        library, reason = native.load()
        if library is None:
            pytest.skip(f"compiled library: {reason}")
        yield photometric_loss
    elif request.param == "cuda-emulated":
        if reason := unavailable():
            pytest.skip(reason)
        launcher = EmulatedLauncher(seed=5)
        yield lambda *images, **options: cuda_loss(launcher, *images, **options)[0]
    else:
        if not torch.cuda.is_available():
            pytest.skip("this machine has no CUDA device")

        found, reason = launcher_for(torch.cuda.current_device())
        if found is None:
            pytest.fail(f"there is a GPU, and our kernels cannot be used on it: {reason}")
        ours = found

        def on_device(prediction: Tensor, observed: Tensor, mask: Tensor | None = None, **options) -> Tensor:
            there = None if mask is None else mask.cuda()
            return cuda_loss(ours, prediction.cuda(), observed.cuda(), mask=there, **options)[0].cpu()

        yield on_device


# Sides below the window, of one tile, and not multiples of a tile.
@pytest.mark.parametrize("height,width", [(1, 1), (3, 5), (16, 16), (37, 21)])
@pytest.mark.parametrize("encode_srgb", [True, False])
@pytest.mark.parametrize(
    ("ssim_weight", "edge_weight"), [(0.0, 0.0), (0.2, 0.0), (1.0, 0.0), (0.2, 3.0), (0.0, 3.0)]
)
@pytest.mark.parametrize("masked", [False, True])
def test_value_and_gradient(
    height: int,
    width: int,
    encode_srgb: bool,
    ssim_weight: float,
    edge_weight: float,
    masked: bool,
    loss: Loss,
) -> None:
    prediction, observed, mask = images(height, width)
    chosen = mask if masked else None
    ours = prediction.clone().requires_grad_()
    value = loss(
        ours, observed, ssim_weight=ssim_weight, edge_weight=edge_weight, encode_srgb=encode_srgb, mask=chosen
    )
    (3.0 * value).backward()
    exact = prediction.double().requires_grad_()
    weights = None if chosen is None else chosen.double()
    wanted, _ = reference_loss(exact, observed.double(), ssim_weight, edge_weight, encode_srgb, weights)
    wanted.backward()
    assert abs(float(value.detach()) - float(wanted.detach())) < 2e-6 * (1.0 + edge_weight)
    assert ours.grad is not None and exact.grad is not None
    error = (ours.grad.double() - 3.0 * exact.grad).norm() / (3.0 * exact.grad.norm())
    assert error < 2e-5


def test_same_bits_every_time(loss: Loss) -> None:
    prediction, observed, mask = images(50, 35)
    results = []
    for _ in range(2):
        ours = prediction.clone().requires_grad_()
        value = loss(ours, observed, edge_weight=2.0, mask=mask)
        value.backward()
        assert ours.grad is not None
        results.append((value.detach(), ours.grad))
    assert torch.equal(results[0][0], results[1][0]) and torch.equal(results[0][1], results[1][1])


def test_an_empty_mask_gives_zero(loss: Loss) -> None:
    prediction, observed, _ = images(12, 12)
    ours = prediction.requires_grad_()
    value = loss(ours, observed, mask=torch.zeros(12, 12))
    value.backward()
    assert ours.grad is not None
    assert float(value.detach()) == 0.0 and not ours.grad.any()


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
def test_wrong_arguments_are_named(change, words: str, loss: Loss) -> None:
    prediction, observed, mask = change(*images(12, 12))
    with pytest.raises(ValueError, match=words):
        loss(prediction, observed, mask=mask)
