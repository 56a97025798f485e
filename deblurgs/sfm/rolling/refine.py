"""Cameras of a video whose shutter rolls, from those that structure from motion found for a global shutter.

A global shutter explains rolling rows by another focal length and other poses, and there it stays: bundle adjustment
from one start finds the minimum next to it. So several focal lengths and readouts are tried on a part of the points,
and the one that explains them best is refined with more.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from deblurgs.math.lie import se3_inverse
from deblurgs.sfm.evidence import DISTORTION_EVIDENCE
from deblurgs.sfm.rolling.adjust import Problem, adjusted, refit_points
from deblurgs.sfm.rolling.path import windows
from deblurgs.sfm.rolling.problem import Estimate, Sightings, residuals
from deblurgs.sfm.rolling.tracks import Cameras, Refined, Tracks

READOUTS = (0.0, 0.3, 0.6)
FIELDS_DEG = (50.0, 65.0)
"""Starts beside what is known: readouts in frame intervals, and fields of view of the longer side of the picture."""
MIN_FRAMES, MIN_POINTS = 8, 60
_NEAR_FOCAL = 1.08
_SEARCH_POINTS, _FINAL_POINTS = 500, 2500


def refine(
    tracks: Tracks,
    start: Cameras,
    *,
    readout: float | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Refined:
    """Poses, points, focal length and readout that explain the sightings best; a given `readout` is kept.

    Raises ValueError for fewer than 8 frames or 60 points, or times that do not increase.
    """
    if len(tracks.times) < MIN_FRAMES or len(start.points) < MIN_POINTS:
        raise ValueError(f"at least {MIN_FRAMES} frames and {MIN_POINTS} points are needed")
    if not (np.diff(tracks.times) > 0).all():
        raise ValueError("the times of the frames must increase")
    longer = max(tracks.size)
    scale = _typical_depth(tracks, start)
    whole = _estimate(start, scale)
    times = torch.from_numpy(tracks.times)
    times = (times - times[0]) / (times[1:] - times[:-1]).median()
    huber_px = max(1.0, longer / 1000.0)
    free = (True, False, readout is None)

    panes = windows(times)

    def problem(seen: Sightings, px: float = huber_px, shared: tuple[bool, bool, bool] = free) -> Problem:
        return Problem(panes, seen, px, shared)

    few = _chosen_points(tracks, len(start.points), _SEARCH_POINTS)
    seen, part = _sightings(tracks, few), replace(whole, points=whole.points[few])
    still = problem(seen, shared=(True, False, False))
    fixed = _with(part, start.focal, 0.0)
    _, global_cost = adjusted(still, fixed, steps=15, tolerance=1e-3)
    count = len(seen.point)
    best, lowest, tried = part, math.inf, []
    for focal in _focals(start.focal, longer):
        for first in READOUTS if readout is None else (readout,):
            at = _with(part, focal, first)
            rough = problem(seen, 8 * huber_px, (False, False, False))
            at, _ = adjusted(rough, at, steps=6, tolerance=1e-2)
            at, cost = adjusted(problem(seen), at, steps=25, tolerance=1e-3)
            tried.append({"focal": round(focal, 1), "readout": first, "cost": round(cost, 1)})
            if cost < lowest:
                best, lowest = at, cost
    say(f"rolling shutter: readout {best.readout:.2f}, focal length {start.focal:.0f} -> {best.focal:.0f} px")
    more = _chosen_points(tracks, len(start.points), _FINAL_POINTS)
    seen = _sightings(tracks, more)
    at = replace(best, points=_placed(whole.points, few, best.points)[more])
    at = refit_points(problem(seen), at)
    at, cost = adjusted(problem(seen), at, steps=30, tolerance=1e-6)
    bent_lens = problem(seen, shared=(True, True, free[2]))
    bent, bent_cost = adjusted(bent_lens, at, steps=15, tolerance=1e-6)
    freedom = max(2 * len(seen.point) - 3 * len(more) - 6 * len(times), 1)
    evidence = (cost - bent_cost) / max(bent_cost / freedom, 1e-12)
    at = bent if evidence > DISTORTION_EVIDENCE else at
    all_points = np.arange(len(start.points))
    everything = _sightings(tracks, all_points)
    end = refit_points(
        problem(everything), replace(at, points=_placed(whole.points, more, at.points)), steps=20
    )
    order = _order(tracks, all_points)
    errors = np.full(len(tracks.frame), np.inf)
    errors[order] = residuals(end, panes, everything).norm(dim=1).numpy()
    cameras = Cameras(
        _scaled(se3_inverse(end.poses).numpy(), scale), end.points.numpy() * scale, end.focal, end.distortion,
        end.readout,
    )  # fmt: skip
    return Refined(cameras, errors, global_cost, lowest, count, tried, evidence)


def _focals(known: float, longer: int) -> list[float]:
    found = [known]
    for field in FIELDS_DEG:
        focal = 0.5 * longer / math.tan(0.5 * math.radians(field))
        if all(max(focal / f, f / focal) > _NEAR_FOCAL for f in found):
            found.append(focal)
    return found


def _with(at: Estimate, focal: float, readout: float) -> Estimate:
    shared = torch.tensor([math.log(focal), at.distortion, readout], dtype=torch.float64)
    return replace(at, shared=shared)


def _estimate(cameras: Cameras, scale: float) -> Estimate:
    camera_from_world = torch.from_numpy(_scaled(cameras.camera_from_world, 1.0 / scale))
    shared = [math.log(cameras.focal), cameras.distortion, cameras.readout]
    return Estimate(
        se3_inverse(camera_from_world),
        torch.from_numpy(cameras.points / scale),
        torch.tensor(shared, dtype=torch.float64),
    )


def _scaled(poses: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
    result = poses.copy()
    result[:, :3, 3] *= factor
    return result


def _typical_depth(tracks: Tracks, start: Cameras) -> float:
    pose = start.camera_from_world[tracks.frame]
    depth = (pose[:, 2, :3] * start.points[tracks.point]).sum(axis=1) + pose[:, 2, 3]
    return float(np.median(depth))


def _chosen_points(tracks: Tracks, count: int, most: int) -> NDArray[np.int64]:
    """The points that most frames see, and of every frame those of its points that most others see."""
    length = np.bincount(tracks.point, minlength=count)
    order = np.argsort(-length, kind="stable")
    chosen = set(order[: most // 2].tolist())
    rank = np.empty(count, dtype=np.int64)
    rank[order] = np.arange(count)
    each = max(most // len(tracks.times), 12)
    for frame in range(len(tracks.times)):
        own = tracks.point[tracks.frame == frame]
        chosen.update(own[np.argsort(rank[own], kind="stable")[:each]].tolist())
    return np.array(sorted(p for p in chosen if length[p] >= 2), dtype=np.int64)


def _order(tracks: Tracks, points: NDArray[np.int64]) -> NDArray[np.int64]:
    """Indices of the sightings of these points by frame, one for each frame and point."""
    wanted = np.flatnonzero(np.isin(tracks.point, points))
    pairs = np.stack([tracks.frame[wanted], tracks.point[wanted]], axis=1)
    _, first = np.unique(pairs, axis=0, return_index=True)  # sorted by frame, then by point
    return wanted[first]


def _sightings(tracks: Tracks, points: NDArray[np.int64]) -> Sightings:
    own = _order(tracks, points)
    frame, pixel = tracks.frame[own], tracks.pixel[own]
    return Sightings(
        torch.from_numpy(np.searchsorted(points, tracks.point[own])),
        torch.from_numpy(pixel - np.array(tracks.center)),
        torch.from_numpy(pixel[:, 1] / tracks.size[1] - 0.5),
        np.searchsorted(frame, np.arange(len(tracks.times) + 1)).tolist(),
    )


def _placed(into: torch.Tensor, at: NDArray[np.int64], values: torch.Tensor) -> torch.Tensor:
    result = into.clone()
    result[torch.from_numpy(at)] = values
    return result
