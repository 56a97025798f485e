"""Image quality: PSNR and SSIM of sRGB images, the way the literature on deblurring reports them.

Both clamp their inputs to [0,1], because a screen does. They are torch functions, differentiable, any
floating dtype.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment", 2004, section III-C; data range 1.
_WINDOW = 11
_SIGMA = 1.5
_C1 = 0.01**2
_C2 = 0.03**2


def psnr(image_srgb: Tensor, target_srgb: Tensor, mask: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio in dB, 10 log10(1 / mse); infinite for equal images. [H,W,3] x 2 -> scalar.

    mask [H,W]: pixels where it is 0 do not count. Raises ValueError unless both are floating images of one shape, or
    when the mask leaves nothing.
    """
    _check(image_srgb, target_srgb)
    squares = (image_srgb.clamp(0, 1) - target_srgb.clamp(0, 1)).square()
    return -10.0 * torch.log10(squares.mean() if mask is None else squares[_counted(mask, image_srgb)].mean())


def ssim(image_srgb: Tensor, target_srgb: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean structural similarity over pixels and channels, at most 1. [H,W,3] x 2 -> scalar.

    Gaussian window of 11 pixels, sigma 1.5, population covariance. Only windows inside the image count, so no
    border is invented; this equals scikit-image's structural_similarity(gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False, data_range=1), which crops its padded border. mask [H,W]: only windows without a pixel
    where it is 0 count; where the mask leaves no whole window, those around its other pixels, with the hidden ones
    grey in both images. Raises ValueError unless both are floating images of one shape and at least 11 pixels on
    each side, or when the mask leaves nothing.
    """
    _check(image_srgb, target_srgb)
    height, width, channels = image_srgb.shape
    if min(height, width) < _WINDOW:
        raise ValueError(f"SSIM needs at least {_WINDOW}x{_WINDOW} pixels, got {width}x{height}")
    windows = None if mask is None else _whole_windows(_counted(mask, image_srgb))
    if mask is not None:
        grey = torch.full((), 0.5, dtype=image_srgb.dtype)
        image_srgb, target_srgb = (
            torch.where(mask[..., None] > 0, x, grey) for x in (image_srgb, target_srgb)
        )
    a = image_srgb.clamp(0, 1).permute(2, 0, 1)  # [C,H,W]
    b = target_srgb.clamp(0, 1).permute(2, 0, 1)
    # Five weighted means per pixel and channel, blurred together in two passes because the window is
    # separable.
    moments = torch.cat([a, b, a * a, b * b, a * b])[:, None]  # [5C,1,H,W]
    offset = torch.arange(_WINDOW, dtype=a.dtype, device=a.device) - _WINDOW // 2
    window = torch.exp(-0.5 * (offset / _SIGMA).square())
    window = window / window.sum()
    moments = F.conv2d(moments, window[None, None, :, None])
    moments = F.conv2d(moments, window[None, None, None, :])[:, 0]
    mean_a, mean_b, mean_aa, mean_bb, mean_ab = moments.split(channels)
    variance_a, variance_b = mean_aa - mean_a * mean_a, mean_bb - mean_b * mean_b
    covariance = mean_ab - mean_a * mean_b
    numerator = (2 * mean_a * mean_b + _C1) * (2 * covariance + _C2)
    denominator = (mean_a * mean_a + mean_b * mean_b + _C1) * (variance_a + variance_b + _C2)
    similarity = numerator / denominator
    return similarity.mean() if windows is None else similarity[:, windows].mean()


def _counted(mask: Tensor, image: Tensor) -> Tensor:
    """The mask [H,W] as bool. Raises ValueError for another shape or when nothing is left."""
    if mask.shape != image.shape[:2]:
        raise ValueError(f"mask must be [H,W] = {list(image.shape[:2])}, got {list(mask.shape)}")
    counted = mask > 0
    if not bool(counted.any()):
        raise ValueError("the mask leaves no pixel to compare")
    return counted


def _whole_windows(counted: Tensor) -> Tensor:
    """[H,W] -> [H-10,W-10]: the windows that lie wholly where pixels count, or else those centred on such a pixel."""
    hidden = F.max_pool2d((~counted)[None, None].float(), _WINDOW, stride=1)[0, 0]
    whole = hidden == 0
    half = _WINDOW // 2
    centred = counted[half : counted.shape[0] - half, half : counted.shape[1] - half]
    return whole if bool(whole.any()) else centred if bool(centred.any()) else torch.ones_like(whole)


def _check(image: Tensor, target: Tensor) -> None:
    if image.ndim != 3 or image.shape != target.shape:
        raise ValueError(
            f"two images [H,W,3] of one shape expected, got {list(image.shape)}, {list(target.shape)}"
        )
    if not (image.is_floating_point() and target.is_floating_point()):
        raise ValueError(f"floating images in [0,1] expected, got {image.dtype} and {target.dtype}")
