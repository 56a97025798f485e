"""The shipped blur classifier: monotone in blur, indifferent to brightness, and safe against damaged files."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage import data

from deblurgs.errors import UsageError
from deblurgs.restore.classifier import SHIPPED, classifier_from_json, load_classifier, shipped_classifier
from deblurgs.restore.trees import Trees, trees_from_json


def grey_photo() -> np.ndarray:
    return data.coffee()[..., 1].astype(np.float32) / 255


def smeared(grey: np.ndarray, length: int) -> np.ndarray:
    return np.mean([np.roll(grey, step, 1) for step in range(length)], axis=0, dtype=np.float32)


def test_more_blur_means_higher_probability_and_lower_detail() -> None:
    judge = shipped_classifier().judge
    blurs = [judge(smeared(grey_photo(), length)) for length in (1, 2, 3, 4, 6, 8, 12, 20)]
    odds = [blur.probability or 0.0 for blur in blurs]
    # Up to 8 px, more blur is surer blur; beyond it stays sure.
    assert odds[:6] == sorted(odds[:6]) and odds[0] < 0.25 and odds[2] > 0.7 and min(odds[3:]) > 0.8
    assert blurs[0].kind == "sharp" and blurs[0].angle_deg is None
    assert all(blur.kind == "camera motion" for blur in blurs[2:])
    assert all(abs(((blur.angle_deg or 0) + 90) % 180 - 90) < 6 for blur in blurs[4:])
    steps = np.diff([blur.detail for blur in blurs])
    assert max(steps) < -0.1
    extents = [blur.extent_px or 0.0 for blur in blurs]
    assert extents == sorted(extents) and extents[0] < 1.2 and 1.8 < extents[2] < 3.5 and extents[-1] > 5.5


def test_motion_downwards_is_called_so() -> None:
    turned = smeared(np.ascontiguousarray(grey_photo().T), 8).T
    blur = shipped_classifier().judge(np.ascontiguousarray(turned))
    assert blur.kind == "camera motion" and blur.angle_deg == pytest.approx(90, abs=6)


def test_brightness_and_contrast_hardly_matter() -> None:
    judge, grey = shipped_classifier().judge, grey_photo()
    for gain in (0.5, 0.8):
        a, b = judge(grey), judge(gain * grey + 0.9 * (1 - gain))
        assert a.kind == b.kind and abs((a.probability or 0) - (b.probability or 0)) < 0.04
        assert abs(a.detail - b.detail) < 0.015


def test_the_heat_map_shows_where_the_blur_is() -> None:
    grey = grey_photo()
    mixed = np.where(np.arange(grey.shape[1]) < 300, grey, smeared(grey, 12)).astype(np.float32)
    heat = shipped_classifier().judge(mixed).heat
    assert np.nanmean(heat[:, 8:]) > 0.6 and np.nanmean(heat[:, :6]) < 0.25


def test_a_blank_picture_is_called_blank() -> None:
    blur = shipped_classifier().judge(np.full((200, 300), 0.4, np.float32))
    assert blur.kind == "blank" and blur.probability is None and np.isnan(blur.heat).all()


def test_trees_follow_their_splits_and_survive_json() -> None:
    trees = Trees(
        np.array([[0, 1, 0]], np.int32), np.array([[0.5, 2.0, 0.8]], np.float32),
        np.array([[1.0, 2.0, 3.0, 4.0]], np.float32), 10.0,
    )  # fmt: skip
    rows = np.array([[0.4, 1.0], [0.4, 2.0], [0.6, 0.0], [0.9, 0.0], [np.nan, 0.0]])
    assert trees.predict(rows).tolist() == [11.0, 12.0, 13.0, 14.0, 14.0]
    assert trees_from_json(json.loads(json.dumps(trees.as_json())), 2).predict(rows).tolist()[:4] == [
        11,
        12,
        13,
        14,
    ]


def _without(record: dict[str, Any], key: str) -> None:
    del record[key]


@pytest.mark.parametrize(
    "damage",
    [
        lambda r: _without(r, "trees"),
        lambda r: _without(r["trees"], "patch"),
        lambda r: r.update(format="other"),
        lambda r: r["inputs"].reverse(),
        lambda r: r.update(calibration=[float("nan"), 0.0]),
        lambda r: r["trees"]["picture"]["features"][0].__setitem__(0, 10_000),
        lambda r: r["trees"]["picture"]["features"][0].pop(),
        lambda r: r["trees"]["picture"]["leaves"].clear(),
        lambda r: r["trees"]["extent"].update(base="x"),
    ],
)
def test_damaged_trees_are_refused(damage: Any) -> None:
    record = json.loads(SHIPPED.read_text())
    classifier_from_json(copy.deepcopy(record))
    damage(record)
    with pytest.raises(ValueError):
        classifier_from_json(record)


def test_a_damaged_file_is_named(tmp_path) -> None:
    path = tmp_path / "trees.json"
    for content in (b"", b"{}", b"\x80\x04pickle"):
        path.write_bytes(content)
        with pytest.raises(UsageError, match=r"trees\.json"):
            load_classifier(path)


@pytest.mark.parametrize("name", ["bic_video", "synth_desk"])
@pytest.mark.slow
def test_blurred_twins_rank_below_their_sharp_ones(name: str, shared_data: Path) -> None:
    from deblurgs.capture.greys import grey_picture
    from deblurgs.capture.image import read_pixels
    from deblurgs.math.patches import WORKING_SIDE, fine_detail

    def detail(path: Path) -> float:
        return fine_detail(grey_picture("", read_pixels(path), WORKING_SIDE).grey)

    names = sorted(p.name for p in (shared_data / name / "images").iterdir())
    blurred, sharp = (
        np.array([detail(shared_data / name / folder / n) for n in names]) for folder in ("images", "sharp")
    )
    assert (blurred < sharp).all()
    assert (blurred[:, None] < sharp).mean() >= {"bic_video": 0.97, "synth_desk": 0.995}[name]
