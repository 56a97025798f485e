from itertools import pairwise

import numpy as np
import pytest
import torch

from deblurgs.math.color import linear_from_srgb, srgb_from_linear
from deblurgs.restore.blur_code import (
    COARSE,
    CODE_SIZE,
    FINE,
    LAG_PX,
    STEP_PX,
    WINDOW_PX,
    BlurEstimator,
    cepstra,
    kernel_code,
    window_starts,
)
from deblurgs.restore.shake import convolve
from deblurgs.restore.weights import load_network

FINE_HALF = (FINE**2 + 1) // 2


def kernel(*points: tuple[int, int]) -> torch.Tensor:
    """Equal weights at (x, y) from the centre of [21,21]."""
    image = torch.zeros(21, 21)
    for x, y in points:
        image[10 + y, 10 + x] = 1 / len(points)
    return image


def test_the_code_of_no_blur_is_lag_zero_alone() -> None:
    code = kernel_code(kernel((0, 0)))
    assert code.shape == (CODE_SIZE,)
    assert (code > 1e-4).nonzero().flatten().tolist() == [FINE_HALF - 1, CODE_SIZE - 1]


def test_a_code_does_not_change_when_the_kernel_moves_or_turns_by_half_a_turn() -> None:
    hook = kernel((0, 0), (1, 0), (2, 0), (2, 1), (2, 3))
    assert torch.allclose(kernel_code(hook), kernel_code(torch.roll(hook, (3, -4), (0, 1))), atol=1e-5)
    assert torch.allclose(kernel_code(hook), kernel_code(hook.flip((0, 1))), atol=1e-5)
    assert not torch.allclose(kernel_code(hook), kernel_code(hook.flip(0)), atol=0.1)


def test_two_exposures_apart_show_as_that_lag() -> None:
    code = kernel_code(kernel((-1, 0), (1, 1)))  # 2 px right, 1 px down of each other
    fine = code[:FINE_HALF]
    up_left = (FINE // 2 - 1) * FINE + FINE // 2 - 2
    assert float(fine[up_left]) == pytest.approx(10 / 4, abs=1e-4)
    assert float(fine[FINE_HALF - 1]) == pytest.approx(10 / 2, abs=1e-4)
    far = kernel_code(kernel((-9, 0), (9, 0)))[FINE_HALF:]
    assert float(far[COARSE * (COARSE // 2) + COARSE // 2 - 6]) == pytest.approx(10 / 4, abs=1e-4)


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


def test_the_code_of_a_photo_is_that_of_its_windows_by_their_contrast() -> None:
    torch.manual_seed(0)
    estimator = BlurEstimator().eval()
    photo = torch.rand(2, 3, 256, 128)
    photo[1, :, 128:] = 0.5  # nothing to see in the last window
    codes = estimator(photo)
    assert codes.shape == (2, CODE_SIZE)
    windows = [estimator(photo[:1, :, top : top + WINDOW_PX]) for top in (0, 64, 128)]
    assert torch.allclose(codes[:1], torch.stack(windows).mean(0), atol=2e-3)
    seen = estimator(photo[1:, :, :192])
    assert torch.allclose(codes[1:], seen, atol=1e-4)


def test_small_and_empty_photos_have_codes_too() -> None:
    estimator = BlurEstimator().eval()
    for photo in (torch.rand(1, 3, 4, 4), torch.rand(1, 3, 40, 300), torch.zeros(1, 3, 130, 130)):
        assert torch.isfinite(estimator(photo)).all()


def test_a_low_window_looks_like_a_high_one() -> None:
    rng = np.random.default_rng(1)
    texture = torch.from_numpy(rng.random((1, 128, 128)).astype(np.float32))
    square, strip = cepstra(texture)[0], cepstra(texture[:, :64])[0]
    # The texture has no structure, so lags along the short side must not show any: streaks would.
    column = slice(LAG_PX + 4, None)
    assert float(strip[0, 2, column, LAG_PX].abs().mean()) < 3 * float(
        square[0, 2, column, LAG_PX].abs().mean()
    )


def test_the_weights_that_ship_read_the_direction_of_a_blur() -> None:
    rng = np.random.default_rng(0)
    scene = torch.zeros(3, 180, 180)
    rows, columns = torch.meshgrid(torch.arange(180), torch.arange(180), indexing="ij")
    for _ in range(1500):  # discs that cover each other, as things do in a photo
        (x, y), radius = rng.integers(0, 180, 2), 2 / rng.uniform(0.1, 1)
        disc = (columns - x) ** 2 + (rows - y) ** 2 < radius**2
        scene[:, disc] = torch.from_numpy(rng.random((3, 1), np.float32))
    estimator = load_network().estimator
    flat = kernel(*((x, 0) for x in range(-5, 6)))
    falling = kernel(*((x, x) for x in range(-4, 5)))
    kernels = [flat, flat.T, falling, falling.flip(0)]
    truths = torch.stack([kernel_code(k) for k in kernels])
    for index, blur in enumerate(kernels):
        blurred = srgb_from_linear(convolve(linear_from_srgb(scene), blur).clamp(0, 1))
        errors = ((truths - estimator(blurred[None])) ** 2).sum(1)
        assert int(errors.argmin()) == index
