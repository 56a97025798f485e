"""The sanity check and the diagnosis, on numbers whose answer is known."""

from dataclasses import replace

import numpy as np
import pytest
import sfm_rendered as rendered

from deblurgs.sfm import diagnose, features, parallax
from deblurgs.sfm.diagnose import Evidence, Reading
from deblurgs.sfm.parallax import MatchedPair


def reading(baseline: float = 2.0, count: int = 8) -> Reading:
    """Cameras on a line of the given length, looking at points 4 to 6 units away, all seen by all."""
    rng = np.random.default_rng(0)
    centers = np.zeros((count, 3))
    centers[:, 0] = np.linspace(-baseline / 2, baseline / 2, count)
    points = rng.uniform([-1, -1, 4], [1, 1, 6], (60, 3))
    tracks = np.array([(f, p) for f in range(count) for p in range(60)])
    return Reading(centers, np.full(count, np.nan), points, tracks, 0.8, (1.1,), 640)


def test_triangulation_angle_of_a_known_triangle() -> None:
    centers = np.array([[-1.0, 0, 0], [1.0, 0, 0], [0, 0, 0]])
    points = np.array([[0, 0, 1.0], [0, 0, 10.0]])
    tracks = np.array([(0, 0), (1, 0), (2, 0), (2, 1)])
    assert diagnose.triangulation_angles(centers, points, tracks) == pytest.approx([90.0, 0.0])


def test_a_healthy_reading_has_no_problems() -> None:
    health = diagnose.examine(reading())
    assert health.problems == () and 15 < health.median_triangulation_deg < 40


def matched(poses: list[np.ndarray], noise_px: float, seed: int = 0) -> list[MatchedPair]:
    """Noisy projections of random points into pairs of cameras, f = 300 px."""
    rng = np.random.default_rng(seed)
    points = rng.uniform([-2, -1.5, 3], [2, 1.5, 7], (200, 3))
    places = []
    for pose in poses:
        x = points @ pose[:3, :3].T + pose[:3, 3]
        places.append(300 * x[:, :2] / x[:, 2:] + rng.normal(0, noise_px, (200, 2)))
    return [MatchedPair(places[i], places[j], 320) for i in range(len(poses)) for j in range(i)]


@pytest.mark.parametrize("noise_px", [0.2, 0.6])
def test_turning_is_told_from_moving(noise_px: float) -> None:
    turning = parallax.rotation_residual_px(matched(rendered.turns(6), noise_px))
    moving = parallax.rotation_residual_px(matched(rendered.arc(6), noise_px))
    assert turning < 2.5 * noise_px and moving > 10
    # Steps of 2 % of the distance to the nearest points are parallax enough.
    little = []
    for i, pose in enumerate(rendered.turns(6)):
        shifted = pose.copy()
        shifted[0, 3] += 0.06 * i
        little.append(shifted)
    assert parallax.rotation_residual_px(matched(little, noise_px)) > turning + 0.5
    assert parallax.motion_px(matched(rendered.turns(6), noise_px)) > 10


def test_no_parallax_is_a_problem_however_good_the_model_looks() -> None:
    assert any("no parallax" in p for p in diagnose.examine(reading(), 0.8).problems)
    assert any("no parallax" in p for p in diagnose.examine(replace(reading(), error_px=1.2), 2.0).problems)
    assert diagnose.examine(reading(), 5.0).problems == ()


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (reading(baseline=0.05), "no parallax"),
        (replace(reading(), error_px=3.1), "reprojection error"),
        (replace(reading(), error_px=float("nan")), "reprojection error"),
        (replace(reading(), focal_ratios=(1.0, 7.0)), "focal length"),
        (replace(reading(), focal_ratios=(0.1,)), "focal length"),
        (replace(reading(), tracks=reading().tracks[::8]), "sees only"),
        (replace(reading(), points=np.zeros((0, 3)), tracks=np.zeros((0, 2), np.int64)), "only 0 points"),
    ],
)
def test_each_problem_is_found(broken: Reading, said: str) -> None:
    assert any(said in p for p in diagnose.examine(broken).problems)


def test_a_jumping_video_path_is_found_and_photos_may_jump() -> None:
    smooth = reading(count=20)
    jumping = smooth.centers.copy()
    jumping[::3, 1] += 3.0
    times = np.arange(20) / 30
    assert diagnose.path_jump_share(smooth.centers, times) == 0
    assert diagnose.path_jump_share(jumping, np.full(20, np.nan)) == 0
    # A third of the frames out of place makes two steps in three jumps, so a jump is the usual step: the check
    # only sees what is rare, and one frame in five is.
    rare = smooth.centers.copy()
    rare[::5, 1] += 3.0
    assert diagnose.path_jump_share(rare, times) > diagnose.MAX_JUMP_SHARE


def test_disagreement_ignores_similarities_and_measures_the_rest() -> None:
    poses = np.array(rendered.arc(9))
    angle = np.radians(50)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    moved = poses.copy()
    # x_new = 2.5 R x + t changes camera_from_world = [Q | q] into [Q R^T | 2.5 q - Q R^T t].
    moved[:, :3, :3] = poses[:, :3, :3] @ turn.T
    moved[:, :3, 3] = 2.5 * poses[:, :3, 3] - moved[:, :3, :3] @ [1.0, -2.0, 3.0]
    first, second = (dict(zip("abcdefghi", p, strict=True)) for p in (poses, moved))
    compared = diagnose.disagreement(first, second)
    assert compared is not None and compared == pytest.approx((0, 0), abs=1e-4)
    roll = np.array([[np.cos(0.3), -np.sin(0.3), 0], [np.sin(0.3), np.cos(0.3), 0], [0, 0, 1]])
    bent = dict(first)
    for name in "ace":
        bent[name] = np.block([[roll @ first[name][:3, :3], first[name][:3, 3:]], [np.eye(4)[3:]]])
    compared = diagnose.disagreement(first, bent)
    assert compared is not None and 4 < compared[0] < 18
    assert diagnose.disagreement(first, {"a": poses[0]}) is None


def test_floor() -> None:
    assert diagnose.floor_problem(3, 10) is None
    assert "2 of 4" in (diagnose.floor_problem(2, 4) or "")
    assert "29 of 100" in (diagnose.floor_problem(29, 100) or "")


EVIDENCE = Evidence(
    frames=tuple("abcdef"),
    keypoints=dict.fromkeys("abcdef", 500),
    pairs=(("a", "b"), ("b", "c"), ("c", "d"), ("d", "e"), ("e", "f")),
    motion_px=40.0,
    parallax_px=12.0,
    angle_deg=float("nan"),
    problems=(),
)


@pytest.mark.parametrize(
    ("evidence", "said"),
    [
        (replace(EVIDENCE, keypoints={"a": 3, "b": 900}), "4 of 6 images have 0 keypoints, 5 fewer"),
        (replace(EVIDENCE, keypoints=dict.fromkeys("abcdef", 0)), "6 of 6 images have 0 keypoints"),
        (replace(EVIDENCE, pairs=()), "none of the 6 frames"),
        (
            replace(EVIDENCE, pairs=(("a", "b"), ("c", "d"))),
            "only 2 of 6 frames share matches (groups of 2, 2, 1, 1)",
        ),
        (replace(EVIDENCE, motion_px=0.2), "did not move (median motion"),
        (replace(EVIDENCE, parallax_px=0.71), "turning explains all but 0.71 px"),
        (replace(EVIDENCE, problems=("only 3 points",)), "only 3 points"),
    ],
)
def test_failures_are_told_apart(evidence: Evidence, said: str) -> None:
    text = diagnose.explain_failure(evidence)
    assert said in text and text.rstrip().endswith(".")


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        (EVIDENCE, False),
        (replace(EVIDENCE, keypoints={"a": 3, "b": 900}), True),
        (replace(EVIDENCE, pairs=()), True),
        (replace(EVIDENCE, motion_px=0.2), True),
        (replace(EVIDENCE, parallax_px=0.7), True),
    ],
)
def test_no_further_settings_are_tried_where_the_capture_is_to_blame(
    evidence: Evidence, expected: bool
) -> None:
    assert diagnose.hopeless(evidence) is expected


def test_cameras_that_explain_few_matches_are_not_believed() -> None:
    assert not diagnose.examine(reading(), 10.0, 0.86).problems
    assert any("explain only 39%" in p for p in diagnose.examine(reading(), 10.0, 0.39).problems)


def test_reasons_of_single_frames() -> None:
    keypoints, pairs = {"a": 400, "b": 2, "c": 300, "d": 200}, [("a", "x"), ("a", "y")]
    assert "could not read" in diagnose.frame_reason("z", keypoints, pairs, {})
    assert "2 keypoints" in diagnose.frame_reason("b", keypoints, pairs, {})
    assert "separate model of 7" in diagnose.frame_reason("c", keypoints, pairs, {"c": 7})
    assert "no matches" in diagnose.frame_reason("d", keypoints, pairs, {})
    assert "matched with 2 frames" in diagnose.frame_reason("a", keypoints, pairs, {})


def test_pairs_of_long_captures_are_few_connected_and_close_loops() -> None:
    assert features.image_pairs([str(i) for i in range(150)]) is None
    names = [f"{i:04d}" for i in range(600)]
    pairs = features.image_pairs(names)
    assert pairs is not None and len(set(pairs)) == len(pairs) < 12_000
    assert all(a < b for a, b in pairs)
    assert all((names[i], names[i + g]) in pairs for i in (0, 300, 589) for g in range(1, 11))
    assert any(a < "0050" and b > "0550" for a, b in pairs)
    assert len(diagnose.group_sizes(names, pairs)) == 1
