import numpy as np
import pytest
import torch

from deblurgs.restore.shake import convolve, kernel_size, path_kernel, segment_masks, shake_image, shake_path


def test_a_path_is_centred_and_as_large_as_asked() -> None:
    for seed in range(5):
        path = shake_path(np.random.default_rng(seed), 12.0)
        assert np.ptp(path, axis=0).max() == pytest.approx(12.0)
        assert np.abs(path.mean(axis=0)).max() < 1e-9


def test_the_kernel_of_a_straight_path_is_a_line_of_the_same_length() -> None:
    path = np.stack([np.linspace(-4, 4, 64), np.zeros(64)], axis=1)
    kernel = path_kernel(path, 13)
    assert kernel.sum() == pytest.approx(1)
    assert np.count_nonzero(kernel.sum(axis=1) > 1e-6) == 1
    assert np.count_nonzero(kernel.sum(axis=0) > 0.05) in (8, 9)


def test_convolution_moves_light_along_the_path_and_keeps_its_amount() -> None:
    image = torch.zeros(3, 21, 21)
    image[:, 10, 10] = 1
    path = np.stack([np.full(64, 2.0), np.zeros(64)], axis=1)  # two pixels to the right
    moved = convolve(image, torch.from_numpy(path_kernel(path, 7)))
    assert moved.shape == (3, 15, 15)
    assert int(moved[0].argmax()) == 7 * 15 + 9  # (10, 12) less the margin of 3
    assert float(moved[0].sum()) == pytest.approx(1, abs=1e-4)


def test_light_is_averaged_in_linear_light() -> None:
    stripes = torch.zeros(3, 60, 60)
    stripes[..., ::2] = 1
    shaken = shake_image(np.random.default_rng(0), stripes, 8.0, segments=1)
    assert shaken.blurred.shape == shaken.sharp.shape
    # Half white, half black: 0.5 in linear light, which is 0.735 in sRGB.
    assert float(shaken.blurred.mean()) == pytest.approx(0.735, abs=0.03)


def test_the_twin_lies_where_the_blurred_photo_lies() -> None:
    rng = np.random.default_rng(2)
    photo = torch.from_numpy(rng.random((3, 80, 80)).astype(np.float32))
    still = shake_image(rng, photo, 0.0)
    assert torch.equal(still.blurred, still.sharp)
    size = kernel_size(1.25 * 6.0)
    shaken = shake_image(rng, photo, 6.0, segments=2)
    assert shaken.blurred.shape == (3, 81 - size, 81 - size)
    assert [float(kernel.sum()) for kernel in shaken.kernels] == pytest.approx([1, 1], abs=1e-5)
    assert sum(shaken.shares) == pytest.approx(1, abs=1e-5)
    assert torch.equal(shaken.sharp, photo[:, size // 2 :, size // 2 :][:, : 81 - size, : 81 - size])
    weights = segment_masks(rng, 3, 20, 30)
    assert torch.allclose(weights.sum(dim=0), torch.ones(20, 30), atol=1e-5)
