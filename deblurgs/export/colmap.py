"""A COLMAP model (COLMAP doc/format.rst): cameras.bin, images.bin, points3D.bin.

Binary rather than text, because COLMAP's text reader ends a name at its first space.

One PINHOLE camera per distinct camera and one image per frame at mid-exposure. The points carry colour and error but no
tracks: their observations were made in blurry frames, at places that the refined poses no longer explain.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deblurgs.errors import CaptureError
from deblurgs.export.trajectories import quat_xyzw_from_rotation
from deblurgs.files import write_bytes_atomic
from deblurgs.scene.camera import Camera

Doubles = NDArray[np.float64]

_PINHOLE = 1
_COUNT = struct.Struct("<Q")
_CAMERA = struct.Struct("<IiQQ4d")
_IMAGE = struct.Struct("<I7dI")
_POINT = struct.Struct("<Q3d3BdQ")


@dataclass(frozen=True)
class ColmapModel:
    """names: one per image, without zero bytes. cameras: one per image. camera_from_world [M,4,4]. points [P,3],
    colors [P,3] uint8, errors [P] pixels."""

    names: Sequence[str]
    cameras: Sequence[Camera]
    camera_from_world: Doubles
    points: Doubles
    colors: NDArray[np.uint8]
    errors: NDArray[np.float32]


def write_colmap(folder: Path, model: ColmapModel, *, overwrite: bool = True) -> None:
    """Write the three files into `folder`, which is made. Raises ValueError for a name with a zero byte."""
    if any("\0" in name for name in model.names):
        raise ValueError("an image name with a zero byte cannot stand in a COLMAP model")
    folder.mkdir(parents=True, exist_ok=True)
    ids: dict[Camera, int] = {}
    for camera in model.cameras:
        ids.setdefault(camera, len(ids) + 1)
    cameras = [_CAMERA.pack(i, _PINHOLE, c.width, c.height, c.fx, c.fy, c.cx, c.cy) for c, i in ids.items()]
    images = []
    for index, (name, camera) in enumerate(zip(model.names, model.cameras, strict=True), start=1):
        pose = model.camera_from_world[index - 1]
        x, y, z, w = quat_xyzw_from_rotation(pose[:3, :3])
        fixed = _IMAGE.pack(index, w, x, y, z, *pose[:3, 3], ids[camera])
        # The last number counts the image's 2-D points: none.
        images.append(fixed + name.encode("utf-8", "surrogateescape") + b"\0" + _COUNT.pack(0))
    points = [
        _POINT.pack(i, *p, *c, e, 0)
        for i, (p, c, e) in enumerate(
            zip(model.points.tolist(), model.colors.tolist(), model.errors.tolist(), strict=True), start=1
        )
    ]
    for file, records in (("cameras.bin", cameras), ("images.bin", images), ("points3D.bin", points)):
        data = _COUNT.pack(len(records)) + b"".join(records)
        write_bytes_atomic(folder / file, data, overwrite=overwrite)


def read_colmap(folder: Path) -> ColmapModel:
    """Read what `write_colmap` wrote: PINHOLE cameras, no tracks. Raises CaptureError."""
    try:
        cameras: dict[int, Camera] = {}
        data = (folder / "cameras.bin").read_bytes()
        for i in range(_count(data, _CAMERA.size)):
            number, kind, width, height, *params = _CAMERA.unpack_from(data, 8 + i * _CAMERA.size)
            if kind != _PINHOLE:
                raise ValueError(f"camera {number} is of model {kind}, only PINHOLE can be read here")
            cameras[number] = Camera(width, height, *params)
        names, used, poses = [], [], []
        data, at = (folder / "images.bin").read_bytes(), 8
        for _ in range(_count(data, _IMAGE.size + 9)):
            _, *numbers, camera = _IMAGE.unpack_from(data, at)
            end = data.index(b"\0", at + _IMAGE.size)
            names.append(data[at + _IMAGE.size : end].decode("utf-8", "surrogateescape"))
            if _COUNT.unpack_from(data, end + 1)[0]:
                raise ValueError(f"image {names[-1]!r} has 2-D points, which this reader does not take")
            used.append(cameras[camera])
            pose = np.eye(4)
            pose[:3, :3] = _rotation(np.array(numbers[:4]))
            pose[:3, 3] = numbers[4:]
            poses.append(pose)
            at = end + 1 + _COUNT.size
        data = (folder / "points3D.bin").read_bytes()
        rows = [_POINT.unpack_from(data, 8 + i * _POINT.size)[1:8] for i in range(_count(data, _POINT.size))]
    except (OSError, ValueError, KeyError, struct.error) as error:
        raise CaptureError(f"{folder} is not a COLMAP model that can be read: {error}") from error
    table = np.array(rows, np.float64).reshape(-1, 7)
    return ColmapModel(
        names, used, np.array(poses).reshape(-1, 4, 4), table[:, :3], table[:, 3:6].astype(np.uint8),
        table[:, 6].astype(np.float32),
    )  # fmt: skip


def _count(data: bytes, smallest: int) -> int:
    """The number of records at the start. Raises ValueError when they cannot be there."""
    (count,) = _COUNT.unpack_from(data)
    if count * smallest > len(data) - _COUNT.size:
        raise ValueError(f"{count} records are promised, the data end before")
    return count


def _rotation(wxyz: Doubles) -> Doubles:
    w, x, y, z = wxyz / np.linalg.norm(wxyz)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
