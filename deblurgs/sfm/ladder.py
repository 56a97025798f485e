"""The ladder of SfM attempts, from the most accurate settings to the most forgiving (rungs.py). In the SfM child.

It is climbed until every frame has a believable pose; what is believable is decided in choice.py. The strictest rung
ends the climb when it registers everything, so that a sharp capture pays for one attempt only.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deblurgs.errors import SfmError
from deblurgs.sfm import choice, colmap, diagnose, parallax
from deblurgs.sfm.attempt import Candidate, attempt
from deblurgs.sfm.rungs import ROLLING_MAPPER, ROLLING_TRIANGULATION, RUNGS, TOGETHER, in_order
from deblurgs.sfm.staging import FrameFile, Settings, stage_images

ENOUGH_SHARE = 0.95
FIRST_RESTORED = next((number for number, rung in enumerate(RUNGS) if rung.restored), 0)
"""How many rungs come before the first that needs restored copies."""
# In captures of more frames than this nothing more is tried for the last twentieth of them: matching grows with the
# number of frames, and neighbours show what the missing ones would.
_EVERY_FRAME_COUNTS = 100
_PLACES = {rung.name: place for place, rung in enumerate(RUNGS)}


@dataclass(frozen=True)
class Climb:
    """The chosen model and what was tried. `tried` is written to sfm.json as it is.

    database: features of the frames with descriptors; the model's keypoints begin with these.
    """

    model: colmap.Model
    settings: Settings
    database: Path
    health: diagnose.Health
    tried: list[dict[str, Any]]
    failed: list[tuple[str, str]]
    warnings: list[str]


def climb(
    frames: Sequence[FrameFile],
    folder: Path,
    max_image_size: int,
    budget_s: float,
    say: Callable[[str], None],
    restored: Mapping[str, Path] | None = None,
    spent_s: float = 0.0,
    rolling: bool = False,
) -> Climb | None:
    """Try the rungs until all frames have believable poses. None: to go on, restored copies of the frames are needed.

    Works in `folder`; finished steps of an interrupted climb are reused. No rung is begun after `budget_s` seconds, of
    which an earlier process has used `spent_s`, and of more than 100 frames 95 % are enough. restored: restored copies
    of the frames by staged name, in which features may be looked for. rolling: keep sightings that a rolling shutter
    may have moved. Raises SfmError with the diagnosed reason when
    no rung's model may be believed.
    """
    started = time.monotonic() - spent_s
    images = folder / "stage"
    stage_images(frames, images)
    tried: list[dict[str, Any]] = []
    warnings: list[str] = []
    problems: list[str] = []
    sane: list[Candidate] = []
    best: choice.Choice | None = None
    asked = False
    order = in_order(frames)
    if order is not RUNGS:
        say(f"SfM: the blur is long, so {order[0].name!r} is tried first")
    for turn, rung in enumerate(order, start=1):
        elapsed = time.monotonic() - started
        # With restored copies at hand the rungs before the first that needs them lie finished on the disk.
        if turn > max(1, FIRST_RESTORED if restored is not None else 0) and elapsed > budget_s:
            warnings.append(f"SfM stopped trying further settings after {budget_s:.0f} s.")
            break
        if best is not None and _enough(best, tried, len(frames)):
            break
        # Once the three kinds of features were looked for, what is missing may be missing in the capture itself.
        if best is None and not asked and turn > len(TOGETHER.parts):
            asked = True
            if diagnose.hopeless(_evidence(frames, folder, tried, problems)):
                break
        if rung.restored and restored is None:
            return None
        settings = _at_size(rung, max_image_size)
        if rolling:
            settings = replace(
                settings, mapper={**settings.mapper, **ROLLING_MAPPER}, triangulation=ROLLING_TRIANGULATION
            )
        files, place = frames, images
        if rung.restored and restored is not None:
            files = [replace(f, path=restored.get(f.staged, f.path)) for f in frames]
            place = folder / "stage_restored"
            stage_images(files, place)
        candidate = attempt(files, place, folder, 1 + _PLACES[rung.name], settings, say)
        if not isinstance(candidate, Candidate):
            tried.append(candidate)
            problems.append(str(candidate["why"]))
            continue
        tried.append(candidate.entry)
        problem = choice.problem_of(candidate, len(frames))
        if problem is not None:
            candidate.entry.update(kept=False, why=problem)
            problems.append(problem)
            say(f"SfM {rung.name}: not used, {problem}")
            continue
        sane.append(candidate)
        sane.sort(key=lambda c: _PLACES[c.settings.name])
        finest = folder / RUNGS[0].features / "database.db"
        for known in sane if finest.is_file() else ():
            choice.measure(known, finest)
        best = choice.choose(sane)
        if best.best is not candidate:
            say(f"SfM {rung.name}: not used, {candidate.entry['why']}")
    if best is None:
        raise SfmError(diagnose.explain_failure(_evidence(frames, folder, tried, problems)))
    strictest = best.best.settings.name == RUNGS[0].name
    warnings += choice.doubts(best, len(frames), strictest=strictest)
    chosen = best.best
    model, lost = choice.without_lost_frames(best, sane)
    failed = _failures(frames, chosen)
    if lost:
        chosen.entry["lost"] = [f.name for f in frames if f.staged in lost]
        failed += [(f.name, "placed elsewhere by every other attempt") for f in frames if f.staged in lost]
    database = folder / chosen.settings.parts[0].features / "database.db" if chosen.settings.parts else None
    return Climb(
        model, chosen.settings, database or chosen.database, chosen.health, tried, failed, warnings,
    )  # fmt: skip


def _enough(best: choice.Choice, tried: Sequence[Mapping[str, Any]], total: int) -> bool:
    """May the climb end before the next rung?"""
    registered = best.best.health.registered
    last = str(tried[-1]["rung"])
    if registered == total:
        if best.best.settings.name == RUNGS[0].name:
            return True
        # Once the features of three rungs exist, their joint model costs little and is more accurate.
        return bool(best.confirmed) and last != TOGETHER.parts[0].name
    return total > _EVERY_FRAME_COUNTS and registered >= ENOUGH_SHARE * total


def _at_size(settings: Settings, max_image_size: int) -> Settings:
    parts = tuple(_at_size(part, max_image_size) for part in settings.parts)
    return replace(settings, max_image_size=max_image_size, parts=parts)


def _failures(frames: Sequence[FrameFile], best: Candidate) -> list[tuple[str, str]]:
    registered = colmap.poses(best.model).keys()
    keypoints = colmap.keypoint_counts(best.database)
    pairs = [(p.first, p.second) for p in colmap.verified_pairs(best.database)]
    return [
        (f.name, diagnose.frame_reason(f.staged, keypoints, pairs, best.elsewhere))
        for f in frames
        if f.staged not in registered
    ]


def _evidence(
    frames: Sequence[FrameFile], folder: Path, tried: Sequence[Mapping[str, Any]], problems: Sequence[str]
) -> diagnose.Evidence:
    keypoints: dict[str, int] = {}
    best_pairs: list[colmap.PairStats] = []
    best_database = folder / RUNGS[0].features / "database.db"
    for rung in RUNGS:
        database = folder / rung.features / "database.db"
        if not database.is_file():
            continue
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
