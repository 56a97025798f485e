from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch

from deblurgs.math.color import linear_from_srgb, srgb_from_linear
from deblurgs.restore.blur_kernel import (
    KERNEL_PX,
    LAG_PX,
    STEP_PX,
    WINDOW_PX,
    KernelEstimator,
    _mean_but_for_half_turns,
    cepstra,
    photo_maps,
    window_starts,
)
from deblurgs.restore.losses import kernel_loss
from deblurgs.restore.shake import convolve
from deblurgs.restore.weights import load_network

Cards = Callable[[int, int, int], torch.Tensor]


def kernel(*points: tuple[int, int]) -> torch.Tensor:
    """Equal weights at (x, y) from the centre of [49,49]."""
    image = torch.zeros(KERNEL_PX, KERNEL_PX)
    for x, y in points:
        image[LAG_PX + y, LAG_PX + x] = 1 / len(points)
    return image


def test_a_double_exposure_leaves_its_mark_in_the_cepstrum_of_any_texture() -> None:
    rng = np.random.default_rng(0)
    texture = torch.from_numpy(rng.random((1, 200, 200)).astype(np.float32))
    twice = (texture[:, 20:148, 20:148] + texture[:, 25:153, 13:141]) / 2
    once, both = (cepstra(image)[0][0, 0] for image in (texture[:, :128, :128], twice))
    lag = (LAG_PX + 5, LAG_PX - 7)
    assert float(both[lag]) > 2.5
    assert abs(float(once[lag])) < 1
    assert float(both.abs().median()) < 0.3


@pytest.mark.parametrize("size", [128, 129, 192, 200, 512, 1000])
def test_windows_reach_from_border_to_border(size: int) -> None:
    starts = window_starts(size)
    assert starts[0] == 0 and starts[-1] == size - WINDOW_PX
    assert all(0 < b - a <= STEP_PX for a, b in pairwise(starts))


def test_the_maps_of_a_photo_are_those_of_its_windows_by_their_contrast() -> None:
    torch.manual_seed(0)
    luma = torch.rand(2, 256, 128)
    luma[1, 128:] = 0.5  # nothing to see in the last window
    maps = photo_maps(luma)
    assert maps.shape == (2, 3, KERNEL_PX, KERNEL_PX)
    windows = [photo_maps(luma[:1, top : top + WINDOW_PX]) for top in (0, 64, 128)]
    assert torch.allclose(maps[:1], torch.stack(windows).mean(0), atol=0.05)
    assert torch.allclose(maps[1:], photo_maps(luma[1:, :192]), atol=1e-3)


@pytest.mark.parametrize("shape", [(4, 4), (40, 300), (130, 130)])
def test_a_kernel_is_a_share_of_time_in_every_pixel_whatever_the_photo(shape: tuple[int, int]) -> None:
    estimator = KernelEstimator().eval()
    for photo in (torch.rand(2, 3, *shape), torch.zeros(2, 3, *shape)):
        kernels = estimator(photo)
        assert kernels.shape == (2, KERNEL_PX, KERNEL_PX)
        assert float(kernels.detach().min()) >= 0
        assert torch.allclose(kernels.sum((1, 2)), torch.ones(2))


def test_a_low_window_looks_like_a_high_one() -> None:
    rng = np.random.default_rng(1)
    texture = torch.from_numpy(rng.random((1, 128, 128)).astype(np.float32))
    square, strip = cepstra(texture)[0], cepstra(texture[:, :64])[0]
    # The texture has no structure, so lags along the short side must not show any: streaks would.
    column = slice(LAG_PX + 4, None)
    assert float(strip[0, 2, column, LAG_PX].abs().mean()) < 3 * float(
        square[0, 2, column, LAG_PX].abs().mean()
    )


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal but for half a turn; 24-bit numbers, a kernel's peak is about 0.15."""
    return torch.allclose(a, b, atol=1e-3) or torch.allclose(a, b.flip((1, 2)), atol=1e-3)


@torch.inference_mode()
def test_a_mirrored_or_turned_photo_has_the_mirrored_or_turned_kernel(cards: Cards) -> None:
    estimator = load_network().estimator
    blur = kernel((0, 0), (1, 0), (2, 1), (3, 2), (3, 3), (3, 4))
    for seed in range(6):
        photo = srgb_from_linear(convolve(linear_from_srgb(cards(seed, 176, 176)), blur).clamp(0, 1))[None]
        read = estimator(photo)
        assert close(estimator(photo.flip(-1)), read.flip(-1))
        assert close(estimator(photo.flip(-2)), read.flip(-2))
        assert close(estimator(photo.transpose(-2, -1)), read.transpose(-2, -1))
        assert not close(read, read.flip(-1))


def test_readings_that_are_half_turns_of_each_other_do_not_blur_their_mean() -> None:
    blur = kernel((0, 0), (1, 0), (2, 1), (3, 2))[None]
    readings = torch.stack([blur, blur.flip((1, 2)), blur.flip((1, 2)), blur])
    assert close(_mean_but_for_half_turns(readings), blur)
    # The second of two photos has its own.
    both = torch.cat([readings, readings.flip(-1)], dim=1)
    assert close(_mean_but_for_half_turns(both)[1:], blur.flip(-1))


@torch.inference_mode()
def test_the_weights_that_ship_read_direction_and_length_of_a_blur(cards: Cards) -> None:
    estimator = load_network().estimator
    scene = linear_from_srgb(cards(0, 360, 360))
    kernels = [
        blur
        for reach in (4, 9)
        for flat, falling in [
            (
                kernel(*((x, 0) for x in range(-reach, reach + 1))),
                kernel(*((x, x) for x in range(-reach, reach + 1))),
            )
        ]
        for blur in (flat, flat.T, falling, falling.flip(0))
    ]
    truths = torch.stack(kernels)
    for index, blur in enumerate(kernels):
        blurred = srgb_from_linear(convolve(scene, blur).clamp(0, 1))
        read = estimator(blurred[None])
        errors = kernel_loss(read.expand_as(truths), truths)[0]
        assert int(errors.argmin()) == index
        assert float(errors[index]) < 0.1
