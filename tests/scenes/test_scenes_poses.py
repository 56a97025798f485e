"""Poses, shakes and plans of synthetic captures: conventions, path lengths, continuity, seeds."""

import numpy as np
import pytest

from scenes.generator import poses, shake
from scenes.generator.plan import NUM_SUBFRAMES, Plan, Stand, Video, plan_burst, plan_video
from scenes.generator.shutter import Shutter

STAND = Stand(focus=(0.1, 0.0, 0.3), distance=2.0, azimuth_deg=20.0, elevation_deg=(5.0, 25.0))
FOCAL = 300.0


def points_at(pose: np.ndarray) -> np.ndarray:
    """A wall of points through the focus: what a ray caster would find."""
    rng = np.random.default_rng(5)
    return np.array(STAND.focus) + rng.uniform(-0.5, 0.5, (24, 3)) * [1.0, 0.2, 0.6]


def burst(seed: int, shutter: Shutter | None = None, median_px: float = 8.0) -> Plan:
    rng = np.random.default_rng(seed)
    return plan_burst(STAND, 12, 3, shutter or Shutter(0.1), median_px, FOCAL, points_at, rng)


def video(shutter: Shutter, median_px: float = 9.0) -> Plan:
    rng = np.random.default_rng(2)
    return plan_video(STAND, 10, 2, shutter, Video(10.0, 0.5), median_px, FOCAL, points_at, rng)


def test_look_at_is_an_opencv_camera_with_its_target_in_the_middle() -> None:
    pose = poses.look_at(np.array([0.0, -3.0, 1.0]), np.array([0.0, 0.0, 0.2]))
    assert np.allclose(pose[:3, :3].T @ pose[:3, :3], np.eye(3)) and np.linalg.det(pose[:3, :3]) > 0
    ahead = np.array([[0.0, 0.0, 0.2], [0.4, 0.0, 0.2], [0.0, 0.0, 0.9]])
    middle, right, above = poses.project(pose[None], ahead, FOCAL)[0]
    assert np.allclose(middle, 0.0, atol=1e-9)
    assert right[0] > 0 and abs(right[1]) < 1e-6, "world +x is to the right, seen from negative y"
    assert above[1] < 0, "image y points down"


def test_exp_agrees_with_many_small_rotations_and_keeps_the_translation() -> None:
    xi = np.array([0.1, -0.2, 0.3, 0.4, -0.7, 0.2])
    small = poses.exp(np.concatenate([np.zeros(3), xi[3:] / 4096]))[:3, :3]
    assert np.allclose(poses.exp(xi)[:3, :3], np.linalg.matrix_power(small, 4096), atol=1e-9)
    assert np.allclose(poses.exp(xi)[:3, 3], xi[:3])


def test_a_sideways_move_has_the_path_length_of_similar_triangles() -> None:
    pose = np.tile(np.eye(4), (5, 1, 1))
    pose[:, 0, 3] = np.linspace(0.0, 0.1, 5)
    points = np.array([[0.0, 0.0, 2.0], [0.3, 0.1, 2.0]])
    assert poses.path_length_px(pose, points, FOCAL) == pytest.approx(FOCAL * 0.1 / 2.0)


def test_a_burst_has_the_wanted_median_path_and_holds_views_out() -> None:
    plan = burst(3)
    lengths = [view.path_px for view in plan.views if view.split == "train"]
    assert np.median(lengths) == pytest.approx(8.0, abs=0.01)
    assert max(lengths) > 1.5 * min(lengths), "real bursts hold stronger and weaker shakes"
    tests = [view for view in plan.views if view.split == "test"]
    assert len(tests) == 3 and all(view.subframes is None for view in tests)
    assert len({view.name for view in plan.views}) == 15
    for view in plan.views:
        if view.subframes is not None:
            assert view.subframes.shape == (NUM_SUBFRAMES, 4, 4)
            assert np.array_equal(view.subframes[NUM_SUBFRAMES // 2], view.mid)


def test_a_plan_follows_from_its_seed() -> None:
    same, again, other = burst(3), burst(3), burst(4)
    assert all(np.array_equal(a.mid, b.mid) for a, b in zip(same.views, again.views, strict=True))
    assert not np.allclose(same.views[0].mid, other.views[0].mid)


def test_a_rolling_burst_blurs_over_the_exposure_of_a_row_only() -> None:
    plan = burst(3, Shutter(0.02, 0.03))
    view = plan.views[0]
    assert view.subframes is not None and view.open_path is not None
    # One path: the ends of the exposure lie 0.4 of the way from the middle to the ends of the open time.
    inner = view.open_path[16 + round(0.4 * 16) - 1 : 16 + round(0.4 * 16) + 2, :3, 3]
    assert np.linalg.norm(inner - view.subframes[-1, :3, 3], axis=1).min() < 0.1 * np.linalg.norm(
        view.open_path[-1, :3, 3] - view.open_path[0, :3, 3]
    )


def test_a_video_is_one_continuous_path() -> None:
    plan = video(Shutter(0.06, 0.03))
    train = [view for view in plan.views if view.split == "train"]
    assert np.median([view.path_px for view in train]) == pytest.approx(9.0, abs=0.01)
    assert np.allclose([view.time_s for view in train], (np.arange(10) + 0.5) / 10.0)
    times, path = np.array(plan.path["time_s"]), np.array(plan.path["c2w"])
    for view in train:
        assert view.subframes is not None and view.open_path is not None
        at = np.interp(view.time_s + 0.03, times, path[:, 0, 3])
        assert view.subframes[-1, 0, 3] == pytest.approx(at, abs=2e-4), "sub-frames lie on the clip's path"
        assert np.allclose(view.open_path[16], view.mid)
    step = np.linalg.norm(np.diff(path[:, :3, 3], axis=0), axis=1)
    assert step.max() < 6 * np.median(step), "no jumps"


def test_a_video_cannot_blur_less_than_its_walk_does() -> None:
    with pytest.raises(ValueError, match="moving along the scene alone"):
        video(Shutter(0.09), median_px=0.01)


def test_solve_scale_finds_the_factor() -> None:
    assert shake.solve_scale(lambda x: 3.0 + 50 * x, 8.0) == pytest.approx(0.1)
