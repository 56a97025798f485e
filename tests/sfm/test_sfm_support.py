"""Do cameras explain matches? Checked on exact projections of random points."""

import numpy as np
import pytest
import sfm_rendered as rendered

from deblurgs.sfm.support import RayPair, explained_share, sampson_px, typical_px


def pair(first: np.ndarray, second: np.ndarray, claimed: np.ndarray, noise_px: float = 0.0) -> RayPair:
    """Matches of 200 points seen by two cameras, with the claimed second_from_first."""
    rng = np.random.default_rng(0)
    points = rng.uniform([-1, -1, 3], [1, 1, 6], (200, 3))
    rays = []
    for pose in (first, second):
        x = points @ pose[:3, :3].T + pose[:3, 3]
        rays.append(x[:, :2] / x[:, 2:] + rng.normal(0, noise_px / 300.0, (200, 2)))
    return RayPair(rays[0], rays[1], claimed, 300.0)


def test_true_cameras_explain_exact_matches_and_others_do_not() -> None:
    a, _, b, c = rendered.arc(4)
    right, wrong = pair(a, b, b @ np.linalg.inv(a)), pair(a, b, rendered.turns(4)[3] @ np.linalg.inv(c))
    assert sampson_px(right).max() < 1e-6
    assert explained_share([right]) == 1.0 and explained_share([wrong]) < 0.5
    assert np.isnan(explained_share([])) and np.isnan(typical_px([]))


def test_the_distance_is_in_pixels() -> None:
    a, b = rendered.arc(2)
    # A noise of 1 px in both images moves a match by about |N(0, 1)| px off its epipolar line: median 0.67 px.
    assert typical_px([pair(a, b, b @ np.linalg.inv(a), 1.0)]) == pytest.approx(0.67, abs=0.15)
