"""Shutter timing, gains, noise, response and the files of synthetic captures, without a renderer."""

import json
from pathlib import Path

import numpy as np
import pytest
from make_scenes import parse

from scenes.generator import manifest, sensor, textures
from scenes.generator.plan import Plan, View
from scenes.generator.sensor import Noise
from scenes.generator.shutter import Shutter, row_weights


def test_rows_open_one_after_the_other_around_the_middle_row() -> None:
    shift = Shutter(0.01, 0.04).row_shift_s(5)
    assert np.allclose(shift, [-0.016, -0.008, 0.0, 0.008, 0.016])
    assert np.allclose(Shutter(0.01, 0.0).row_shift_s(5), 0.0)


def test_row_weights_are_the_overlap_of_each_row_with_each_pose() -> None:
    weights = row_weights(Shutter(0.02, 0.06), height=8, count=801)
    assert np.allclose(weights.sum(axis=1), 1.0)
    times = Shutter(0.02, 0.06).open_times(0.0, 801)
    assert np.allclose(weights @ times, Shutter(0.02, 0.06).row_shift_s(8), atol=1e-5)
    assert np.allclose((weights > 0).mean(axis=1), 0.25, atol=0.01), (
        "each row is open for a quarter of the time"
    )
    everywhere = row_weights(Shutter(0.02), height=8, count=5)
    assert np.allclose(everywhere, everywhere[0])


def test_gains_have_the_gauge_that_truth_needs() -> None:
    gains = sensor.frame_gains(30, 0.5, 0.2, smooth=False, rng=np.random.default_rng(1))
    assert np.allclose(np.log2(gains).mean(axis=0), 0.0)
    assert 0.3 < np.log2(gains).mean(axis=1).std() < 0.7
    assert np.allclose(sensor.frame_gains(4, 0.0, 0.0, False, np.random.default_rng(1)), 1.0)


def test_gains_of_a_video_drift_slowly() -> None:
    def roughness(smooth: bool) -> float:
        stops = np.log2(sensor.frame_gains(40, 0.5, 0.0, smooth, np.random.default_rng(2))[:, 0])
        return float(np.abs(np.diff(stops)).mean() / stops.std())

    assert roughness(True) < 0.4 * roughness(False)


def test_noise_has_the_variance_that_it_claims() -> None:
    noise = Noise(full_well_e=500.0, read_noise_e=6.0)
    for light in (0.0, 0.02, 0.5):
        seen = noise.apply(np.full((200, 200, 3), light), np.random.default_rng(3))
        assert seen.mean() == pytest.approx(light, abs=3e-4)
        assert seen.var() == pytest.approx(light / 500 + (6 / 500) ** 2, rel=0.03)
    still = np.full((2, 2, 3), 0.5)
    assert np.array_equal(Noise().apply(still, np.random.default_rng(3)), still)


@pytest.mark.parametrize("response", sensor.RESPONSES)
def test_responses_are_monotone_and_keep_black_and_white(response: str) -> None:
    curve = sensor.respond(np.linspace(0.0, 1.0, 1001), response)
    assert curve[0] == pytest.approx(0.0, abs=1e-9) and curve[-1] == pytest.approx(1.0)
    assert (np.diff(curve) > 0).all()
    assert sensor.respond(np.array([-1.0, 2.0]), response).tolist() == pytest.approx([0.0, 1.0])


def test_the_srgb_response_is_the_standard_one() -> None:
    assert sensor.respond(np.array([0.5, 0.002]), "srgb") == pytest.approx([0.735357, 0.02584], abs=1e-5)
    with pytest.raises(ValueError, match="unknown response"):
        sensor.respond(np.zeros(1), "film")


def test_procedural_textures_have_detail_and_follow_the_seed() -> None:
    names = ("plaster", "wood", "cloth", "terrazzo", "stone", "foliage", "print_")
    for make in (getattr(textures, name) for name in names):
        image = make(np.random.default_rng(7))
        assert image.dtype == np.uint8 and image.ndim == 3
        fine = np.abs(np.diff(image.astype(int), axis=1)).mean()
        coarse = image.reshape(8, image.shape[0] // 8, 8, -1, 3).mean(axis=(1, 3)).std()
        assert fine > 1.5 and coarse > 1.5, f"{make.__name__}: fine {fine:.1f}, coarse {coarse:.1f}"
        assert np.array_equal(image, make(np.random.default_rng(7)))


def test_cameras_json_holds_the_truth(tmp_path: Path) -> None:
    mid = np.eye(4)
    path = np.tile(mid, (33, 1, 1))
    plan = Plan(
        [View("000", "train", mid, path, path, 0.05, 6.0), View("001", "test", mid)],
        Shutter(0.06, 0.05),
        0.01,
    )
    gains = np.array([[1.1, 1.0, 0.9]])
    value = manifest.as_json(plan, 64, 48, 67.2, gains, Noise(900.0, 2.0), ".jpg", {"seed": 3})
    manifest.write(tmp_path / "cameras.json", value)
    read = json.loads((tmp_path / "cameras.json").read_text())
    train, test = read["frames"]
    assert (train["name"], test["name"]) == ("000.jpg", "001.png")
    assert train["gains"] == [1.1, 1.0, 0.9] and train["time_s"] == 0.05 and train["exposure_s"] == 0.06
    assert np.array(train["subframes"]).shape == (33, 4, 4) == np.array(train["scan"]).shape
    assert "subframes" not in test
    assert (read["w"], read["cx"], read["fl_x"]) == (64, 32.0, 67.2)
    assert read["readout_s"] == 0.05 and read["noise"] == {"full_well_e": 900.0, "read_noise_e": 2.0}
    assert "middle" in read["convention"].lower()


def test_options_of_the_tool() -> None:
    clip = ["--video", "--fps", "20", "--duty", "0.4", "--readout", "0.5"]
    settings, output, _ = parse(["--scene", "yard", "--seed", "4", "--output", "x", "--size", "64x48", *clip])
    assert output == Path("x") and settings.size == (64, 48)
    assert settings.exposure_s == pytest.approx(0.02) and settings.readout_s == pytest.approx(0.025)
    settings, *_ = parse(["--scene", "desk", "--seed", "4", "--output", "x", "--readout", "0.03s"])
    assert settings.readout_s == pytest.approx(0.03) and settings.video is None


@pytest.mark.parametrize(
    "wrong",
    [
        "--readout 0.5",
        "--readout fast",
        "--size 64",
        "--video --duty 1.5",
        "--jpeg 0",
        "--views 2",
        "--scene attic",
    ],
)
def test_wrong_options_are_refused(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse(["--scene", "desk", "--seed", "1", "--output", "x", *wrong.split()])
    assert stopped.value.code == 2
    assert wrong.split()[0] in capsys.readouterr().err
