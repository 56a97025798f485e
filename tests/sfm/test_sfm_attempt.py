"""One rung on a small rendered capture: joined features, and finished attempts found again."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap
import pytest
import sfm_rendered as rendered

from deblurgs.sfm import colmap, features
from deblurgs.sfm.attempt import Candidate, attempt
from deblurgs.sfm.ladder import climb
from deblurgs.sfm.rungs import RUNGS, TOGETHER
from deblurgs.sfm.staging import FrameFile, stage_images

_PARTS = (RUNGS[1], RUNGS[0])
_SETTINGS = replace(TOGETHER, parts=_PARTS, sift=_PARTS[0].sift)


def test_features_of_two_attempts_are_joined_and_finished_work_is_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poses = rendered.arc(5)
    images = [rendered.render(p, rendered.pinhole_rays()) for p in poses]
    frames = [
        FrameFile(f"f{i}.png", f.name, f.path, f.width, f.height)
        for i, f in enumerate(rendered.save(images, tmp_path / "in"))
    ]
    stage, work = tmp_path / "stage", tmp_path / "work"
    stage_images(frames, stage)
    found = attempt(frames, stage, work, 4, _SETTINGS, lambda _: None)
    assert isinstance(found, Candidate) and found.health.registered == 5
    names = [f.staged for f in frames]
    true = np.array(poses)
    degrees, _ = rendered.pose_errors(np.array([colmap.poses(found.model)[n] for n in names]), true)
    assert degrees < 3.0

    joined, *parts = (work / f / "database.db" for f in ("together", *(p.features for p in _PARTS)))
    counts = [colmap.keypoint_counts(d) for d in (joined, *parts)]
    assert all(counts[0][n] == counts[1][n] + counts[2][n] for n in names)
    matches = [sum(p.num_inliers for p in colmap.verified_pairs(d)) for d in (joined, *parts)]
    assert matches[0] > max(matches[1:])
    with pycolmap.Database.open(joined) as a, pycolmap.Database.open(parts[0]) as b:
        for image in b.read_all_images():
            assert a.read_image(image.image_id).name == image.name
            own = b.read_keypoints(image.image_id)[:, :2]
            assert np.array_equal(a.read_keypoints(image.image_id)[: len(own), :2], own)

    def again(*_: object) -> None:
        raise AssertionError("finished work was done again")

    for module, name in (
        (colmap, "extract"),
        (colmap, "match"),
        (colmap, "join_databases"),
        (colmap, "map_images"),
    ):
        monkeypatch.setattr(module, name, again)
    reread = attempt(frames, stage, work, 4, _SETTINGS, lambda _: None)
    assert isinstance(reread, Candidate) and reread.entry["rung"] == "together"
    assert reread.health.registered == 5 and reread.elsewhere == found.elsewhere
    with pytest.raises(AssertionError, match="again"):
        attempt(frames[:4], stage, work, 4, _SETTINGS, lambda _: None)
    assert features.image_pairs(names) is None


def test_a_climb_that_begins_with_long_blur_ends_with_what_the_joint_model_confirms(tmp_path: Path) -> None:
    images = [rendered.render(p, rendered.pinhole_rays()) for p in rendered.arc(5)]
    saved = rendered.save(images, tmp_path / "in")
    frames = [
        FrameFile(f"f{i}.png", f.name, f.path, f.width, f.height, path_px=0.1 * f.width)
        for i, f in enumerate(saved)
    ]
    said: list[str] = []
    found = climb(frames, tmp_path / "work", 1000, 600.0, said.append)
    assert found is not None and found.health.registered == 5
    assert [t["rung"] for t in found.tried] == ["pooled, upright", "together"]
    # The common measure needs the finest features, which only the second of these two looked for.
    assert all(t["epipolar_px"] < 2.0 for t in found.tried)
    assert any("tried first" in text for text in said) and not found.warnings
