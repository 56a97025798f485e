"""Patch features: invariant to gain and brightness, linear grid, and what the numbers mean."""

import numpy as np
import pytest
from skimage import data
from skimage.feature import local_binary_pattern

from deblurgs.math.patches import FEATURES, PATCH, Patches, patch_features


def photo(height: int = 248, width: int = 328) -> np.ndarray:
    return data.camera()[60 : 60 + height, 60 : 60 + width].astype(np.float32) / 255


def column(patches: Patches, name: str) -> np.ndarray:
    return patches.values[..., FEATURES.index(name)]


def smeared(grey: np.ndarray, length: int, axis: int) -> np.ndarray:
    parts = [np.roll(grey, step, axis) for step in range(length)]
    return np.mean(parts, axis=0, dtype=np.float32)


def test_the_grid_covers_the_picture_and_small_pictures_are_taken() -> None:
    assert patch_features(photo()).values.shape == (6, 8, len(FEATURES))
    for shape in ((1, 1), (5, 300), (39, 39)):
        tiny = patch_features(np.random.default_rng(0).random(shape, np.float32))
        assert np.isfinite(tiny.values).all() and tiny.values.size
    with pytest.raises(ValueError, match="grey picture"):
        patch_features(np.zeros((4, 4, 3), np.float32))


def test_gain_and_brightness_cancel() -> None:
    grey = photo()
    a, b = patch_features(grey), patch_features(0.5 * grey + 0.25)
    both = a.textured & b.textured
    # The shares of local patterns follow signs of differences, which rounding may turn in flat places.
    assert np.abs(a.values[both][:, :14] - b.values[both][:, :14]).max() < 0.02


def test_the_least_fine_share_falls_with_motion_and_more_than_the_largest() -> None:
    grey = photo()
    sharp, moved = patch_features(grey), patch_features(smeared(grey, 7, 1))
    use = sharp.textured & moved.textured
    least = column(sharp, "fine_share_min")[use] - column(moved, "fine_share_min")[use]
    largest = column(sharp, "fine_share_max")[use] - column(moved, "fine_share_max")[use]
    assert np.median(least) > 0.5 and np.median(least) > np.median(largest)


def test_patterns_agree_with_scikit_image_up_to_its_interpolated_corners() -> None:
    grey = np.round(photo() * 255).astype(np.float32) / 255
    shares = patch_features(grey).values[..., FEATURES.index("lbp_0") :].mean((0, 1))
    theirs = local_binary_pattern((grey * 255).astype(np.uint8), 8, 1, method="uniform")
    counts = np.bincount(theirs.astype(int).ravel(), minlength=10) / theirs.size
    assert np.isclose(shares.sum(), 1.0) and np.corrcoef(shares, counts)[0, 1] > 0.8


def test_blank_patches_are_known() -> None:
    grey = photo()
    grey[: 3 * PATCH] = 0.5
    textured = patch_features(grey).textured
    assert not textured[:2].any() and textured[3:].any()
