import json
import re

import pytest

from deblurgs.cli.entry import parse
from deblurgs.config import TrainConfig, TrajectoryConfig, from_dict, preset, to_dict


@pytest.mark.parametrize("name", ["fast", "default", "best"])
def test_presets_are_consistent_and_survive_json(name) -> None:
    config = preset(name)
    assert len(config.scales) == len(config.steps)
    assert from_dict(TrainConfig(), json.loads(json.dumps(to_dict(config)))) == config


def test_work_is_counted_in_pixels_and_not_in_steps() -> None:
    config = TrainConfig(scales=(0.25, 0.5, 1.0), steps=(600, 600, 600))
    assert [config.work_done(step) for step in (-1, 0, 1800, 2000)] == [0, 0, 1, 1]
    assert config.work_done(600) == pytest.approx(1 / 21)
    assert config.work_done(1500) == pytest.approx((1 + 4 + 8) / 21)
    finer = TrainConfig(scales=(0.5, 1.0), steps=(100, 100), train_scale=4)
    assert finer.work_done(100) == pytest.approx(0.25 / 8.25)


def test_only_differences_are_saved() -> None:
    base = preset("default")
    changed = from_dict(base, {"seed": 5, "trajectory": {"kind": "cubic"}})
    assert to_dict(changed, base) == {"seed": 5, "trajectory": {"kind": "cubic"}}


@pytest.mark.parametrize(
    "data", [{"sede": 1}, {"seed": "one"}, {"trajectory": 3}, {"trajectory": {"knots": 3}}]
)
def test_wrong_settings_are_named(data) -> None:
    with pytest.raises(ValueError, match=r"setting"):
        from_dict(preset("default"), data)


@pytest.mark.parametrize(
    ("flag", "values"),
    [
        ("steps", ["100"]),  # the preset has three scales
        ("steps", ["10", "-1", "10"]),
        ("scales", ["0", "0.5", "1"]),
        ("downscale", ["0"]),
        ("max-side", ["0"]),
        ("sh-degree", ["4"]),
        ("means-lr", ["0"]),
        ("ssim-weight", ["nan"]),
        ("seed", ["-1"]),
        ("trajectory.lr", ["0"]),
        ("trajectory.num-knots", ["1"]),
        ("trajectory.min-views", ["16"]),
        ("trajectory.px-per-view", ["inf"]),
        ("density.every", ["0"]),
        ("density.max-gaussians", ["0"]),
    ],
)
def test_impossible_settings_are_wrong_usage_and_named(flag, values, capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(["train", "somewhere", f"--train.{flag}", *values])
    assert caught.value.code == 2
    # The message stands in a frame whose lines may be broken anywhere.
    said = re.sub(r"[^a-z_]+", "", capsys.readouterr().err)
    name = flag.rpartition(".")[2].replace("-", "_").replace("min_views", "max_views")
    assert f"{name}mustbe" in said


def test_a_number_that_may_be_missing_survives_the_file() -> None:
    for readout in (None, 0.3):
        config = TrainConfig(trajectory=TrajectoryConfig(readout=readout))
        assert from_dict(TrainConfig(), json.loads(json.dumps(to_dict(config)))) == config
    with pytest.raises(ValueError, match="readout"):
        from_dict(TrainConfig(), {"trajectory": {"readout": "soon"}})
