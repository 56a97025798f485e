import json

import pytest

from deblurgs.config import TrainConfig, from_dict, preset, to_dict


@pytest.mark.parametrize("name", ["fast", "default", "best"])
def test_presets_are_consistent_and_survive_json(name) -> None:
    config = preset(name)
    assert len(config.scales) == len(config.steps)
    assert from_dict(TrainConfig(), json.loads(json.dumps(to_dict(config)))) == config


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
