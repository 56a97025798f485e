"""Feature databases: which pairs of frames are matched, and how finished work is found again. In the SfM child."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deblurgs.sfm import colmap
from deblurgs.sfm.staging import FrameFile, Settings

EXHAUSTIVE_LIMIT = 150
_OVERLAP = 10
_KEYFRAMES = 48


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
    """Database with verified matches, and the seconds for extraction and matching. Finished steps are
    reused."""
    folder.mkdir(parents=True, exist_ok=True)
    database, marker = folder / "database.db", folder / "done.json"
    print_ = fingerprint(frames, settings)
    done = _read_marker(marker)
    if done.get("fingerprint") != print_:
        for old in folder.glob("database.db*"):
            old.unlink()
        done = {"fingerprint": print_, "steps": []}
    seconds = []
    for step, work in (
        ("extracting features", lambda: colmap.extract(database, images, frames, settings)),
        ("matching", lambda: colmap.match(database, image_pairs([f.staged for f in frames]), settings)),
    ):
        begun = time.monotonic()
        if step not in done["steps"]:
            say(f"SfM {settings.name}: {step} ({len(frames)} frames)")
            work()
            done["steps"].append(step)
            marker.write_text(json.dumps(done), encoding="utf-8")
        seconds.append(time.monotonic() - begun)
    return database, seconds[0], seconds[1]


def joined_features(
    frames: Sequence[FrameFile], images: Path, folder: Path, settings: Settings, say: Callable[[str], None]
) -> tuple[Path, float, float]:
    """Like `features_and_matches`, for the databases of all `settings.parts` in `folder` taken together.

    The keypoints of the first part come first, with the same indices and image ids as in its own database.
    """
    begun = time.monotonic()
    databases = [
        features_and_matches(frames, images, folder / part.features, part, say)[0] for part in settings.parts
    ]
    own = folder / settings.features
    own.mkdir(parents=True, exist_ok=True)
    database, marker = own / "database.db", own / "done.json"
    prints = {"fingerprint": [fingerprint(frames, part) for part in settings.parts], "steps": ["joining"]}
    if _read_marker(marker) != prints:
        for old in own.glob("database.db*"):
            old.unlink()
        say(f"SfM {settings.name}: joining the features of {len(databases)} attempts")
        colmap.join_databases(databases, database)
        marker.write_text(json.dumps(prints), encoding="utf-8")
    return database, 0.0, time.monotonic() - begun


def fingerprint(frames: Sequence[FrameFile], settings: Settings) -> str:
    """Identifies the inputs of a feature database: the files as they are now, and the settings."""
    listing = [
        (f.staged, f.name, f.width, f.height, *_state(f.path), *(_state(f.mask) if f.mask else ()))
        for f in frames
    ]
    text = json.dumps([listing, dict(settings.sift), dict(settings.matching), settings.max_image_size])
    return hashlib.sha256(text.encode()).hexdigest()


def _state(path: Path) -> tuple[int, int]:
    return path.stat().st_size, path.stat().st_mtime_ns


def _read_marker(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) and isinstance(data.get("steps"), list) else {}
