"""The cascade of SfM attempts, from the most accurate settings to the most forgiving.

Registered count and reprojection error do not prove correct poses, so a rung's model counts only if it passes the
sanity check of diagnose.py and, where a stricter rung has a sane model too, agrees with it on the common frames.
Runs in the SfM child.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from deblurgs.errors import SfmError
from deblurgs.sfm import colmap, diagnose, parallax
from deblurgs.sfm.staging import FrameFile, Settings, stage_images

ENOUGH_SHARE = 0.95
EXHAUSTIVE_LIMIT = 150
_OVERLAP = 10
_KEYFRAMES = 48
# Lets frames with fewer agreeing points join a model that already stands.
_FORGIVING = {"abs_pose_min_num_inliers": 15, "abs_pose_min_inlier_ratio": 0.15}
# Increase of the squared error per degree of freedom, in units of its variance, that proves lens distortion.
# Measured: 4 to 11 on blurred frames without distortion, 86 and more with (k = 0.06 to 0.09).
_DISTORTION_EVIDENCE = 25.0

# Rung 1: COLMAP's defaults with a lower contrast threshold, the most accurate when everything registers. Rung 2: no
# upsampled octave, which finds mostly noise in blurred frames. Rung 3: descriptors pooled over scales and upright
# (up to about 30 degrees of camera roll), the most forgiving.
RUNGS = (
    Settings("1: fine", sift={"peak_threshold": 0.004, "max_num_features": 2500}),
    Settings("2: first_octave 0", sift={"first_octave": 0, "peak_threshold": 0.002}),
    Settings(
        "3: first_octave 0, pooled, upright",
        sift={"first_octave": 0, "peak_threshold": 0.002, "domain_size_pooling": True, "upright": True},
        mapper=_FORGIVING,
    ),
)


@dataclass(frozen=True)
class Climb:
    """The chosen model and what was tried. `tried` is written to sfm.json as it is."""

    model: colmap.Model
    settings: Settings
    database: Path
    health: diagnose.Health
    tried: list[dict[str, Any]]
    failed: list[tuple[str, str]]
    warnings: list[str]


@dataclass
class _Best:
    model: colmap.Model
    settings: Settings
    database: Path
    health: diagnose.Health
    others: list[colmap.Model]
    entry: dict[str, Any]


def climb(
    frames: Sequence[FrameFile],
    folder: Path,
    max_image_size: int,
    budget_s: float,
    say: Callable[[str], None],
) -> Climb:
    """Try the rungs until at least 95 % of the frames have believable poses.

    Works in `folder`; feature databases of an interrupted run are reused. No rung is begun after `budget_s`
    seconds. Raises SfmError with the diagnosed reason when no rung's model may be believed.
    """
    started = time.monotonic()
    images = folder / "stage"
    stage_images(frames, images)
    tried: list[dict[str, Any]] = []
    warnings: list[str] = []
    problems: list[str] = []
    best: _Best | None = None
    for number, rung in enumerate(RUNGS, start=1):
        if number > 1 and time.monotonic() - started > budget_s:
            warnings.append(f"SfM stopped trying further settings after {budget_s:.0f} s.")
            break
        settings = replace(rung, max_image_size=max_image_size)
        candidate = _attempt(frames, images, folder / f"rung{number}", settings, say)
        tried.append(candidate.entry if isinstance(candidate, _Best) else candidate)
        if not isinstance(candidate, _Best):
            problems.append(str(candidate["why"]))
            continue
        verdict = _verdict(candidate, best, len(frames))
        candidate.entry.update(kept=verdict is None, why=verdict or "")
        if verdict is not None:
            problems.append(verdict)
            say(f"SfM {rung.name}: not used, {verdict}")
            continue
        if best is not None:
            best.entry.update(kept=False, why="a later rung registers more frames")
        best = candidate
        if best.health.registered >= ENOUGH_SHARE * len(frames):
            break
    if best is None:
        evidence = _evidence(frames, folder, len(tried), tried, problems)
        raise SfmError(diagnose.explain_failure(evidence))
    failed = _failures(frames, best)
    return Climb(best.model, best.settings, best.database, best.health, tried, failed, warnings)


def without_needless_distortion(model: colmap.Model) -> tuple[colmap.Model, dict[str, Any]]:
    """Drop the lens distortion parameter unless the observations prove it (an F-test on one parameter).

    On blurred frames k drifts by 0.01 to 0.02 without any distortion there, and every use of it would resample the
    frames for nothing.
    """
    with_k, count = colmap.squared_error(model)
    cameras = model.cameras
    plain = colmap.simplified(model)
    without_k, _ = colmap.squared_error(plain)
    variance = with_k / max(2 * count - 6 * model.num_reg_images() - 3 * model.num_points3D(), 1)
    evidence = (without_k - with_k) / max(variance, 1e-12) / max(len(cameras), 1)
    report = {
        "evidence": round(float(evidence), 2),
        "kept": bool(evidence > _DISTORTION_EVIDENCE),
        "k": [round(float(c.params[3]), 5) for c in cameras.values()],
    }
    return (model if report["kept"] else plain), report


def image_pairs(names: Sequence[str]) -> list[tuple[str, str]] | None:
    """None (all pairs) for up to 150 images; beyond that neighbours, powers of two apart, and keyframe loops.

    Every image meets its next 10 and those 16, 32, 64 ... places on; 48 evenly spaced keyframes all meet each
    other, which closes loops without a vocabulary tree.
    """
    n = len(names)
    if n <= EXHAUSTIVE_LIMIT:
        return None
    gaps = [*range(1, _OVERLAP + 1)]
    gap = 16
    while gap < n:
        gaps.append(gap)
        gap *= 2
    pairs = {(i, i + g) for g in gaps for i in range(n - g)}
    keys = sorted({round(k) for k in np.linspace(0, n - 1, _KEYFRAMES)})
    pairs |= {(a, b) for k, a in enumerate(keys) for b in keys[k + 1 :]}
    return [(names[a], names[b]) for a, b in sorted(pairs)]


def features_and_matches(
    frames: Sequence[FrameFile], images: Path, folder: Path, settings: Settings, say: Callable[[str], None]
) -> tuple[Path, float, float]:
    """Database with verified matches, and the seconds for extraction and matching. Finished steps are "
    "reused."""
    folder.mkdir(parents=True, exist_ok=True)
    database, marker = folder / "database.db", folder / "done.json"
    print_ = _fingerprint(frames, settings)
    done = _read_marker(marker)
    if done.get("fingerprint") != print_:
        for old in folder.glob("database.db*"):
            old.unlink()
        done = {"fingerprint": print_, "steps": []}
    seconds = []
    for step, work in (
        ("extracting features", lambda: colmap.extract(database, images, frames, settings)),
        ("matching", lambda: colmap.match(database, image_pairs([f.staged for f in frames]))),
    ):
        begun = time.monotonic()
        if step not in done["steps"]:
            say(f"SfM {settings.name}: {step} ({len(frames)} frames)")
            work()
            done["steps"].append(step)
            marker.write_text(json.dumps(done), encoding="utf-8")
        seconds.append(time.monotonic() - begun)
    return database, seconds[0], seconds[1]


def _attempt(
    frames: Sequence[FrameFile], images: Path, folder: Path, settings: Settings, say: Callable[[str], None]
) -> "_Best | dict[str, Any]":
    """One rung: the best model, or the report entry of a rung that found none."""
    database, extract_s, match_s = features_and_matches(frames, images, folder, settings, say)
    begun = time.monotonic()
    keypoints = colmap.keypoint_counts(database)
    entry: dict[str, Any] = {
        "rung": settings.name,
        "options": {"sift": dict(settings.sift), "mapper": dict(settings.mapper)},
        "max_image_size": settings.max_image_size,
        "keypoints_median": float(np.median([keypoints.get(f.staged, 0) for f in frames])),
        "verified_pairs": len(colmap.verified_pairs(database)),
        "kept": False,
    }
    say(f"SfM {settings.name}: mapping")
    models = (
        colmap.map_images(database, images, _fresh(folder / "models"), settings)
        if entry["verified_pairs"]
        else []
    )
    seconds = {"extract": round(extract_s, 2), "match": round(match_s, 2)}
    if not models:
        seconds["map"] = round(time.monotonic() - begun, 2)
        entry.update(registered=0, points=0, other_models=[], seconds=seconds, why="no model")
        return entry
    model, strict = models[0], models[0].num_reg_images()
    if strict < len(frames) and dict(settings.mapper) != _FORGIVING:
        forgiving = replace(settings, mapper=_FORGIVING)
        model = colmap.resume_mapping(model, database, images, _fresh(folder / "rescue"), forgiving)
    residual = parallax.rotation_residual_px(colmap.matched_pairs(database))
    health = diagnose.examine(colmap.reading(model, frames), residual)
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
    return _Best(model, settings, database, health, models[1:], entry)


def _verdict(candidate: _Best, best: _Best | None, total: int) -> str | None:
    """Why a candidate may not replace the best model so far; None if it does."""
    problem = diagnose.floor_problem(candidate.health.registered, total)
    if problem is None and candidate.health.problems:
        problem = "; ".join(candidate.health.problems)
    if problem is not None or best is None:
        return problem
    compared = diagnose.disagreement(colmap.poses(candidate.model), colmap.poses(best.model))
    if compared is not None:
        degrees, share = compared
        candidate.entry["disagreement"] = {"rotation_deg": round(degrees, 3), "centers": round(share, 4)}
        if degrees > diagnose.MAX_DISAGREEMENT_DEG or share > diagnose.MAX_DISAGREEMENT_SHARE:
            return (
                f"disagrees with the stricter rung {best.settings.name} by {degrees:.1f} deg and "
                f"{100 * share:.0f} % of the camera radius"
            )
    if candidate.health.registered <= best.health.registered:
        return f"registers no more frames than rung {best.settings.name}"
    return None


def _failures(frames: Sequence[FrameFile], best: _Best) -> list[tuple[str, str]]:
    registered = colmap.poses(best.model).keys()
    keypoints = colmap.keypoint_counts(best.database)
    pairs = [(p.first, p.second) for p in colmap.verified_pairs(best.database)]
    elsewhere: dict[str, int] = {}
    for model in best.others:
        for name in colmap.poses(model):
            elsewhere.setdefault(name, model.num_reg_images())
    return [
        (f.name, diagnose.frame_reason(f.staged, keypoints, pairs, elsewhere))
        for f in frames
        if f.staged not in registered
    ]


def _evidence(
    frames: Sequence[FrameFile],
    folder: Path,
    rungs: int,
    tried: Sequence[Mapping[str, Any]],
    problems: Sequence[str],
) -> diagnose.Evidence:
    keypoints: dict[str, int] = {}
    best_pairs: list[colmap.PairStats] = []
    best_database = folder / "rung1" / "database.db"
    for number in range(1, rungs + 1):
        database = folder / f"rung{number}" / "database.db"
        for name, count in colmap.keypoint_counts(database).items():
            keypoints[name] = max(count, keypoints.get(name, 0))
        pairs = colmap.verified_pairs(database)
        if len(pairs) > len(best_pairs):
            best_pairs, best_database = pairs, database
    matches = colmap.matched_pairs(best_database)
    healths = [t["health"] for t in tried if "health" in t]
    return diagnose.Evidence(
        frames=tuple(f.staged for f in frames),
        keypoints=keypoints,
        pairs=tuple((p.first, p.second) for p in best_pairs),
        motion_px=parallax.motion_px(matches),
        parallax_px=parallax.rotation_residual_px(matches),
        angle_deg=max((h["median_triangulation_deg"] for h in healths), default=float("nan")),
        problems=tuple(problems),
    )


def _fingerprint(frames: Sequence[FrameFile], settings: Settings) -> str:
    """Identifies the inputs of a feature database: the files as they are now, and the settings."""
    listing = [
        (f.staged, f.name, f.width, f.height, *_state(f.path), *(_state(f.mask) if f.mask else ()))
        for f in frames
    ]
    text = json.dumps([listing, dict(settings.sift), settings.max_image_size])
    return hashlib.sha256(text.encode()).hexdigest()


def _state(path: Path) -> tuple[int, int]:
    return path.stat().st_size, path.stat().st_mtime_ns


def _read_marker(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) and isinstance(data.get("steps"), list) else {}


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
