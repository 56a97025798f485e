"""The blur score, the motion path and the choice of frames."""

import json
from pathlib import Path

import numpy as np
import pytest
from capture_media import moving, save_photos, world
from hypothesis import given, settings
from hypothesis import strategies as st

from deblurgs.capture import triage


def grey(pixels: np.ndarray) -> np.ndarray:
    return (pixels.mean(axis=-1) / 255.0).astype(np.float32)


def crete(picture: np.ndarray, axis: int) -> float:
    """The blur measure along one axis, pixel by pixel from the paper's definition."""
    lines = picture.T if axis == 0 else picture
    total = kept = 0.0
    for line in lines.astype(np.float64):
        padded = np.r_[[line[0]] * 4, line, [line[-1]] * 4]
        blurred = [padded[i : i + 9].mean() for i in range(len(line))]
        for i in range(1, len(line)):
            before, after = abs(line[i] - line[i - 1]), abs(blurred[i] - blurred[i - 1])
            total += before
            kept += before - max(before - after, 0.0)
    return kept / total


def test_sharpness_is_the_published_measure() -> None:
    picture = grey(world(40, 50))
    expected = 1.0 - max(crete(picture, 0), crete(picture, 1))
    assert triage.sharpness(picture) == pytest.approx(expected, abs=1e-5)


def test_sharpness_falls_with_blur_along_either_axis_and_ignores_contrast() -> None:
    picture = grey(world())
    base = triage.sharpness(picture)
    assert triage.sharpness(0.25 * picture + 0.4) == pytest.approx(base, abs=1e-3)
    for axis in (0, 1):
        scores = [base]
        for length in (3, 7, 15):
            smeared = np.mean([np.roll(picture, s, axis) for s in range(length)], axis=0)
            scores.append(triage.sharpness(smeared.astype(np.float32)))
        assert scores == sorted(scores, reverse=True) and scores[0] - scores[-1] > 0.2
    assert triage.sharpness(np.full((40, 40), 0.5, np.float32)) == 0.0


@pytest.mark.parametrize("shift", [(0, 3), (5, 0), (-4, 2), (0, 11), (0.5, 1.5)])
def test_motion_is_measured_in_picture_widths(shift: tuple[float, float]) -> None:
    picture = grey(world(400, 640))[:180, :320]
    spectrum = np.fft.fft2(picture)
    fy, fx = np.fft.fftfreq(180)[:, None], np.fft.fftfreq(320)[None]
    moved = np.fft.ifft2(spectrum * np.exp(-2j * np.pi * (fy * shift[0] + fx * shift[1]))).real
    path = triage.MotionPath()
    path.push(picture)
    assert path.push(moved.astype(np.float32)) * 320 == pytest.approx(np.hypot(*shift), abs=0.25)


def test_zoom_and_rotation_count_as_motion() -> None:
    from PIL import Image

    image = Image.fromarray((grey(world(400, 640)) * 255).astype(np.uint8))
    for transform in (image.resize((704, 440)).crop((32, 20, 672, 420)), image.rotate(4)):
        path = triage.MotionPath()
        path.push(np.asarray(image.crop((160, 100, 480, 280)), np.float32) / 255)
        path.push(np.asarray(transform.crop((160, 100, 480, 280)), np.float32) / 255)
        assert path.positions[1] * 320 > 2.0
        assert not path.is_static


def test_noise_of_a_still_camera_does_not_add_up() -> None:
    rng = np.random.default_rng(0)
    picture = grey(world(200, 360))[:180, :320]
    path = triage.MotionPath()
    for _ in range(60):
        path.push((picture + rng.normal(0, 0.03, picture.shape)).astype(np.float32))
    assert path.is_static and max(path.positions) * 320 < 0.5


def test_slow_motion_is_not_lost() -> None:
    """0.2 px per picture is below what one step could tell from noise; the sum must still be right."""
    picture = grey(world(200, 400))[:180]
    spectrum = np.fft.fft2(picture)
    fx = np.fft.fftfreq(400)[None]
    path = triage.MotionPath()
    for index in range(101):
        moved = np.fft.ifft2(spectrum * np.exp(-2j * np.pi * fx * 0.2 * index)).real[:, 40:360]
        path.push(moved.astype(np.float32))
    assert path.positions[-1] * 320 == pytest.approx(20.0, rel=0.15)
    assert not path.is_static


def test_blank_pictures_do_not_move_and_are_not_called_static() -> None:
    path = triage.MotionPath()
    for _ in range(4):
        path.push(np.full((90, 160), 0.5, np.float32))
    assert path.positions == [0.0] * 4 and not path.is_static


def test_unrelated_pictures_are_far_apart() -> None:
    path = triage.MotionPath()
    for seed in range(3):
        path.push(grey(world(180, 320, seed=seed)))
    assert path.positions == pytest.approx([0.0, 0.25, 0.5])


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 0.3), st.floats(0, 1)), min_size=1, max_size=120),
    st.integers(1, 40),
)
def test_choice_keeps_its_promises(pictures: list[tuple[float, float]], budget: int) -> None:
    positions = list(np.cumsum([step for step, _ in pictures]))
    scores = [score for _, score in pictures]
    chosen = triage.choose_frames(positions, scores, budget)
    assert 1 <= len(chosen) <= min(budget, len(pictures))
    assert chosen == sorted(set(chosen)) and chosen[0] >= 0 and chosen[-1] < len(pictures)
    assert chosen == triage.choose_frames(positions, scores, budget)


def test_even_coverage_and_sharpest_of_each_part() -> None:
    rng = np.random.default_rng(2)
    positions = list(np.linspace(0, 3, 300))
    scores = list(rng.random(300))
    chosen = triage.choose_frames(positions, scores, 30)
    assert len(chosen) == 30
    assert max(np.diff(np.array(positions)[chosen])) < 2.01 * 3 / 30
    assert np.mean(np.array(scores)[chosen]) > 0.8
    assert positions[chosen[0]] < 0.1 and positions[chosen[-1]] > 2.9


def test_time_spent_does_not_matter_only_motion() -> None:
    positions = [0.0] * 200 + list(np.linspace(0, 2, 40)) + [2.0] * 200
    chosen = triage.choose_frames(positions, [0.5] * 440, 20)
    assert sum(index < 200 for index in chosen) <= 2 and sum(index >= 240 for index in chosen) <= 2
    assert len(chosen) >= 18


def test_gaps_leave_the_budget_to_the_rest() -> None:
    """Ten jumps of half a width with clusters between: equal parts of the path would be empty mostly."""
    positions = [0.5 * jump + 0.002 * i for jump in range(10) for i in range(20)]
    chosen = triage.choose_frames(positions, [0.5] * 200, 40)
    assert len(chosen) >= 20
    assert {index // 20 for index in chosen} == set(range(10))


def test_hardly_any_motion_is_spread_over_time() -> None:
    chosen = triage.choose_frames([0.0] * 90, [0.5] * 90, 60)
    assert len(chosen) == 12 and max(np.diff(chosen)) <= 15
    assert moving(1)[0].shape == (96, 128, 3)


@pytest.mark.parametrize(("count", "scores", "budget"), [(3, [1.0], 5), (1, [1.0], 0)])
def test_wrong_arguments(count: int, scores: list[float], budget: int) -> None:
    with pytest.raises(ValueError, match="need one score"):
        triage.choose_frames([0.0] * count, scores, budget)


def test_verdicts_come_back_with_the_frames_and_may_be_missing_or_damaged(tmp_path: Path) -> None:
    from deblurgs.capture.dataset import load_capture
    from deblurgs.capture.source import ingest
    from deblurgs.log import Log
    from deblurgs.stages.triage import triage as judge

    save_photos(tmp_path / "in", moving(4))
    log = Log(quiet=True)
    assert all(f.blur is None for f in ingest(tmp_path / "in", tmp_path / "out", log=log).frames)
    rows = judge(tmp_path / "out", log)
    frames = load_capture(tmp_path / "out").frames
    assert [f.blur.percentile for f in frames if f.blur] == pytest.approx(
        [r.percentile for r in rows], abs=1e-4
    )
    known = frames[0].blur
    assert known is not None and known.extent_px is not None and known.path_px is not None
    assert known.path_px == pytest.approx(known.extent_px / 0.55)
    path = tmp_path / "out" / "triage.json"
    record = json.loads(path.read_text())
    record["frames"][0]["extent_px"] = None
    record["frames"][1]["percentile"] = 7
    record["frames"][2] = "x"
    path.write_text(json.dumps(record))
    blurs = [f.blur for f in load_capture(tmp_path / "out").frames]
    assert blurs[0] is not None and blurs[0].path_px is None and blurs[3] is not None
    assert blurs[1] is None and blurs[2] is None
    for damage in (b"", b"[]", b"{", b'{"frames": 3}'):
        path.write_bytes(damage)
        assert all(f.blur is None for f in load_capture(tmp_path / "out").frames)
    path.unlink()
    assert len(load_capture(tmp_path / "out").frames) == 4


def test_of_a_sharp_and_a_blurred_photo_of_one_place_the_sharp_one_is_chosen(tmp_path: Path) -> None:
    from deblurgs.capture.source import ingest
    from deblurgs.log import Log

    windows = moving(13, step=6)
    blurred = [np.mean([w.astype(float) for w in windows[i : i + 2]], 0).astype(np.uint8) for i in range(12)]
    pictures = [p for pair in zip(blurred, windows[:12], strict=True) for p in pair]
    save_photos(tmp_path / "in", pictures)
    capture = ingest(tmp_path / "in", tmp_path / "out", max_frames=6, log=Log(quiet=True))
    numbers = [int(f.name.removeprefix("img").removesuffix(".png")) for f in capture.frames]
    assert len(numbers) >= 4 and all(number % 2 == 0 for number in numbers)
    rows = json.loads((tmp_path / "out" / "triage.json").read_text())["candidates"]
    assert all(a["detail"] < b["detail"] for a, b in zip(rows[::2], rows[1::2], strict=True))
