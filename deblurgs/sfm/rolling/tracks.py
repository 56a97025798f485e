"""What a rolling-shutter adjustment is given and what it returns; arrays only, so that COLMAP's side needs no torch."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Tracks:
    """What a video saw. Sightings in any order: frame, point [N] int; pixel [N,2] (x, y, centre of the top-left pixel
    0.5). size: width, height; center: principal point, px. times [F] strictly increasing, any unit."""

    frame: NDArray[np.int64]
    point: NDArray[np.int64]
    pixel: NDArray[np.float64]
    size: tuple[int, int]
    center: tuple[float, float]
    times: NDArray[np.float64]


@dataclass(frozen=True)
class Cameras:
    """camera_from_world [F,4,4] at the middle row, points [P,3], focal length in px, first radial distortion
    coefficient, readout (first to last row) in frame intervals, which are the median distance of two frames in time."""

    camera_from_world: NDArray[np.float64]
    points: NDArray[np.float64]
    focal: float
    distortion: float = 0.0
    readout: float = 0.0


@dataclass(frozen=True)
class Refined:
    """cameras: what was found. errors [N]: reprojection error of each sighting, px. global_cost, cost: of the best
    global shutter and of the best rolling one, on the same part of the points (px^2, robust); sightings: how many those
    are. starts: focal, readout and cost of every attempt. distortion_evidence: for lens distortion, see evidence.py."""

    cameras: Cameras
    errors: NDArray[np.float64]
    global_cost: float
    cost: float
    sightings: int
    starts: list[dict[str, float]]
    distortion_evidence: float
