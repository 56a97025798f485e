"""Is a reconstruction believable, and if there is none, why not? Pure numpy on counts; no pycolmap.

COLMAP answers every failure with an empty result, and registers frames at wrong poses with a small reprojection
error when its thresholds are loose. Both must be noticed here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MIN_FRAMES = 3
MIN_SHARE = 0.3
WARN_SHARE = 0.5
MIN_TRIANGULATION_DEG = 2.0
MAX_ERROR_PX = 2.0
# Matches must differ from those of a turning camera by this much, and by this many mean reprojection errors.
MIN_PARALLAX_PX = 1.0
MIN_PARALLAX_ERRORS = 2.0
# Below this, missing parallax is the likely reason where no model was found at all.
CLEAR_PARALLAX_PX = 2.0
MIN_OBSERVATIONS = 15
MIN_POINTS = 40
FOCAL_RANGE = (0.3, 5.0)
MAX_JUMP_SHARE = 0.2
MIN_KEYPOINTS = 20
# Cameras that explain less than this share of the verified matches are wrong. Measured: 0.86 to 0.97 for true ones;
# poses shuffled among the frames below 0.4.
MIN_EXPLAINED = 0.6
# Two models that differ by more than this, on frames both registered, cannot both be right. Measured on frames blurred
# by 27 px (up to 71 px): true ones differ by up to 5.8 deg and 31 % of each other, wrong ones by 44 % and more.
MAX_DISAGREEMENT_DEG = 8.0
MAX_DISAGREEMENT_SHARE = 0.4
# A frame that lies so far from where all other models have it is lost. Measured on the same frames: believable ones
# differ by up to 16 deg and 0.6 radii, lost ones by 40 deg and 1.4 radii and more.
LOST_DEG = 25.0
LOST_SHARE = 1.0
_TRIM_ROUNDS = 5


@dataclass(frozen=True)
class Reading:
    """A reconstruction reduced to what the sanity check looks at.

    centers: [M, 3] camera centres in capture order. times_s: [M], NaN for photos. points: [P, 3].
    tracks: for each observation (frame index, point index), [n, 2]. error_px: mean reprojection error.
    focal_ratio: focal length / longer image side, per camera.
    """

    centers: NDArray[np.float64]
    times_s: NDArray[np.float64]
    points: NDArray[np.float64]
    tracks: NDArray[np.int64]
    error_px: float
    focal_ratios: tuple[float, ...]
    longer_side: int


@dataclass(frozen=True)
class Health:
    """Measured quality of a reconstruction. `problems` is empty when it may be believed."""

    registered: int
    points: int
    error_px: float
    median_triangulation_deg: float
    median_observations: float
    path_jump_share: float
    parallax_px: float | None
    explained_share: float | None
    focal_ratios: tuple[float, ...]
    problems: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        data = asdict(self)
        return {k: round(v, 4) if isinstance(v, float) else v for k, v in data.items()}


def triangulation_angles(
    centers: NDArray[np.float64], points: NDArray[np.float64], tracks: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The largest angle between two viewing rays of each point, degrees; 0 with fewer than two rays.
    Shape [P]."""
    angles = np.zeros(len(points))
    order = np.argsort(tracks[:, 1], kind="stable")
    frame_idx, point_idx = tracks[order, 0], tracks[order, 1]
    rays = points[point_idx] - centers[frame_idx]
    rays /= np.maximum(np.linalg.norm(rays, axis=1, keepdims=True), 1e-300)
    starts = np.searchsorted(point_idx, np.arange(len(points) + 1))
    for p in range(len(points)):
        own = rays[starts[p] : starts[p + 1]]
        if len(own) > 1:
            angles[p] = np.degrees(np.arccos(np.clip((own @ own.T).min(), -1.0, 1.0)))
    return angles


def examine(
    reading: Reading, parallax_px: float | None = None, explained_share: float | None = None
) -> Health:
    """Measure a reconstruction and list every reason not to believe it.

    parallax_px: what a merely turning camera leaves unexplained of its matches (parallax.py), if it was measured.
    explained_share: share of the verified matches that agree with the cameras (support.py), if it was measured.
    """
    m = len(reading.centers)
    angles = triangulation_angles(reading.centers, reading.points, reading.tracks)
    seen = np.bincount(reading.tracks[:, 0], minlength=m) if len(reading.tracks) else np.zeros(m)
    angle = float(np.median(angles[angles > 0])) if (angles > 0).any() else 0.0
    observations = float(np.median(seen)) if m else 0.0
    jumps = path_jump_share(reading.centers, reading.times_s)
    problems = []
    if angle < MIN_TRIANGULATION_DEG:
        problems.append(
            f"no parallax (median triangulation angle {angle:.2f} deg < {MIN_TRIANGULATION_DEG:g} deg)"
        )
    least = max(MIN_PARALLAX_PX, MIN_PARALLAX_ERRORS * reading.error_px)
    if parallax_px is not None and parallax_px < least:
        problems.append(
            f"no parallax (a camera that only turns explains the matches to {parallax_px:.2f} px < {least:.2f} px)"
        )
    # COLMAP measures in the pixels of the frames, and blur grows with their size.
    limit = MAX_ERROR_PX * max(1.0, reading.longer_side / 1000.0)
    if not reading.error_px <= limit:
        problems.append(f"reprojection error {reading.error_px:.2f} px > {limit:.2f} px")
    if len(reading.points) < MIN_POINTS:
        problems.append(f"only {len(reading.points)} points (at least {MIN_POINTS} needed)")
    if observations < MIN_OBSERVATIONS:
        problems.append(f"a typical frame sees only {observations:.0f} points (< {MIN_OBSERVATIONS})")
    if explained_share is not None and explained_share < MIN_EXPLAINED:
        problems.append(
            f"the cameras explain only {explained_share:.0%} of the matches (at least {MIN_EXPLAINED:.0%} needed)"
        )
    for ratio in reading.focal_ratios:
        if not FOCAL_RANGE[0] <= ratio <= FOCAL_RANGE[1]:
            problems.append(f"implausible focal length, {ratio:.2f} times the longer image side")
    if jumps > MAX_JUMP_SHARE:
        problems.append(f"the camera path jumps at {100 * jumps:.0f} % of the frames")
    return Health(
        m, len(reading.points), float(reading.error_px), angle, observations, jumps,
        None if parallax_px is None else float(parallax_px),
        None if explained_share is None else float(explained_share), reading.focal_ratios, tuple(problems),
    )  # fmt: skip


def path_jump_share(centers: NDArray[np.float64], times_s: NDArray[np.float64]) -> float:
    """Share of steps of a video's camera path that are over 10 times its median speed. 0 for photos."""
    if len(centers) < 5 or not np.isfinite(times_s).all():
        return 0.0
    order = np.argsort(times_s, kind="stable")
    gaps = np.maximum(np.diff(times_s[order]), 1e-6)
    speed = np.linalg.norm(np.diff(centers[order], axis=0), axis=1) / gaps
    return float(np.mean(speed > 10.0 * np.median(speed)))


def disagreement(
    first: Mapping[str, NDArray[np.float64]], second: Mapping[str, NDArray[np.float64]]
) -> tuple[float, float] | None:
    """Compare two sets of camera_from_world [4, 4] after one similarity: (median rotation difference in degrees,
    RMSE of camera centres / RMS radius of the centres). None with fewer than four common frames.
    """
    names = sorted(first.keys() & second.keys())
    if len(names) < 4:
        return None
    degrees, distances = _differences(first, second, names)
    return float(np.median(degrees)), float(np.sqrt((distances**2).mean()))


def robust_disagreement(
    first: Mapping[str, NDArray[np.float64]], second: Mapping[str, NDArray[np.float64]]
) -> tuple[float, float] | None:
    """Like `disagreement`, of the three quarters of the frames that agree best: a single lost frame can lie anywhere
    and would drag the similarity along.
    """
    keep = _agreeing(first, second)
    if len(keep) < 4:
        return None
    degrees, distances = _differences(first, second, keep)
    return float(np.median(degrees)), float(np.sqrt((distances**2).mean()))


def lost_frames(
    model: Mapping[str, NDArray[np.float64]], others: Sequence[Mapping[str, NDArray[np.float64]]]
) -> list[str]:
    """Frames that every other model which has them sees somewhere else entirely, after a similarity to those frames
    that agree. Frames that no other model has are not judged.
    """
    seen: dict[str, list[bool]] = {}
    for other in others:
        keep, names = _agreeing(model, other), sorted(model.keys() & other.keys())
        if len(keep) < 4:
            continue
        degrees, distances = _differences(model, other, keep, names)
        for k, name in enumerate(names):
            far = bool(degrees[k] > LOST_DEG or distances[k] > LOST_SHARE)
            seen.setdefault(name, []).append(far)
    return sorted(name for name, verdicts in seen.items() if all(verdicts))


def _agreeing(
    first: Mapping[str, NDArray[np.float64]], second: Mapping[str, NDArray[np.float64]]
) -> list[str]:
    """The three quarters of the common frames that lie closest together after one similarity fitted to them.

    The first similarity is that of the one frame whose rotation and place suit the others best, with the median ratio
    of distances as scale: a fit to all frames would follow a lost one.
    """
    names = sorted(first.keys() & second.keys())
    if len(names) < 4:
        return names
    a, b = np.stack([first[n] for n in names]), np.stack([second[n] for n in names])
    x, y = (-np.einsum("nji,nj->ni", m[:, :3, :3], m[:, :3, 3]) for m in (a, b))
    far_x, far_y = (
        np.linalg.norm(c[:, None] - c[None], axis=2)[np.triu_indices(len(names), 1)] for c in (x, y)
    )
    scale = float(np.median(far_y / np.maximum(far_x, 1e-300)))
    count = max(4, -(-3 * len(names) // 4))
    best, keep = np.inf, names
    for k in range(len(names)):
        turn = b[k, :3, :3].T @ a[k, :3, :3]
        distances = np.linalg.norm(scale * (x - x[k]) @ turn.T - (y - y[k]), axis=1)
        order = np.argsort(distances, kind="stable")[:count]
        if distances[order[-1]] < best:
            best, keep = distances[order[-1]], [names[i] for i in sorted(order.tolist())]
    for _ in range(_TRIM_ROUNDS):
        _, distances = _differences(first, second, keep, names)
        keep = [names[i] for i in sorted(np.argsort(distances, kind="stable")[:count].tolist())]
    return keep


def _differences(
    first: Mapping[str, NDArray[np.float64]],
    second: Mapping[str, NDArray[np.float64]],
    fitted: Sequence[str],
    measured: Sequence[str] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rotation differences in degrees, and distances of the centres / RMS radius of the second set, of the `measured`
    frames (default: the fitted ones) after the similarity that fits the `fitted` frames best.
    """
    names = list(dict.fromkeys([*fitted, *(measured or ())]))
    fit = len(dict.fromkeys(fitted))
    a = np.stack([first[n] for n in names])
    b = np.stack([second[n] for n in names])
    # The relative rotation of the two worlds: the chordal mean of the per-frame estimates (projected to SO(3)).
    world = _project_rotation(np.einsum("nji,njk->ik", b[:fit, :3, :3], a[:fit, :3, :3]))
    relative = np.einsum("nij,jk,nlk->nil", b[:, :3, :3], world, a[:, :3, :3])
    cosine = np.clip((np.trace(relative, axis1=1, axis2=2) - 1.0) / 2.0, -1.0, 1.0)
    centers_a = -np.einsum("nji,nj->ni", a[:, :3, :3], a[:, :3, 3])
    centers_b = -np.einsum("nji,nj->ni", b[:, :3, :3], b[:, :3, 3])
    x, y = centers_a - centers_a[:fit].mean(0), centers_b - centers_b[:fit].mean(0)
    u, s, vt = np.linalg.svd(y[:fit].T @ x[:fit])
    sign = np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    scale = np.trace(np.diag(s) @ sign) / max(float((x[:fit] ** 2).sum()), 1e-300)
    distance = np.linalg.norm(scale * x @ (u @ sign @ vt).T - y, axis=1)
    radius = max(float(np.sqrt((y**2).sum(1).mean())), 1e-300)
    rows = [names.index(n) for n in (measured if measured is not None else fitted)]
    return np.degrees(np.arccos(cosine))[rows], distance[rows] / radius


def _project_rotation(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    u, _, vt = np.linalg.svd(matrix)
    return u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))]) @ vt


def floor_problem(registered: int, total: int) -> str | None:
    """Why too few frames have a pose, or None."""
    if registered < MIN_FRAMES or registered < MIN_SHARE * total:
        return f"only {registered} of {total} frames have a pose (at least {MIN_FRAMES} and {MIN_SHARE:.0%} needed)"
    return None


def group_sizes(names: Sequence[str], pairs: Sequence[tuple[str, str]]) -> list[list[str]]:
    """Connected groups of the match graph, largest first."""
    parent = {n: n for n in names}

    def root(n: str) -> str:
        while parent[n] != n:
            parent[n] = parent[parent[n]]
            n = parent[n]
        return n

    for a, b in pairs:
        parent[root(a)] = root(b)
    groups: dict[str, list[str]] = {}
    for n in names:
        groups.setdefault(root(n), []).append(n)
    return sorted(groups.values(), key=len, reverse=True)


@dataclass(frozen=True)
class Evidence:
    """What the databases of all rungs say about a failure.

    keypoints: per frame name the most keypoints any rung found; frames COLMAP could not read are missing.
    pairs: verified pairs (names) of the rung with most of them. motion_px, parallax_px: of their matches, see
    parallax.py. angle_deg: median triangulation angle of the best model, NaN without one.
    problems: why each rung's model was rejected.
    """

    frames: tuple[str, ...]
    keypoints: Mapping[str, int]
    pairs: tuple[tuple[str, str], ...]
    motion_px: float
    parallax_px: float
    angle_deg: float
    problems: tuple[str, ...]


def hopeless(evidence: Evidence) -> bool:
    """Is the reason for the failure in the capture itself, so that no other settings can help?"""
    seen = sum(evidence.keypoints.get(f, 0) >= MIN_KEYPOINTS for f in evidence.frames)
    return (
        seen < MIN_FRAMES
        or not evidence.pairs
        or evidence.motion_px < 1.0
        or evidence.parallax_px < CLEAR_PARALLAX_PX
    )


def explain_failure(evidence: Evidence) -> str:
    """One clear text: what failed, why, and what to do."""
    n = len(evidence.frames)
    empty = [f for f in evidence.frames if evidence.keypoints.get(f, 0) < MIN_KEYPOINTS]
    advice_motion = (
        "Move the camera sideways while filming: 3-D needs a baseline of a few percent of the distance; "
        "turning on the spot is not enough."
    )
    if len(empty) > n - MIN_FRAMES:
        zero = sum(evidence.keypoints.get(f, 0) == 0 for f in evidence.frames)
        return (
            f"No camera poses: no features ({zero} of {n} images have 0 keypoints, {len(empty)} fewer than "
            f"{MIN_KEYPOINTS}). The images are blank, dark, without texture, or blurred beyond use. Capture "
            "something with texture, in more light or with shorter exposure."
        )
    if not evidence.pairs:
        return (
            f"No camera poses: disconnected, none of the {n} frames shares matches with another. They show "
            "different things or are blurred beyond use. Capture overlapping views (neighbours should share "
            "over half of the picture)."
        )
    groups = group_sizes(evidence.frames, evidence.pairs)
    if len(groups[0]) < max(MIN_FRAMES, MIN_SHARE * n):
        return (
            f"No camera poses: disconnected, only {len(groups[0])} of {n} frames share matches (groups of "
            f"{', '.join(str(len(g)) for g in groups[:6])}). Capture overlapping views, or give only frames "
            "of one scene."
        )
    still = evidence.parallax_px < CLEAR_PARALLAX_PX or any(
        p.startswith("no parallax") for p in evidence.problems
    )
    if evidence.motion_px < 1.0:
        return (
            "No camera poses: no parallax, the camera did not move (median motion of the features "
            f"{evidence.motion_px:.2f} px between matched frames, triangulation angle 0 deg). {advice_motion}"
        )
    if still:
        angle = "none found" if np.isnan(evidence.angle_deg) else f"{evidence.angle_deg:.2f} deg"
        return (
            "No camera poses: no parallax, the camera did not move but only turned (features moved by "
            f"{evidence.motion_px:.0f} px, of which turning explains all but {evidence.parallax_px:.2f} px; median "
            f"triangulation angle: {angle}). {advice_motion}"
        )
    reasons = "; ".join(dict.fromkeys(evidence.problems)) or "COLMAP found no pair of frames to start from"
    return (
        f"No trustworthy camera poses for {n} frames: {reasons}. Use frames with more overlap, more texture "
        "or less blur, or give a COLMAP model."
    )


def frame_reason(
    name: str, keypoints: Mapping[str, int], pairs: Sequence[tuple[str, str]], elsewhere: Mapping[str, int]
) -> str:
    """Why one frame has no pose although others have.

    elsewhere: frame -> number of frames of the separate model that it is in.
    """
    if name not in keypoints:
        return "COLMAP could not read the image"
    if keypoints[name] < MIN_KEYPOINTS:
        return f"no features ({keypoints[name]} keypoints)"
    if name in elsewhere:
        return f"disconnected: in a separate model of {elsewhere[name]} frames"
    matched = sum(name in pair for pair in pairs)
    if matched == 0:
        return f"no matches with another frame ({keypoints[name]} keypoints)"
    return f"too few matches agree with the model (matched with {matched} frames)"
