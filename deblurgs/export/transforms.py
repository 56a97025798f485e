"""nerfstudio's `transforms.json`: cameras for nerfstudio, brush, Postshot and others, with the sharp frames as images.

`camera_model` OPENCV without distortion; per frame `file_path`, `transform_matrix` (camera-to-world, OpenGL axes), `w`,
`h`, `fl_x`, `fl_y`, `cx`, `cy` in pixels with the centre of the top-left pixel at (0.5, 0.5). The world is that of
export/scene.ply; `ply_file_path` names a splat or point file beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from deblurgs.errors import CaptureError
from deblurgs.export.axes import Doubles, camera_from_opengl, opengl_world_from_camera
from deblurgs.files import read_json, write_json_atomic
from deblurgs.scene.camera import Camera


@dataclass(frozen=True)
class PosedImage:
    """file_path: relative to the JSON, with `/`. camera_from_world [4,4]: OpenCV axes, at mid-exposure."""

    file_path: str
    camera: Camera
    camera_from_world: Doubles


def write_transforms(
    path: Path, images: Sequence[PosedImage], *, ply_file_path: str | None = None, overwrite: bool = True
) -> None:
    """Raises ValueError for no images."""
    if not images:
        raise ValueError(f"no images to write into {path}")
    frames = []
    for image in images:
        c = image.camera
        frames.append(
            {
                "file_path": image.file_path, "w": c.width, "h": c.height,
                "fl_x": c.fx, "fl_y": c.fy, "cx": c.cx, "cy": c.cy,
                "transform_matrix": opengl_world_from_camera(image.camera_from_world).tolist(),
            }
        )  # fmt: skip
    shared = {key: frames[0][key] for key in ("w", "h", "fl_x", "fl_y", "cx", "cy")}
    record = {
        "camera_model": "OPENCV", **shared, "k1": 0.0, "k2": 0.0, "p1": 0.0, "p2": 0.0,
        **({"ply_file_path": ply_file_path} if ply_file_path else {}), "frames": frames,
    }  # fmt: skip
    write_json_atomic(path, record, overwrite=overwrite)


def read_transforms(path: Path) -> list[PosedImage]:
    """What `write_transforms` wrote. Raises CaptureError that names the file, the frame and what is wrong.

    Only undistorted perspective cameras; a `file_path` that leaves the folder is refused.
    """
    try:
        data = read_json(path)
    except (OSError, ValueError) as error:
        raise CaptureError(f"cannot read {path}: {error}") from error
    if not isinstance(data, dict) or not isinstance(data.get("frames"), list) or not data["frames"]:
        raise CaptureError(f"{path} is no transforms.json: it has no list `frames` with at least one entry")
    if any(data.get(key) for key in ("k1", "k2", "p1", "p2")):
        raise CaptureError(f"{path} describes a lens with distortion, which this reader does not take")
    images = []
    for index, frame in enumerate(data["frames"]):
        try:
            name = PurePosixPath(str(frame["file_path"]))
            if name.is_absolute() or ".." in name.parts:
                raise ValueError(f"file_path {str(name)!r} leaves the folder")
            values = [float(frame.get(key, data.get(key))) for key in ("fl_x", "fl_y", "cx", "cy")]
            width, height = (int(frame.get(key, data.get(key))) for key in ("w", "h"))
            if width < 1 or height < 1 or not np.isfinite(values).all() or min(values[:2]) <= 0:
                raise ValueError("its size and focal lengths must be positive numbers")
            matrix = np.asarray(frame["transform_matrix"], np.float64)
            if matrix.shape not in ((4, 4), (3, 4)):
                raise ValueError(f"transform_matrix has shape {matrix.shape}")
            images.append(
                PosedImage(name.as_posix(), Camera(width, height, *values), camera_from_opengl(matrix))
            )
        except KeyError as error:
            raise CaptureError(f"{path}, frame {index} has no {error}") from error
        except (AttributeError, TypeError, ValueError) as error:
            raise CaptureError(f"{path}, frame {index}: {error}") from error
    return images
