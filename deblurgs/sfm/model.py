"""What structure from motion hands to training: pinhole cameras, poses, points, and who sees which point.

`model.npz` holds a SparseModel. It is read with `allow_pickle=False`, so a foreign file cannot run code.
Image paths are stored relative to the folder of the file, so that a run folder can be moved.
"""

import os
import zlib
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from deblurgs.errors import SfmError
from deblurgs.files import atomic_path
from deblurgs.scene.camera import Camera

MODEL_FILE = "model.npz"
_FORMAT = 1


@dataclass(frozen=True)
class SparseModel:
    """A sparse reconstruction of M registered frames and P points, in SfM's own world (arbitrary similarity).

    names: the registered frames in capture order. cameras: one pinhole camera per frame, pixels, centre of the
    top-left pixel (0.5, 0.5). image_paths: the frame that the pinhole camera describes: the frame itself, or its
    undistorted copy. camera_from_world: [M, 4, 4] float64, OpenCV axes (+x right, +y down, +z forward).
    points: [P, 3] float64. colors: [P, 3] uint8 sRGB. errors: [P] float32, mean reprojection error of the point
    in pixels. observations: for each frame the indices into `points` of what it sees, int64.
    failed: (name, reason) of each frame without a pose. masks: name -> 8-bit image of the size of the frame's image,
    0 where the photo shows nothing; only frames that have one. readout: of a rolling shutter (first to last row), in
    median distances of two frames in time; None where the cameras are those of a global shutter.
    """

    names: list[str]
    cameras: list[Camera]
    image_paths: list[Path]
    camera_from_world: NDArray[np.float64]
    points: NDArray[np.float64]
    colors: NDArray[np.uint8]
    errors: NDArray[np.float32]
    observations: list[NDArray[np.int64]]
    failed: list[tuple[str, str]]
    masks: dict[str, Path] = field(default_factory=dict)
    readout: float | None = None

    @property
    def num_frames(self) -> int:
        return len(self.names)

    def depths(self, frame_idx: int) -> NDArray[np.float64]:
        """Depths along +z, in world units, of the points that one frame sees. Shape [number of points
        seen]."""
        pose = self.camera_from_world[frame_idx]
        return self.points[self.observations[frame_idx]] @ pose[2, :3] + pose[2, 3]


def save_model(model: SparseModel, work_dir: Path) -> Path:
    """Write `work_dir/model.npz` atomically."""
    target = work_dir / MODEL_FILE
    cameras = [[c.width, c.height, c.fx, c.fy, c.cx, c.cy] for c in model.cameras]
    starts = np.cumsum([0, *(len(o) for o in model.observations)], dtype=np.int64)
    with atomic_path(target) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            format=np.array(_FORMAT),
            names=np.array(model.names, dtype=np.str_),
            cameras=np.array(cameras, dtype=np.float64).reshape(-1, 6),
            image_paths=np.array([_relative(p, work_dir) for p in model.image_paths], dtype=np.str_),
            camera_from_world=model.camera_from_world,
            points=model.points,
            colors=model.colors,
            errors=model.errors,
            observation_starts=starts,
            observation_point_idx=np.concatenate([np.zeros(0, np.int64), *model.observations]),
            failed=np.array(model.failed, dtype=np.str_).reshape(-1, 2),
            masks=np.array(
                [(n, _relative(p, work_dir)) for n, p in model.masks.items()], dtype=np.str_
            ).reshape(-1, 2),
            readout=np.array(np.nan if model.readout is None else model.readout),
        )
    return target


def load_model(work_dir: Path) -> SparseModel:
    """Read `work_dir/model.npz` and check that its arrays fit together.

    Raises SfmError when the file is missing, damaged, or of another version.
    """
    path = work_dir / MODEL_FILE
    if not path.is_file():
        raise SfmError(f"There is no SfM result at {path}. Run `deblurgs process` first.")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
            if int(data["format"]) != _FORMAT:
                raise ValueError(f"format {int(data['format'])}, expected {_FORMAT}")
            starts, point_idx = data["observation_starts"], data["observation_point_idx"]
            model = SparseModel(
                names=[str(n) for n in data["names"]],
                cameras=[Camera(int(c[0]), int(c[1]), *(float(v) for v in c[2:])) for c in data["cameras"]],
                image_paths=[Path(os.path.normpath(work_dir / str(p))) for p in data["image_paths"]],
                camera_from_world=data["camera_from_world"],
                points=data["points"],
                colors=data["colors"],
                errors=data["errors"],
                observations=[point_idx[a:b] for a, b in pairwise(starts)],
                failed=[(str(n), str(r)) for n, r in data["failed"]],
                masks={
                    str(n): Path(os.path.normpath(work_dir / str(p)))
                    for n, p in data.get("masks", ())  # older files have none
                },
                readout=_number(data.get("readout", np.nan)),
            )
        _check(model)
    except (ValueError, KeyError, OSError, EOFError, IndexError, TypeError, BadZipFile, zlib.error) as error:
        raise SfmError(
            f"The SfM result {path} cannot be read ({error}). Repeat SfM with `deblurgs process --overwrite`."
        ) from error
    return model


def _check(model: SparseModel) -> None:
    m, p = len(model.names), len(model.points)
    if (
        model.camera_from_world.shape != (m, 4, 4)
        or len(model.cameras) != m
        or len(model.image_paths) != m
        or len(model.observations) != m
    ):
        raise ValueError("its arrays describe different numbers of frames")
    if model.points.shape != (p, 3) or model.colors.shape != (p, 3) or model.errors.shape != (p,):
        raise ValueError("its arrays describe different numbers of points")
    if not (np.isfinite(model.camera_from_world).all() and np.isfinite(model.points).all()):
        raise ValueError("it holds NaN or infinite numbers")
    if any(len(o) and (o.min() < 0 or o.max() >= p) for o in model.observations):
        raise ValueError("a frame refers to a point that does not exist")


def _number(value: NDArray[np.float64]) -> float | None:
    return float(value) if np.isfinite(value) else None


def _relative(path: Path, folder: Path) -> str:
    """`path` as seen from `folder`; stays absolute only where no relative path exists (another drive)."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        return str(path)
