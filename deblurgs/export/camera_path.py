"""Camera paths in the JSON format of nerfstudio's viewer (nerfstudio/viewer/render_panel.py), read and written.

Top level: `camera_type` perspective, `render_height`, `render_width`, `fps`, `seconds`, `is_cycle`,
`smoothness_value`, `keyframes`, `camera_path`. Each item of `camera_path` is one picture: `camera_to_world` (16
numbers, row by row, OpenGL axes), `fov` (vertical, degrees), `aspect` (width / height).
The world is that of export/scene.ply.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deblurgs.errors import CaptureError
from deblurgs.export.axes import Doubles, camera_from_opengl, opengl_world_from_camera
from deblurgs.files import read_json, write_json_atomic
from deblurgs.scene.camera import Camera

MAX_POSES = 100_000
MAX_SIDE = 16_384


@dataclass(frozen=True)
class CameraPath:
    """Pictures to render: camera_from_world [P,4,4] (OpenCV axes), one camera each, all of one size; fps of a video."""

    camera_from_world: Doubles
    cameras: Sequence[Camera]
    fps: float


def write_camera_path(path: Path, camera_path: CameraPath, *, overwrite: bool = True) -> None:
    """Raises ValueError for an empty path. The principal point is not part of the format: it is the middle there."""
    if not len(camera_path.cameras) or len(camera_path.cameras) != len(camera_path.camera_from_world):
        raise ValueError("a camera path needs poses, and one camera for each")
    first = camera_path.cameras[0]
    items = [
        {
            "camera_to_world": [float(x) for x in pose.ravel()],
            "fov": math.degrees(2.0 * math.atan(0.5 * camera.height / camera.fy)),
            "aspect": camera.width / camera.height,
        }
        for pose, camera in zip(
            opengl_world_from_camera(camera_path.camera_from_world), camera_path.cameras, strict=True
        )
    ]
    record = {
        "camera_type": "perspective", "render_height": first.height, "render_width": first.width,
        "fps": camera_path.fps, "seconds": len(items) / camera_path.fps, "is_cycle": False, "smoothness_value": 0.0,
        "keyframes": [], "camera_path": items,
    }  # fmt: skip
    write_json_atomic(path, record, overwrite=overwrite)


def read_camera_path(path: Path) -> CameraPath:
    """Raises CaptureError that names the file, the picture and the field."""
    try:
        data = read_json(path)
    except (OSError, ValueError) as error:
        raise CaptureError(f"cannot read the camera path {path}: {error}") from error
    items = data.get("camera_path") if isinstance(data, dict) else None
    if not isinstance(items, list) or not items:
        raise CaptureError(f"{path} is no camera path: it has no list `camera_path` with at least one entry")
    if len(items) > MAX_POSES:
        raise CaptureError(f"{path} has {len(items)} poses; at most {MAX_POSES} are rendered")
    if data.get("camera_type", "perspective") != "perspective":
        raise CaptureError(
            f"{path}: camera_type {data['camera_type']!r} cannot be rendered, only perspective"
        )
    width = round(_number(data, "render_width", path, 1, MAX_SIDE))
    height = round(_number(data, "render_height", path, 1, MAX_SIDE))
    # Some versions write only the duration.
    seconds = _number(data, "seconds", path, 1e-3, 1e6) if "fps" not in data else 0.0
    fps = _number(data, "fps", path, 1e-3, 1000) if "fps" in data else max(len(items) / seconds, 1e-3)
    poses, cameras = [], []
    for index, item in enumerate(items):
        where = f"{path}, entry {index} of camera_path"
        if not isinstance(item, dict):
            raise CaptureError(f"{where} is not an object")
        try:
            matrix = np.asarray(item["camera_to_world"], np.float64)
            poses.append(
                camera_from_opengl(matrix.reshape(-1, 4) if matrix.size in (12, 16) else matrix.reshape(4, 4))
            )
        except KeyError as error:
            raise CaptureError(f"{where} has no camera_to_world") from error
        except (TypeError, ValueError) as error:
            raise CaptureError(
                f"{where}: camera_to_world must be 16 numbers of a rigid pose ({error})"
            ) from error
        focal = 0.5 * height / math.tan(math.radians(_number(item, "fov", where, 0.1, 179.0)) / 2)
        cameras.append(Camera(width, height, focal, focal, width / 2, height / 2))
    return CameraPath(np.stack(poses), cameras, fps)


def _number(record: dict[str, Any], key: str, where: Path | str, low: float, high: float) -> float:
    value = record.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
        raise CaptureError(f"{where}: {key} must be a number from {low:g} to {high:g}, not {value!r}")
    return float(value)
