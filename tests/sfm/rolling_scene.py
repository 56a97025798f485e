"""A simulated clip of points seen by a rolling shutter, with everything known."""

from dataclasses import dataclass

import numpy as np
import torch

from deblurgs.math.lie import se3_exp
from deblurgs.sfm.rolling.tracks import Cameras, Tracks

SIZE, FOCAL = (360, 240), 340.0


@dataclass(frozen=True)
class Simulated:
    tracks: Tracks
    true: Cameras
    start: Cameras


def path(seed: int, fps: float, seconds: float):
    """world_from_camera [n,4,4] at times [n] in s: a sweep of 40 degrees about a point, and a hand's tremor."""
    rng = np.random.default_rng(seed)
    frequency = np.exp(rng.uniform(np.log(0.5), np.log(6.0), (16, 6)))
    strength = np.array([0.5, 0.5, 0.25, 1.0, 1.0, 0.6]) * 0.012
    amplitude = strength * np.abs(rng.standard_normal((16, 6))) / frequency
    phase = rng.uniform(0, 2 * np.pi, (16, 6))

    def at(times: np.ndarray) -> np.ndarray:
        poses = []
        for t in times:
            angle = np.radians(40.0) * (t / seconds - 0.5)
            centre = np.array(
                [-1.5 * np.sin(angle), 0.2 * np.sin(2 * t / seconds), 1.5 - 1.5 * np.cos(angle)]
            )
            forward = np.array([0, 0, 1.5]) - centre
            forward /= np.linalg.norm(forward)
            right = np.cross([0, 1.0, 0], forward)
            right /= np.linalg.norm(right)
            pose = np.eye(4)
            pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
            pose[:3, 3] = centre
            poses.append(pose)
        tremor = (amplitude * np.sin(2 * np.pi * frequency * times[:, None, None] + phase)).sum(axis=1)
        return np.stack(poses) @ se3_exp(torch.from_numpy(tremor)).numpy()

    return at


def simulate(
    seed: int, *, readout: float, fps: float = 20.0, frames: int = 24, points: int = 900, noise_px: float = 0.5,
    outliers: float = 0.03, start_focal: float = 1.0,
) -> Simulated:  # fmt: skip
    """outliers: share of the sightings that are off by up to 20 px. The start is a global shutter's: true poses and
    points, disturbed a little; where the focal length is another one, all of it is left to the adjustment."""
    rng = np.random.default_rng(1000 + seed)
    times = (np.arange(frames) + 0.5) / fps
    at = path(seed, fps, frames / fps)
    xyz = rng.uniform([-1.2, -0.8, 0.8], [1.2, 0.8, 2.4], (points, 3))
    width, height = SIZE
    frame_of, point_of, pixels = [], [], []
    for f, t in enumerate(times):
        row = np.full(points, 0.0)
        for _ in range(8):  # the row decides the pose, and the pose the row
            inverse = np.linalg.inv(at(t + readout / fps * row))
            x = np.einsum("nij,nj->ni", inverse[:, :3, :3], xyz) + inverse[:, :3, 3]
            pixel = FOCAL * x[:, :2] / x[:, 2:] + [width / 2, height / 2]
            row = np.clip(pixel[:, 1] / height - 0.5, -0.6, 0.6)
        inside = (x[:, 2] > 0.1) & (pixel > 0).all(axis=1) & (pixel < SIZE).all(axis=1)
        inside &= rng.random(points) < 0.5
        frame_of.append(np.full(inside.sum(), f))
        point_of.append(np.flatnonzero(inside))
        pixels.append(pixel[inside])
    frame, point, pixel = np.concatenate(frame_of), np.concatenate(point_of), np.concatenate(pixels)
    pixel = pixel + noise_px * rng.standard_normal(pixel.shape)
    wrong = rng.random(len(pixel)) < outliers
    pixel[wrong] += rng.uniform(-20, 20, (int(wrong.sum()), 2))
    seen, point = np.unique(point, return_inverse=True)
    xyz = xyz[seen]
    true = Cameras(np.linalg.inv(at(times)), xyz, FOCAL, 0.0, readout)
    shake = torch.from_numpy(0.003 * rng.standard_normal((frames, 6)))
    start = Cameras(
        np.linalg.inv(at(times) @ se3_exp(shake).numpy()),
        xyz + 0.02 * rng.standard_normal(xyz.shape),
        FOCAL * start_focal,
    )
    tracks = Tracks(frame, point, pixel, SIZE, (width / 2, height / 2), times)
    return Simulated(tracks, true, start)
