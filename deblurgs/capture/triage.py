"""Which frames are worth keeping: a blur score, a camera-motion path, and the choice by coverage and
sharpness.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.float32]

SHARPNESS_SIDE = 640
"""Longer side in pixels of the grey picture that sharpness is measured on (so that scores compare within a
capture).
"""
MOTION_SIDE = SHARPNESS_SIDE // 2
"""Longer side in pixels of the grey picture that camera motion is measured on."""
STATIC_PX = 0.5
"""A capture whose camera path stays below this many pixels of the motion picture shows no motion at all."""

_LOST_STEP = 0.25
"""Step in picture widths assumed when two neighbours share nothing that correlates."""
_ANCHOR_PX = 6.0
_MIN_PEAK = 7.0
_FLAT_GREY = 1.0 / 255.0


def sharpness(grey: Grey) -> float:
    """1 - blur, in [0,1], higher is sharper; grey [H,W] in [0,1].

    The no-reference measure of Crete, Dolmiere, Ladret, Nicolas, "The blur effect: perception and estimation
    with a new no-reference perceptual blur metric", SPIE 6492, 2007: the picture is blurred once
    more with a box of 9; a sharp picture loses most of its neighbour differences, a blurred one keeps them.
    The ratio is free of contrast and the amount of texture. The worse axis counts, so motion blur along one
    axis is seen.
    """
    blur = 0.0
    for axis in (0, 1):
        before = np.abs(np.diff(grey, axis=axis))
        after = np.abs(np.diff(_box_9(grey, axis), axis=axis))
        total = float(before.sum())
        if total <= 1e-6 * before.size:
            return 0.0  # no texture along this axis: nothing that could be called sharp
        lost = float(np.maximum(before - after, 0.0).sum())
        blur = max(blur, (total - lost) / total)
    return 1.0 - blur


def _box_9(grey: Grey, axis: int) -> Grey:
    """Running mean over 9 pixels along one axis, edges repeated: sums of 2, 4, 8 and one more."""
    lines = grey if axis == 0 else grey.T
    padded = np.pad(lines, ((4, 4), (0, 0)), mode="edge")
    two = padded[:-1] + padded[1:]
    four = two[:-2] + two[2:]
    nine = four[:-5] + four[4:-1] + padded[8:]
    mean = (nine / 9.0).astype(np.float32)
    return mean if axis == 0 else mean.T


def motion_picture(grey: Grey) -> Grey:
    """The picture for `MotionPath`: that for `sharpness` halved by area averaging, unless it is small
    already.
    """
    height, width = grey.shape
    if max(height, width) <= MOTION_SIDE or min(height, width) < 4:
        return grey
    even = grey[: height // 2 * 2, : width // 2 * 2]
    return 0.25 * (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2])


@dataclass
class MotionPath:
    """Length of the camera's way through a capture, measured picture by picture in fractions of the longer
    side.

    Each picture is compared with an anchor that is renewed only after `_ANCHOR_PX` of motion. So the noise of
    a camera that stands still does not add up to a path, and slow motion is not lost below the noise of one
    step.
    """

    positions: list[float] = field(default_factory=list)
    num_matched: int = 0
    _anchor: "_Blocks | None" = None
    _previous: "_Blocks | None" = None
    _anchor_position: float = 0.0
    _side: int = MOTION_SIDE

    def push(self, grey: Grey) -> float:
        """Add the next picture (grey [H,W] in [0,1], see `motion_picture`); returns its position on the path."""
        current = _Blocks.of(grey)
        self._side = max(grey.shape)
        position = self._place(current)
        self._previous = current
        self.positions.append(position)
        return position

    def _place(self, current: "_Blocks") -> float:
        if self._anchor is None or self._previous is None:
            self._anchor = current
            return 0.0
        distance = current.distance_px(self._anchor)
        if distance is not None:
            self.num_matched += 1
            position = self._anchor_position + distance / self._side
            if distance < _ANCHOR_PX:
                return position
        else:
            step = current.distance_px(self._previous)
            if step is None:
                step = 0.0 if current.flat or self._previous.flat else _LOST_STEP * self._side
            else:
                self.num_matched += 1
            position = self.positions[-1] + step / self._side
        self._anchor, self._anchor_position = current, position
        return position

    @property
    def is_static(self) -> bool:
        """True when pictures with texture were matched and none moved: a camera on a tripod."""
        if len(self.positions) < 2 or self.num_matched < len(self.positions) - 1:
            return False
        return (max(self.positions) - min(self.positions)) * self._side < STATIC_PX


@dataclass(frozen=True)
class _Blocks:
    """Spectra of 3x3 overlapping half-size windows: rotation and zoom move the windows even where the mean
    stands.
    """

    spectra: NDArray[np.complex64]  # [9, h, w/2+1]
    shape: tuple[int, int]
    flat: bool

    @staticmethod
    def of(grey: Grey) -> "_Blocks":
        height, width = grey.shape
        h, w = max(height // 2, 2), max(width // 2, 2)
        rows = (0, (height - h) // 2, height - h)
        columns = (0, (width - w) // 2, width - w)
        blocks = np.stack([grey[y : y + h, x : x + w] for y in rows for x in columns])
        flat = bool(np.abs(np.diff(blocks, axis=2)).mean() < 0.25 * _FLAT_GREY)
        blocks = blocks - blocks.mean(axis=(1, 2), keepdims=True)
        window = np.outer(np.hanning(h + 2)[1:-1], np.hanning(w + 2)[1:-1]).astype(np.float32)
        return _Blocks(np.fft.rfft2(blocks * window).astype(np.complex64), (h, w), flat)

    def distance_px(self, other: "_Blocks") -> float | None:
        """Median length of the windows' shifts by phase correlation (Kuglin and Hines 1975), None if
        unmatched.
        """
        if self.shape != other.shape or self.flat or other.flat:
            return None
        h, w = self.shape
        cross = self.spectra * np.conj(other.spectra)
        cross /= np.abs(cross) + 1e-12
        # High frequencies are noise and, in blurred pictures, absent: a Gaussian low-pass keeps the peak
        # honest.
        fy, fx = np.fft.fftfreq(h)[:, None], np.fft.rfftfreq(w)[None]
        surface = np.fft.irfft2(cross * np.exp(-0.5 * (fy**2 + fx**2) / 0.12**2), s=(h, w))
        lengths = []
        for plane in surface:
            y, x = divmod(int(plane.argmax()), w)
            if plane[y, x] > _MIN_PEAK * plane.std():
                dy, dx = _peak(plane[:, x], y), _peak(plane[y], x)
                lengths.append(float(np.hypot(dy, dx)))
        return float(np.median(lengths)) if len(lengths) >= 3 else None


def _peak(line: NDArray[np.floating], index: int) -> float:
    """Signed sub-pixel place of the maximum of a periodic line, by the parabola through three samples."""
    size = len(line)
    left, middle, right = line[index - 1], line[index], line[(index + 1) % size]
    bend = left - 2.0 * middle + right
    place = index + (0.5 * (left - right) / bend if bend < 0.0 else 0.0)
    return float(place - size if place > size / 2 else place)


def choose_frames(
    positions: list[float], scores: list[float], max_frames: int, min_step: float = 0.005
) -> list[int]:
    """Indices, ascending, of at most `max_frames` pictures that cover the camera's path evenly, the sharpest
    of each part.

    positions: path position of each picture in picture widths; scores: sharpness. The path is cut into equal
    parts; from each part with pictures the best one is taken, by sharpness with a mild preference for the
    middle of the part. Parts are not made shorter than `min_step` (a still camera adds nothing), but at least
    a dozen pictures are taken. When the camera jumps, parts stay empty; then the path is cut finer until the
    budget is used.
    """
    count = len(positions)
    if count != len(scores) or max_frames < 1 or min_step <= 0:
        raise ValueError(
            f"need one score per position, max_frames >= 1 and min_step > 0, got {count}, "
            f"{len(scores)}, {max_frames}, {min_step}"
        )
    if count == 0:
        return []
    path = np.asarray(positions, np.float64)
    score = np.asarray(scores, np.float64)
    extent = float(path.max() - path.min())
    budget = min(max_frames, count)
    useful = int(extent / min_step) + 1
    least = min(12, budget)
    if useful < least:
        # Hardly any motion: spread over time instead, and let SfM say whether there is parallax.
        path, extent, useful = np.arange(count, dtype=np.float64), max(count - 1.0, 1.0), least
    best: list[int] = []
    low, high = 1, max(min(useful, 8 * budget), 1)
    if extent > 0:
        # The number of non-empty parts grows with the number of parts, though not strictly; bisection
        # suffices.
        while low <= high:
            parts = (low + high) // 2
            picked = _sharpest_of_parts(path, score, extent, parts)
            if len(picked) <= budget:
                best = picked if len(picked) >= len(best) else best
                low = parts + 1
            else:
                high = parts - 1
    return best or [int(score.argmax())]


def _sharpest_of_parts(
    path: NDArray[np.float64], score: NDArray[np.float64], extent: float, parts: int
) -> list[int]:
    place = (path - path.min()) / extent * parts
    part = np.minimum(place.astype(int), parts - 1)
    chosen = []
    for index in np.unique(part):
        members = np.flatnonzero(part == index)
        spread = score[members].max() - score[members].min()
        quality = (score[members] - score[members].min()) / (spread if spread > 0 else 1.0)
        centre = np.abs(place[members] - index - 0.5) * 2.0
        # The ends of the path are pulled outwards, so that first and last motion extent are covered.
        if index == 0:
            centre = place[members]
        elif index == parts - 1:
            centre = parts - place[members]
        chosen.append(int(members[int((quality - 0.25 * centre**2).argmax())]))
    return sorted(chosen)
