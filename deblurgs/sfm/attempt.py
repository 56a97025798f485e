"""One rung of the ladder: features, matches, mapping, and what came out. Runs in the SfM child.

A finished attempt is kept on disk and found again, so that an interrupted climb, or one that had to wait for restored
copies of the frames, does not repeat it.
"""

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from deblurgs.sfm import colmap, diagnose, parallax, support
from deblurgs.sfm.features import features_and_matches, fingerprint, joined_features
from deblurgs.sfm.rungs import FORGIVING
from deblurgs.sfm.staging import FrameFile, Settings


@dataclass
class Candidate:
    """A model that a rung found. `elsewhere`: frames of its separate smaller models -> frames in that model.
    `entry`: its line in sfm.json."""

    model: colmap.Model
    settings: Settings
    database: Path
    health: diagnose.Health
    elsewhere: dict[str, int]
    entry: dict[str, Any]


def attempt(
    frames: Sequence[FrameFile],
    images: Path,
    folder: Path,
    number: int,
    settings: Settings,
    say: Callable[[str], None],
) -> Candidate | dict[str, Any]:
    """The largest model of one rung, or the report entry of a rung that found none. Works in `folder`."""
    own = folder / f"rung{number}"
    if settings.parts:
        database, extract_s, match_s = joined_features(frames, images, folder, settings, say)
    else:
        database, extract_s, match_s = features_and_matches(
            frames, images, folder / settings.features, settings, say
        )
    known = _read(own, frames, settings, database)
    if known is not None:
        return known
    begun = time.monotonic()
    entry = _entry(frames, settings, database)
    models: list[colmap.Model] = []
    if entry["verified_pairs"]:
        say(f"SfM {settings.name}: mapping")
        models = colmap.map_images(database, images, _fresh(own / "models"), settings)
    seconds = {"extract": round(extract_s, 2), "match": round(match_s, 2)}
    if not models:
        seconds["map"] = round(time.monotonic() - begun, 2)
        entry.update(registered=0, points=0, other_models=[], seconds=seconds, why="no model")
        return entry
    model, strict = models[0], models[0].num_reg_images()
    # The global mapper has no start to go on from, and forgiving settings have been used up.
    mapper = {**settings.mapper, **FORGIVING}
    if strict < len(frames) and mapper != dict(settings.mapper) and settings.mapping == "incremental":
        forgiving = replace(settings, mapper=mapper)
        model = colmap.resume_mapping(model, database, images, _fresh(own / "rescue"), forgiving)
    health = _health(frames, database, model)
    seconds["map"] = round(time.monotonic() - begun, 2)
    entry.update(
        registered=model.num_reg_images(),
        rescued=model.num_reg_images() - strict,
        points=model.num_points3D(),
        error_px=round(health.error_px, 4),
        other_models=[m.num_reg_images() for m in models[1:]],
        health=health.as_dict(),
        seconds=seconds,
    )
    say(f"SfM {settings.name}: {health.registered}/{len(frames)} frames, error {health.error_px:.2f} px")
    elsewhere: dict[str, int] = {}
    for other in models[1:]:
        for name in colmap.poses(other):
            elsewhere.setdefault(name, other.num_reg_images())
    candidate = Candidate(model, settings, database, health, elsewhere, entry)
    _write(own, frames, candidate)
    return candidate


def _entry(frames: Sequence[FrameFile], settings: Settings, database: Path) -> dict[str, Any]:
    keypoints = colmap.keypoint_counts(database)
    return {
        "rung": settings.name,
        "options": {
            "sift": dict(settings.sift),
            "matching": dict(settings.matching),
            "mapper": dict(settings.mapper),
            "triangulation": dict(settings.triangulation),
            "mapping": settings.mapping,
            "restored": settings.restored,
            "together": [part.name for part in settings.parts],
        },
        "max_image_size": settings.max_image_size,
        "keypoints_median": float(np.median([keypoints.get(f.staged, 0) for f in frames])),
        "verified_pairs": len(colmap.verified_pairs(database)),
        "kept": False,
    }


def _health(frames: Sequence[FrameFile], database: Path, model: colmap.Model) -> diagnose.Health:
    residual = parallax.rotation_residual_px(colmap.matched_pairs(database))
    explained = support.explained_share(colmap.explained_pairs(database, model))
    return diagnose.examine(colmap.reading(model, frames), residual, explained)


def _key(frames: Sequence[FrameFile], settings: Settings) -> str:
    parts = [fingerprint(frames, part) for part in settings.parts]
    mapping = [dict(settings.mapper), dict(settings.triangulation), settings.mapping]
    return json.dumps([fingerprint(frames, settings), parts, *mapping])


def _write(folder: Path, frames: Sequence[FrameFile], candidate: Candidate) -> None:
    """The attempt's files; attempt.json last, so that its presence means they are complete."""
    candidate.model.write(_fresh(folder / "model"))
    data = {
        "key": _key(frames, candidate.settings),
        "elsewhere": candidate.elsewhere,
        "entry": candidate.entry,
    }
    (folder / "attempt.json").write_text(json.dumps(data), encoding="utf-8")


def _read(folder: Path, frames: Sequence[FrameFile], settings: Settings, database: Path) -> Candidate | None:
    try:
        data = json.loads((folder / "attempt.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(data, dict) or data.get("key") != _key(frames, settings):
        return None
    model = colmap.read_model(folder / "model")
    return Candidate(
        model, settings, database, _health(frames, database, model), data["elsewhere"], data["entry"]
    )


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
