"""What is filmed from where and when: the poses of all views of a capture, before anything is rendered."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from scenes.generator import poses, shake
from scenes.generator.shutter import Shutter

Array = NDArray[np.float64]
NUM_SUBFRAMES = 33
"""Odd, so that the middle one is the mid-exposure."""


@dataclass(frozen=True)
class Stand:
    """Where a layout is filmed from: an arc of a sphere about `focus` [3] (world units, here metres), angles in deg."""

    focus: tuple[float, float, float]
    distance: float
    azimuth_deg: float
    """The arc goes from minus this to plus this."""
    elevation_deg: tuple[float, float]


@dataclass(frozen=True)
class Video:
    """fps: frames per second. sweep: share of the stand's arc that the clip covers."""

    fps: float
    sweep: float = 1.0


@dataclass(frozen=True)
class View:
    """One picture to make. All poses are world_from_camera.

    mid [4,4]: mid-exposure of the middle row. subframes [33,4,4]: uniform in time over the middle row's exposure.
    open_path [33,4,4]: the same over the time in which any row is open (equal to subframes for a global shutter).
    time_s: mid-exposure in the video, None in a burst. path_px: median length travelled by scene points in the image
    during the exposure. Held-out views have a pose and no path.
    """

    name: str
    split: str
    mid: Array
    subframes: Array | None = None
    open_path: Array | None = None
    time_s: float | None = None
    path_px: float = 0.0


@dataclass(frozen=True)
class Plan:
    """views in order of capture. shake_scale: the factor that gave the wanted median path."""

    views: list[View]
    shutter: Shutter
    shake_scale: float
    video: Video | None = None
    path: dict[str, list] = field(default_factory=dict)


PointsAt = Callable[[Array], Array]
"""Scene points [P,3] that a camera with the given pose sees."""


def plan_burst(
    stand: Stand, num_train: int, num_test: int, shutter: Shutter, median_px: float, focal_px: float,
    points_at: PointsAt, rng: np.random.Generator,
) -> Plan:  # fmt: skip
    """Single photos along a serpentine arc, each with its own cubic path; every k-th position is held out."""
    total = num_train + num_test
    held = {int((i + 0.5) * total / num_test) for i in range(num_test)}
    bases = [_serpentine(stand, i, total, rng) for i in range(total)]
    train = [i for i in range(total) if i not in held]
    shakes = {i: shake.CubicShake.random(rng) for i in train}
    points = {i: points_at(bases[i]) for i in train}

    def path(i: int, scale: float, half: float) -> Array:
        s = half * np.linspace(-1.0, 1.0, NUM_SUBFRAMES)
        return bases[i] @ poses.exp(scale * _metric(shakes[i].offset(s), stand))

    def lengths(scale: float) -> list[float]:
        # s = +-row_share are the ends of the middle row's exposure; +-1 those of the whole frame's.
        return [poses.path_length_px(path(i, scale, shutter.row_share), points[i], focal_px) for i in train]

    scale = shake.solve_scale(lambda x: float(np.median(lengths(x))), median_px)
    px = dict(zip(train, lengths(scale), strict=True))
    views = []
    for i in range(total):
        if i in held:
            views.append(View(f"{i:03d}", "test", bases[i]))
            continue
        subframes, open_path = path(i, scale, shutter.row_share), path(i, scale, 1.0)
        views.append(
            View(f"{i:03d}", "train", subframes[NUM_SUBFRAMES // 2], subframes, open_path, None, px[i])
        )
    return Plan(views, shutter, scale)


def plan_video(
    stand: Stand, num_train: int, num_test: int, shutter: Shutter, video: Video, median_px: float,
    focal_px: float, points_at: PointsAt, rng: np.random.Generator,
) -> Plan:  # fmt: skip
    """Consecutive frames of one hand-held clip. Held-out views lie beside the path, between two frames."""
    if shutter.exposure_s > 1.0 / video.fps:
        raise ValueError("the exposure is longer than the time between two frames")
    sweep = _Sweep.random(stand, num_train / video.fps, video.sweep, rng)
    hand = shake.HandheldShake.random(rng)
    times = (np.arange(num_train) + 0.5) / video.fps
    points = [points_at(sweep.pose(t)) for t in times]

    def path(time_s: Array, scale: float) -> Array:
        return np.stack([sweep.pose(t) for t in time_s]) @ poses.exp(
            scale * _metric(hand.offset(time_s), stand)
        )

    def lengths(scale: float) -> list[float]:
        return [
            poses.path_length_px(path(shutter.exposure_times(t, NUM_SUBFRAMES), scale), p, focal_px)
            for t, p in zip(times, points, strict=True)
        ]

    scale = shake.solve_scale(lambda x: float(np.median(lengths(x))), median_px)
    views = []
    for i, (t, px) in enumerate(zip(times, lengths(scale), strict=True)):
        subframes = path(shutter.exposure_times(t, NUM_SUBFRAMES), scale)
        open_path = path(shutter.open_times(t, NUM_SUBFRAMES), scale)
        views.append(
            View(f"{i:03d}", "train", subframes[NUM_SUBFRAMES // 2], subframes, open_path, float(t), px)
        )
    for k in range(num_test):
        t = (int((k + 0.5) * num_train / num_test) + 1.0) / video.fps
        views.append(View(f"{num_train + k:03d}", "test", sweep.pose(t, rng.uniform(-2.0, 2.0))))
    dense = np.linspace(0.0, num_train / video.fps, 16 * num_train + 1)
    return Plan(views, shutter, scale, video, {"time_s": dense.tolist(), "c2w": path(dense, scale).tolist()})


@dataclass(frozen=True)
class _Sweep:
    """A slow walk along the arc: azimuth grows steadily, elevation and distance swing once."""

    stand: Stand
    duration_s: float
    share: float
    phase: float

    @staticmethod
    def random(stand: Stand, duration_s: float, share: float, rng: np.random.Generator) -> "_Sweep":
        return _Sweep(stand, duration_s, share, rng.uniform(0.0, 2 * np.pi))

    def pose(self, time_s: float, lift_deg: float = 0.0) -> Array:
        x = time_s / self.duration_s
        low, high = self.stand.elevation_deg
        swing = np.sin(2 * np.pi * x + self.phase)
        elevation = 0.5 * (low + high) + 0.5 * self.share * (high - low) * swing + lift_deg
        azimuth = self.stand.azimuth_deg * self.share * (2 * x - 1)
        distance = self.stand.distance * (1 + 0.04 * self.share * np.cos(2 * np.pi * x + self.phase))
        eye = poses.on_sphere(
            np.array(self.stand.focus), distance, np.deg2rad(azimuth), np.deg2rad(elevation)
        )
        return poses.look_at(eye, np.array(self.stand.focus))


def _serpentine(stand: Stand, index: int, total: int, rng: np.random.Generator) -> Array:
    """Position `index` of `total` on three passes over the arc, with a person's irregularity."""
    x = index / max(total - 1, 1)
    across = 1 - 2 * abs((1.5 * x) % 1.0 * 2 - 1)  # -1 .. 1, back and forth
    low, high = stand.elevation_deg
    azimuth = stand.azimuth_deg * across + 0.06 * stand.azimuth_deg * rng.standard_normal()
    elevation = low + (high - low) * x + 0.08 * (high - low) * rng.standard_normal()
    distance = stand.distance * (1 + 0.04 * rng.standard_normal())
    target = np.array(stand.focus) + 0.02 * stand.distance * rng.standard_normal(3)
    eye = poses.on_sphere(np.array(stand.focus), distance, np.deg2rad(azimuth), np.deg2rad(elevation))
    return poses.look_at(eye, target, np.deg2rad(2.0) * rng.standard_normal())


def _metric(offset: Array, stand: Stand) -> Array:
    """Offsets whose translation is in units of the distance -> world units."""
    return offset * np.array([stand.distance] * 3 + [1.0] * 3)
