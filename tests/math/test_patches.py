"""Patch features: invariant to gain and brightness, linear grid, and what the numbers mean."""

import numpy as np
import pytest
from skimage import data

from deblurgs.math.patches import FEATURES, PATCH, Patches, fine_detail, patch_features


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
    assert np.abs(a.values[both][:, :14] - b.values[both][:, :14]).max() < 1e-3


def test_the_least_fine_share_falls_with_motion_and_more_than_the_largest() -> None:
    grey = photo()
    sharp, moved = patch_features(grey), patch_features(smeared(grey, 7, 1))
    use = sharp.textured & moved.textured
    least = column(sharp, "fine_share_min")[use] - column(moved, "fine_share_min")[use]
    largest = column(sharp, "fine_share_max")[use] - column(moved, "fine_share_max")[use]
    assert np.median(least) > 0.65 and np.median(least) > np.median(largest) + 0.15


def rotation_invariant_pattern(ring: list[bool]) -> int:
    """The bin of riu2 from its definition: number of ones if the ring changes at most twice, else 9."""
    changes = sum(a != b for a, b in zip(ring, ring[1:] + ring[:1], strict=True))
    return sum(ring) if changes <= 2 else 9


def test_patterns_are_the_published_ones_pixel_by_pixel() -> None:
    grey = np.round(photo(PATCH + 8, 2 * PATCH + 8) * 255).astype(np.float32) / 255
    ring = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))
    shares = patch_features(grey).values[0, :, FEATURES.index("lbp_0") :]
    for column_idx in range(2):
        counts = np.zeros(10)
        for y in range(4, 4 + PATCH):
            for x in range(4 + column_idx * PATCH, 4 + (column_idx + 1) * PATCH):
                counts[
                    rotation_invariant_pattern([bool(grey[y + v, x + u] >= grey[y, x]) for v, u in ring])
                ] += 1
        assert shares[column_idx] == pytest.approx(counts / PATCH**2, abs=1e-6)


def test_blank_patches_are_known() -> None:
    grey = photo()
    grey[: 3 * PATCH] = 0.5
    textured = patch_features(grey).textured
    assert not textured[:2].any() and textured[3:].any()


def test_fine_detail_is_that_of_the_features_falls_with_blur_and_ignores_exposure() -> None:
    grey = photo()
    assert fine_detail(grey) == pytest.approx(patch_features(grey).detail(), abs=1e-5)
    for axis in (0, 1):
        scores = [fine_detail(smeared(grey, length, axis)) for length in (1, 2, 3, 5, 9, 17)]
        assert scores == sorted(scores, reverse=True) and min(-np.diff(scores)) > 0.05
    assert fine_detail(0.6 * grey + 0.2) == pytest.approx(fine_detail(grey), abs=0.03)


def test_a_picture_without_texture_has_less_detail_than_any_other() -> None:
    flat = np.full((100, 120), 0.4, np.float32)
    noise = flat + np.random.default_rng(0).normal(0, 0.002, flat.shape).astype(np.float32)
    for blank in (flat, noise):
        assert fine_detail(blank) < fine_detail(smeared(photo(), 40, 1)) - 1
        assert fine_detail(blank) == patch_features(blank).detail()
    with pytest.raises(ValueError, match="grey picture"):
        fine_detail(np.zeros((4, 4, 3), np.float32))
