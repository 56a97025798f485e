"""`transforms.json` of nerfstudio and instant-ngp: photos with lenses and poses.

Camera-to-world matrices with OpenGL axes; intrinsics for all frames, each of which a frame may override. Pixel
coordinates count as in COLMAP, where these files come from: the centre of the first pixel is (0.5, 0.5). The world's
own turn and scale (`applied_transform`) need no undoing: any world will do.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from deblurgs.capture.given import GivenView, NoRigidPoseError, from_opengl
from deblurgs.errors import CaptureError
from deblurgs.files import read_json

FILE_NAME = "transforms.json"
_MAX_BYTES = 64 * 2**20
_MAX_FRAMES = 50_000
_SUFFIXES = ("", ".png", ".jpg", ".jpeg", ".JPG", ".PNG", ".webp", ".tif")
_PINHOLES = ("PINHOLE", "SIMPLE_PINHOLE")
_POLYNOMIAL = ("OPENCV", "FULL_OPENCV", "SIMPLE_RADIAL", "RADIAL", "PERSPECTIVE")
_FISHEYE = ("OPENCV_FISHEYE", "FISHEYE")


@dataclass(frozen=True)
class Transforms:
    """By the photo's path relative to the file's folder: where it lies, its camera, its mask. left_out: (name, why)."""

    photos: dict[str, Path] = field(default_factory=dict)
    views: dict[str, GivenView] = field(default_factory=dict)
    masks: dict[str, Path] = field(default_factory=dict)
    left_out: list[tuple[str, str]] = field(default_factory=list)


def read_transforms(path: Path) -> Transforms:
    """Raises CaptureError for a file that is too large, no JSON, without frames or with an unknown camera model.

    Single frames whose photo is missing or outside the folder, or whose pose is none, are left out with a reason.
    """
    try:
        data = read_json(path, max_bytes=_MAX_BYTES)
    except OSError as error:
        raise CaptureError(f"cannot open {path}: {error.strerror}") from error
    except ValueError as error:
        raise CaptureError(str(error)) from error
    frames = data.get("frames") if isinstance(data, dict) else None
    if not isinstance(frames, list) or not frames:
        raise CaptureError(f"{path} has no frames: it is not a transforms.json of nerfstudio or instant-ngp")
    if len(frames) > _MAX_FRAMES:
        raise CaptureError(f"{path} lists {len(frames)} frames, more than the limit of {_MAX_FRAMES}")
    found = Transforms()
    for number, entry in enumerate(frames):
        if not isinstance(entry, dict) or not isinstance(entry.get("file_path"), str):
            found.left_out.append((f"frame {number}", "it has no file_path"))
            continue
        name, reason = _photo(path.parent, entry["file_path"])
        if name is None:
            found.left_out.append((entry["file_path"], reason))
        elif name in found.photos:
            found.left_out.append((name, f"{path.name} lists it twice"))
        else:
            _add(found, path, name, {**data, **entry})
    if not found.photos:
        what, why = found.left_out[0]
        raise CaptureError(f"no frame of {path} can be used ({what}: {why})")
    return found


def _add(found: Transforms, path: Path, name: str, entry: dict[str, Any]) -> None:
    try:
        pose = from_opengl(entry.get("transform_matrix"))
        view = _view(entry, pose)
    except NoRigidPoseError as error:
        found.left_out.append((name, f"its transform_matrix cannot be used: {error}"))
        return
    except CaptureError as error:
        raise CaptureError(f"{path}: {name}: {error}") from error
    found.photos[name], found.views[name] = path.parent / name, view
    if isinstance(entry.get("mask_path"), str):
        mask, reason = _photo(path.parent, entry["mask_path"])
        if mask is None:
            found.left_out.append((entry["mask_path"], reason))
        else:
            found.masks[name] = path.parent / mask


def _photo(root: Path, text: str) -> tuple[str | None, str]:
    """The file's path below `root` with slashes, and why there is none. A file from others must not reach outside."""
    pure = PurePosixPath(text.replace("\\", "/"))
    if pure.is_absolute() or ".." in pure.parts or "\0" in text or ":" in text.partition("/")[0]:
        return None, "its path leaves the folder of the file"
    for suffix in _SUFFIXES:
        path = root / f"{pure}{suffix}"
        try:
            if path.is_file():
                inside = path.resolve().is_relative_to(root.resolve())
                return (f"{pure}{suffix}", "") if inside else (None, "it is a link that leaves the folder")
        except (OSError, ValueError, RuntimeError) as error:
            return None, f"it cannot be opened ({type(error).__name__})"
    return None, "the file does not exist"


def _view(entry: dict[str, Any], pose: Any) -> GivenView:
    width, height = int(_number(entry, "w") or 0), int(_number(entry, "h") or 0)
    fx, fy = _number(entry, "fl_x"), _number(entry, "fl_y")
    angles = [_number(entry, f"camera_angle_{axis}") for axis in "xy"]
    fx = fx or _focal(angles[0], width)
    fy = fy or _focal(angles[1], height) or fx
    if not fx or not fy or min(fx, fy) <= 0:
        raise CaptureError("it has no focal length (fl_x, or camera_angle_x together with w)")
    if min(width, height) <= 0:
        raise CaptureError("it has no image size (w and h)")
    centre = (_number(entry, "cx", width / 2.0), _number(entry, "cy", height / 2.0))
    k = [_number(entry, f"k{i}", 0.0) for i in (1, 2, 3, 4)]
    p = [_number(entry, f"p{i}", 0.0) for i in (1, 2)]
    model = str(entry.get("camera_model") or "OPENCV").upper()
    base = (float(fx), float(fy), *(float(c or 0.0) for c in centre))
    k, p = [float(v or 0.0) for v in k], [float(v or 0.0) for v in p]
    if model in _FISHEYE or entry.get("is_fisheye") is True:
        return GivenView("OPENCV_FISHEYE", width, height, (*base, *k), pose)
    if model not in _PINHOLES and model not in _POLYNOMIAL:
        known = ", ".join((*_PINHOLES, *_POLYNOMIAL, *_FISHEYE))
        raise CaptureError(f"the camera model {model!r} is not supported; known: {known}")
    if model in _PINHOLES or not any(k + p):
        return GivenView("PINHOLE", width, height, base, pose)
    if not any(k[2:]):
        return GivenView("OPENCV", width, height, (*base, *k[:2], *p), pose)
    return GivenView("FULL_OPENCV", width, height, (*base, *k[:2], *p, *k[2:], 0.0, 0.0), pose)


def _focal(angle: float | None, side: int) -> float | None:
    if not angle or not 0 < angle < math.pi or side <= 0:
        return None
    return 0.5 * side / math.tan(0.5 * angle)


def _number(entry: dict[str, Any], key: str, default: float | None = None) -> float | None:
    value = entry.get(key)
    if value is None:
        return default
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not math.isfinite(value)
        or abs(value) > 1e9
    ):
        raise CaptureError(f"{key} is {str(value)[:40]!r}, not a usable number")
    return float(value)
