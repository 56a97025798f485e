"""Poses of LLFF and Deblur-NeRF folders: `poses_bounds.npy` -> camera_from_world in our axes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deblurgs.errors import CaptureError

_MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class GivenPoses:
    """One pinhole camera in pixels of the stored frames, and camera_from_world [4,4] float64 per frame name."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    frames: dict[str, NDArray[np.float64]]

    def as_json(self) -> dict[str, object]:
        """The format of `given_poses.json`: width, height, fx, fy, cx, cy, frames: {name: 4x4 rows}."""
        numbers = {key: getattr(self, key) for key in ("width", "height", "fx", "fy", "cx", "cy")}
        return {**numbers, "frames": {name: matrix.tolist() for name, matrix in self.frames.items()}}


def read_poses_bounds(path: Path, names: list[str], width: int, height: int) -> GivenPoses:
    """Read `poses_bounds.npy` [N,17] (Mildenhall et al., LLFF, 2019; repository README "Using your own
    poses").

    Of each row the first 15 numbers are a 3x5 matrix [R | t | (h, w, f)], world_from_camera, whose rotation
    columns are the camera's [down, right, back] axes; the last two are depth bounds. names: one per row, in
    the order of the file (alphabetical). width, height: size of the images in use; focal lengths are scaled
    to it, the principal point is the image centre. Raises CaptureError for a wrong shape, non-finite numbers
    or a rotation that is none.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"larger than {_MAX_BYTES >> 20} MB")
        rows = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise CaptureError(f"cannot read the poses {path}: {error}") from error
    if rows.ndim != 2 or rows.shape[1] != 17 or rows.dtype.kind not in "fiu":
        raise CaptureError(f"{path}: expected numbers of shape [N,17], got {rows.dtype} {list(rows.shape)}")
    if len(rows) != len(names):
        raise CaptureError(f"{path}: {len(rows)} poses for {len(names)} images; one row per image is needed")
    matrices = rows[:, :15].astype(np.float64).reshape(-1, 3, 5)
    if not np.isfinite(matrices).all():
        raise CaptureError(f"{path}: the poses contain numbers that are not finite")
    llff_height, llff_width, focal = np.median(matrices[:, :, 4], axis=0)
    if min(llff_height, llff_width, focal) <= 0:
        raise CaptureError(f"{path}: image size and focal length must be positive")
    down, right, back = matrices[:, :, 0], matrices[:, :, 1], matrices[:, :, 2]
    rotation = np.stack([right, down, -back], axis=2)  # world_from_camera, OpenCV axes
    gram = np.swapaxes(rotation, 1, 2) @ rotation
    if np.abs(gram - np.eye(3)).max() > 1e-3 or (np.linalg.det(rotation) < 0).any():
        raise CaptureError(f"{path}: a pose holds no rotation; the file is not in LLFF's format")
    camera_from_world = np.zeros((len(rows), 4, 4))
    camera_from_world[:, :3, :3] = np.swapaxes(rotation, 1, 2)
    camera_from_world[:, :3, 3] = -np.einsum("nij,ni->nj", rotation, matrices[:, :, 3])
    camera_from_world[:, 3, 3] = 1.0
    return GivenPoses(
        width, height, float(focal * width / llff_width), float(focal * height / llff_height),
        width / 2.0, height / 2.0, dict(zip(names, camera_from_world, strict=True)),
    )  # fmt: skip
