"""trajectories.json: the camera's path during every exposure; and a TUM text file of the mid-exposure poses."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblurgs.errors import CaptureError
from deblurgs.files import plain_json, read_json, write_bytes_atomic

Doubles = NDArray[np.float64]

FORMAT = "deblurgs-trajectories"
VERSION = 1
CONVENTIONS = {
    "camera_from_world": "4x4, row by row, takes a point in world coordinates to camera coordinates",
    "camera_axes": "+x right, +y down, +z forward (OpenCV, COLMAP)",
    "world": "the world of sfm/sparse/0 and export/scene.ply",
    "length_unit": "the unit of that world; its size in metres is unknown",
    "time_s": "seconds since the start of the video, null for photos",
    "u": "time within the exposure, 0 = shutter opens, 0.5 = middle, 1 = shutter closes",
    "weights": "share of the light that each virtual view contributes, sum 1",
    "shutter": "duty: share of the frame interval during which the shutter is open; interval_s: that interval in "
    "seconds; readout: first to last row, in frame intervals (continuous) or exposures; null where not known",
    "knots": "camera_from_world of the curve's control knots; inner ones need not lie on the path",
}
_ROTATION_TOLERANCE = 1e-4


@dataclass(frozen=True)
class ShutterEstimate:
    """What was learnt or given about the shutter, one for all frames; None where there is nothing to know.

    duty: share of the frame interval during which the shutter is open, (0,1), and interval_s that interval in seconds,
    both of a `continuous` trajectory only. readout: from the first to the last row, in frame intervals for a
    `continuous` trajectory and in exposures for others; negative where rows are read from below; None for a global
    shutter.
    """

    duty: float | None = None
    interval_s: float | None = None
    readout: float | None = None

    @property
    def exposure_s(self) -> float | None:
        """How long the shutter is open, in seconds."""
        return None if self.duty is None or self.interval_s is None else self.duty * self.interval_s

    @property
    def readout_s(self) -> float | None:
        """From the first to the last row in seconds, where the frame interval is known."""
        return None if self.readout is None or self.interval_s is None else self.readout * self.interval_s

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not np.isfinite(value):
                raise ValueError(f"{name} of the shutter is not finite")
        if self.duty is not None and not 0 < self.duty <= 1:
            raise ValueError(f"duty of the shutter must lie in (0, 1], not {self.duty}")
        if self.interval_s is not None and self.interval_s <= 0:
            raise ValueError(f"interval_s of the shutter must be above 0, not {self.interval_s}")


@dataclass(frozen=True)
class FrameTrajectory:
    """The camera's path during one exposure.

    kind: static, linear, cubic, bezier or continuous. knots [K,4,4], u [V] in [0,1] increasing, weights [V] with sum 1,
    camera_from_world [V,4,4] at u, mid_camera_from_world [4,4] at u = 0.5 (the pose of the sharp frame).
    Nested lists are taken too and kept as float64 arrays.
    """

    name: str
    kind: str
    knots: Doubles
    u: Doubles
    weights: Doubles
    camera_from_world: Doubles
    mid_camera_from_world: Doubles
    time_s: float | None = None

    def __post_init__(self) -> None:
        for name in ("knots", "u", "weights", "camera_from_world", "mid_camera_from_world"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), np.float64))


def write_trajectories(
    path: Path,
    frames: Sequence[FrameTrajectory],
    *,
    shutter: ShutterEstimate | None = None,
    overwrite: bool = True,
) -> None:
    """Write one line of JSON per frame inside one valid JSON document. Raises ValueError for invalid frames."""
    for frame in frames:
        _validate(frame)
    known = shutter or ShutterEstimate()
    about = {**plain_json(known), "exposure_s": known.exposure_s, "readout_s": known.readout_s}
    head = {"format": FORMAT, "version": VERSION, "conventions": CONVENTIONS, "shutter": about}
    start = json.dumps(head, indent=1)[:-2]
    lines = ",\n".join(
        json.dumps(plain_json(frame), ensure_ascii=False, allow_nan=False) for frame in frames
    )  # fmt: skip
    text = f'{start},\n "frames": [\n{lines}\n]\n}}\n'
    write_bytes_atomic(path, text.encode("utf-8", "surrogateescape"), overwrite=overwrite)


def read_trajectories(path: Path) -> list[FrameTrajectory]:
    """Read and check a trajectories.json. Raises CaptureError that names the file, the frame and the field."""
    return [_frame_from_json(entry, index, path) for index, entry in enumerate(_document(path)["frames"])]


def read_shutter(path: Path) -> ShutterEstimate:
    """What a trajectories.json says about the shutter; all None in files of earlier versions. Raises CaptureError."""
    entry = _document(path).get("shutter", {})
    if not isinstance(entry, dict):
        raise CaptureError(f"{path}: shutter is not an object")
    try:
        values = {f.name: entry.get(f.name) for f in fields(ShutterEstimate)}
        return ShutterEstimate(**{key: None if v is None else float(v) for key, v in values.items()})
    except (TypeError, ValueError) as error:
        raise CaptureError(f"{path}: {error}") from error


def _document(path: Path) -> dict[str, Any]:
    try:
        data = read_json(path)
    except (OSError, ValueError) as error:
        raise CaptureError(f"cannot read the trajectories: {error}") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT or not isinstance(data.get("frames"), list):
        raise CaptureError(f"{path} is not a trajectories file of deblurgs")
    if data.get("version") != VERSION:
        raise CaptureError(
            f"{path} has version {data.get('version')!r}, this deblurgs reads {VERSION}. Update deblurgs."
        )
    return data


def _frame_from_json(entry: Any, index: int, path: Path) -> FrameTrajectory:
    where = f"{path}, frame {index}"
    if not isinstance(entry, dict):
        raise CaptureError(f"{where} is not an object")
    try:
        frame = FrameTrajectory(
            name=str(entry["name"]),
            kind=str(entry["kind"]),
            time_s=None if entry["time_s"] is None else float(entry["time_s"]),
            **{
                key: np.asarray(entry[key], np.float64)
                for key in ("knots", "u", "weights", "camera_from_world", "mid_camera_from_world")
            },
        )
        _validate(frame)
    except KeyError as error:
        raise CaptureError(f"{where} has no {error}") from error
    except (TypeError, ValueError) as error:
        raise CaptureError(f"{where}: {error}") from error
    return frame


def _validate(frame: FrameTrajectory) -> None:
    num_views = len(frame.u) if frame.u.ndim == 1 else -1
    shapes = {
        "u": (frame.u, (num_views,)),
        "weights": (frame.weights, (num_views,)),
        "camera_from_world": (frame.camera_from_world, (num_views, 4, 4)),
        "knots": (frame.knots, (len(frame.knots) if frame.knots.ndim else 0, 4, 4)),
        "mid_camera_from_world": (frame.mid_camera_from_world, (4, 4)),
    }
    for key, (array, shape) in shapes.items():
        if array.shape != shape:
            raise ValueError(f"{key} of {frame.name!r} has shape {array.shape}, expected {shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{key} of {frame.name!r} has values that are not finite")
        if array.ndim >= 2 and not _are_rigid(array):
            raise ValueError(f"{key} of {frame.name!r} is not a rotation and a translation")
    if num_views < 1 or frame.u.min() < 0 or frame.u.max() > 1 or (np.diff(frame.u) <= 0).any():
        raise ValueError(f"u of {frame.name!r} must increase within [0, 1]")
    if frame.weights.min() < 0 or abs(frame.weights.sum() - 1) > 1e-3:
        raise ValueError(f"weights of {frame.name!r} must be positive with sum 1")


def _are_rigid(matrices: Doubles) -> bool:
    rotations = matrices[..., :3, :3]
    products = rotations @ np.swapaxes(rotations, -1, -2)
    return bool(
        np.allclose(products, np.eye(3), atol=_ROTATION_TOLERANCE)
        and (np.linalg.det(rotations) > 0).all()
        and np.allclose(matrices[..., 3, :], [0, 0, 0, 1], atol=1e-9)
    )


def write_tum(path: Path, frames: Sequence[FrameTrajectory], *, overwrite: bool = True) -> None:
    """Write the mid-exposure poses as lines `t tx ty tz qx qy qz qw`, the text form of the TUM RGB-D benchmark.

    The pose is world_from_camera: t is the camera's place in the world, q (xyzw) its orientation. Photos have no
    time; their index takes its place.
    """
    lines: list[str] = []
    for index, frame in enumerate(frames):
        _validate(frame)
        rotation = frame.mid_camera_from_world[:3, :3].T
        place = -rotation @ frame.mid_camera_from_world[:3, 3]
        time_s = float(index) if frame.time_s is None else frame.time_s
        numbers = (*place, *quat_xyzw_from_rotation(rotation))
        lines.append(" ".join([f"{time_s:.6f}", *(f"{number:.9g}" for number in numbers)]))
    text = "# time_s tx ty tz qx qy qz qw (world_from_camera at mid-exposure)\n" + "\n".join(lines) + "\n"
    write_bytes_atomic(path, text.encode(), overwrite=overwrite)


def read_tum(path: Path) -> tuple[Doubles, Doubles]:
    """Times [F] and poses camera_from_world [F,4,4] of a TUM file. Raises CaptureError that names file and line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise CaptureError(f"cannot read the poses {path}: {error}") from error
    times, poses = [], []
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            numbers = np.array(words, np.float64)
            if len(numbers) != 8 or not np.isfinite(numbers).all():
                raise ValueError("it takes eight finite numbers: t tx ty tz qx qy qz qw")
            times.append(numbers[0])
            poses.append(_camera_from_tum(numbers[1:4], numbers[4:]))
        except ValueError as error:
            raise CaptureError(f"{path}, line {number} is no pose: {error}") from error
    return np.array(times), np.array(poses).reshape(-1, 4, 4)


def _camera_from_tum(place: Doubles, xyzw: Doubles) -> Doubles:
    length = float(np.linalg.norm(xyzw))
    if abs(length - 1.0) > 1e-2:
        raise ValueError("the quaternion does not have length 1")
    x, y, z, w = xyzw / length
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    world_from_camera = np.eye(3) + 2.0 * (w * cross + cross @ cross)
    pose = np.eye(4)
    pose[:3, :3] = world_from_camera.T
    pose[:3, 3] = -world_from_camera.T @ place
    return pose


def quat_xyzw_from_rotation(rotation: Doubles) -> Doubles:
    """The unit quaternion [4], xyzw with w >= 0, that is nearest to a rotation matrix [3,3].

    The eigenvector of the largest eigenvalue of a symmetric 4x4 matrix (Bar-Itzhack, "New method for extracting
    the quaternion from a rotation matrix", J. Guidance 23(6), 2000): exact everywhere, without case distinctions.
    """
    r = np.asarray(rotation, np.float64)
    k = np.empty((4, 4))
    k[:3, :3] = r + r.T - np.trace(r) * np.eye(3)
    k[:3, 3] = k[3, :3] = r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]
    k[3, 3] = np.trace(r)
    xyzw = np.linalg.eigh(k)[1][:, -1]
    return -xyzw if xyzw[3] < 0 else xyzw
