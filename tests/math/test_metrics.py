import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from deblurgs.math.metrics import psnr, ssim


def pair(
    generator: torch.Generator, noise: float, height: int = 37, width: int = 29
) -> tuple[Tensor, Tensor]:
    """A smooth picture with a little structure, and a noisy copy."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    channels = [0.5 + 0.4 * torch.sin(x / 3 + c) * torch.cos(y / 5 - c) for c in range(3)]
    image = torch.stack(channels, dim=-1).double()
    return image, image + noise * torch.randn(image.shape, generator=generator, dtype=torch.float64)


def ssim_of_scikit_image(a: Tensor, b: Tensor) -> float:
    return structural_similarity(
        a.clamp(0, 1).numpy(), b.clamp(0, 1).numpy(), data_range=1.0, channel_axis=2,
        gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    )  # fmt: skip


@pytest.mark.parametrize("noise", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("size", [(37, 29), (11, 40), (11, 11)])
def test_both_agree_with_scikit_image(
    noise: float, size: tuple[int, int], generator: torch.Generator
) -> None:
    a, b = pair(generator, noise, *size)
    expected = peak_signal_noise_ratio(a.clamp(0, 1).numpy(), b.clamp(0, 1).numpy(), data_range=1.0)
    assert float(psnr(a, b)) == pytest.approx(expected, abs=1e-10)
    assert float(ssim(a, b)) == pytest.approx(ssim_of_scikit_image(a, b), abs=1e-12)
    assert float(ssim(a.float(), b.float())) == pytest.approx(ssim_of_scikit_image(a, b), abs=2e-5)


def test_unrelated_and_inverted_pictures(generator: torch.Generator) -> None:
    a, _ = pair(generator, 0.0)
    inverted = 1 - a
    assert float(ssim(a, inverted)) == pytest.approx(ssim_of_scikit_image(a, inverted), abs=1e-12)
    assert float(ssim(a, inverted)) < 0


def test_equal_pictures_and_known_error() -> None:
    a = torch.full((16, 16, 3), 0.5, dtype=torch.float64)
    assert float(psnr(a, a)) == np.inf
    assert float(ssim(a, a)) == pytest.approx(1.0, abs=1e-12)
    assert float(psnr(a, a + 0.1)) == pytest.approx(20.0)


def test_values_outside_the_screens_range_do_not_count() -> None:
    white = torch.ones(16, 16, 3)
    assert float(psnr(white * 3, white)) == np.inf
    assert float(ssim(white * 3, white)) == pytest.approx(1.0)


def test_order_of_arguments_does_not_matter(generator: torch.Generator) -> None:
    a, b = pair(generator, 0.2)
    torch.testing.assert_close(ssim(a, b), ssim(b, a))
    torch.testing.assert_close(psnr(a, b), psnr(b, a))


def test_ssim_has_a_right_gradient(generator: torch.Generator) -> None:
    a, b = pair(generator, 0.1, 12, 13)
    a = (0.2 + 0.6 * a).requires_grad_(True)  # away from the clamp
    assert torch.autograd.gradcheck(lambda x: ssim(x, b), a)


def test_wrong_images_are_refused() -> None:
    a = torch.zeros(16, 16, 3)
    for function in (psnr, ssim):
        with pytest.raises(ValueError, match="one shape"):
            function(a, torch.zeros(16, 15, 3))
        with pytest.raises(ValueError, match="floating"):
            function(a, a.to(torch.uint8))
    with pytest.raises(ValueError, match="11x11"):
        ssim(a[:10], a[:10])


def test_masked_pixels_do_not_count(generator: torch.Generator) -> None:
    a, b = torch.rand(40, 50, 3, generator=generator), torch.rand(40, 50, 3, generator=generator)
    mask = torch.ones(40, 50)
    mask[:, 30:] = 0
    assert torch.allclose(psnr(a, b, mask), psnr(a[:, :30], b[:, :30]))
    assert torch.allclose(ssim(a, b, mask), ssim(a[:, :30].contiguous(), b[:, :30].contiguous()), atol=1e-6)
    spoiled = torch.where(mask[..., None] > 0, b, torch.rand(40, 50, 3, generator=generator))
    assert torch.equal(psnr(a, spoiled, mask), psnr(a, b, mask))
    assert torch.equal(ssim(a, spoiled, mask), ssim(a, b, mask))
    with pytest.raises(ValueError, match="no pixel"):
        psnr(a, b, torch.zeros(40, 50))
    with pytest.raises(ValueError, match="mask"):
        ssim(a, b, torch.ones(4, 5))


def test_thin_opaque_parts_are_still_compared(generator: torch.Generator) -> None:
    a, b = torch.rand(40, 50, 3, generator=generator), torch.rand(40, 50, 3, generator=generator)
    mask = torch.zeros(40, 50)
    mask[18:22] = 1
    spoiled = torch.where(mask[..., None] > 0, b, torch.zeros(()))
    assert torch.equal(ssim(a, b, mask), ssim(a, spoiled, mask)) and float(ssim(a, a, mask)) == pytest.approx(
        1.0
    )
