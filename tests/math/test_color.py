import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.color import rgb2xyz
from skimage.transform import downscale_local_mean

from deblurgs.math.color import (
    area_weights,
    downscale_linear,
    linear_from_srgb,
    linear_from_srgb_numpy,
    srgb_from_linear,
    srgb_from_linear_numpy,
)


def test_known_values() -> None:
    srgb = torch.tensor([0.0, 0.04045, 0.5, 0.73535698, 1.0], dtype=torch.float64)
    linear = torch.tensor([0.0, 0.0031308, 0.21404114, 0.5, 1.0], dtype=torch.float64)
    torch.testing.assert_close(linear_from_srgb(srgb), linear, rtol=0, atol=1e-7)
    torch.testing.assert_close(srgb_from_linear(linear), srgb, rtol=0, atol=1e-6)


def test_decoding_agrees_with_scikit_image(generator: torch.Generator) -> None:
    srgb = torch.rand(8, 8, 3, generator=generator, dtype=torch.float64)
    xyz_from_rgb = rgb2xyz(np.eye(3)[None])[0].T  # Primaries at full strength are their own decoded values.
    expected = rgb2xyz(srgb.numpy()) @ np.linalg.inv(xyz_from_rgb).T
    np.testing.assert_allclose(linear_from_srgb(srgb).numpy(), expected, atol=1e-12)


def test_curves_are_inverse_monotone_and_unclamped() -> None:
    values = torch.linspace(-0.5, 3.0, 2001, dtype=torch.float64)
    linear = linear_from_srgb(values)
    assert (linear.diff() > 0).all()
    torch.testing.assert_close(srgb_from_linear(linear), values, rtol=0, atol=1e-7)
    assert linear[0] < 0 and linear[-1] > 3


@pytest.mark.parametrize("function", [linear_from_srgb, srgb_from_linear])
def test_gradients_are_right_and_never_zero_or_infinite(function) -> None:
    values = torch.tensor(
        [-0.3, 0.0, 1e-9, 0.001, 0.02, 0.2, 1.0, 2.0], dtype=torch.float64, requires_grad=True
    )
    assert torch.autograd.gradcheck(function, values)
    single = values.detach().float().requires_grad_(True)
    function(single).sum().backward()
    assert single.grad is not None and (single.grad > 0).all() and (single.grad < 13).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numpy_twins_agree_and_keep_the_dtype(dtype) -> None:
    values = np.linspace(-0.2, 1.5, 500).astype(dtype)
    for ours, twin in (
        (linear_from_srgb, linear_from_srgb_numpy),
        (srgb_from_linear, srgb_from_linear_numpy),
    ):
        assert twin(values).dtype == dtype
        np.testing.assert_allclose(twin(values), ours(torch.from_numpy(values)).numpy(), rtol=0, atol=3e-7)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40))
def test_area_weights_spread_every_input_pixel_evenly(size_in: int, size_out: int) -> None:
    weights = area_weights(size_in, size_out, dtype=torch.float64, device=torch.device("cpu"))
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(size_out, dtype=torch.float64))
    # No input pixel may count more than another: the mean of the picture is kept.
    torch.testing.assert_close(
        weights.sum(0), torch.full((size_in,), size_out / size_in, dtype=torch.float64)
    )
    if size_in % size_out == 0:  # Whole pixels are merged: a linear ramp stays the ramp at the new centres.
        ramp = (torch.arange(size_in, dtype=torch.float64) + 0.5) / size_in
        expected = (torch.arange(size_out, dtype=torch.float64) + 0.5) / size_out
        torch.testing.assert_close(weights @ ramp, expected)


def test_whole_factors_agree_with_scikit_image(generator: torch.Generator) -> None:
    image = torch.rand(12, 20, 3, generator=generator, dtype=torch.float64)
    expected = downscale_local_mean(linear_from_srgb(image).numpy(), (3, 4, 1))
    actual = linear_from_srgb(downscale_linear(image, 5, 4))
    assert actual.shape == (4, 5, 3)
    np.testing.assert_allclose(actual.numpy(), expected, atol=1e-7)


def test_light_is_averaged_not_code_values() -> None:
    checkerboard = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)[..., None].expand(2, 2, 3)
    grey = downscale_linear(checkerboard, 1, 1)
    torch.testing.assert_close(grey, torch.full((1, 1, 3), 0.735357, dtype=torch.float64), rtol=0, atol=1e-6)


def test_odd_sizes_keep_a_constant_and_the_same_size_is_untouched() -> None:
    image = torch.full((17, 31, 3), 0.37, dtype=torch.float64)
    torch.testing.assert_close(downscale_linear(image, 7, 5), image[:5, :7])
    assert downscale_linear(image, 31, 17) is image


def test_wrong_images_are_refused() -> None:
    with pytest.raises(ValueError, match="image_srgb"):
        downscale_linear(torch.zeros(4, 4, 3, dtype=torch.uint8), 2, 2)
    with pytest.raises(ValueError, match="image_srgb"):
        downscale_linear(torch.zeros(4, 4), 2, 2)
    with pytest.raises(ValueError, match="0x2"):
        downscale_linear(torch.zeros(4, 4, 3), 0, 2)
