"""The stored capture: upright PNG frames on disk and `frames.json`, which is written last and so marks
completion.
"""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, cast, get_args

from deblurgs import files
from deblurgs.capture.detect import Kind
from deblurgs.capture.verdicts import read_verdicts
from deblurgs.errors import CaptureError
from deblurgs.scene.frame import Frame

FRAMES_FILE = "frames.json"
GIVEN_POSES_FILE = "given_poses.json"
TRIAGE_FILE = "triage.json"
_FORMAT = "deblurgs-capture"
_VERSION = 1


@dataclass(frozen=True)
class Capture:
    """Everything later stages may know of the user's input.

    frames: training frames, in order; test_frames: held-out views (split "test"), stored in their own folder.
    dropped: (user's file name, reason). fps: average frame rate of a video from its time stamps.
    given_model: a COLMAP model that came with the source; its image names are `source_names`, its cameras
    belong to the images it was made from, which may have another size than the frames. given_poses: LLFF
    poses converted to `given_poses.json` (only when there is no COLMAP model). twins: frame name -> sharp
    image of the same instant, for evaluation only. masks: frame name -> 8-bit PNG, 255 = opaque, for photos
    with transparency. source_names: frame name -> file name in the source's image folder. truth: known
    cameras, for evaluation only.
    """

    kind: Kind
    frames: list[Frame]
    test_frames: list[Frame] = field(default_factory=list)
    dropped: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    fps: float | None = None
    given_model: Path | None = None
    given_poses: Path | None = None
    twins: dict[str, Path] = field(default_factory=dict)
    masks: dict[str, Path] = field(default_factory=dict)
    source_names: dict[str, str] = field(default_factory=dict)
    truth: Path | None = None


def save_capture(capture: Capture, out_dir: Path) -> None:
    """Write `frames.json` (strict JSON, paths relative to `out_dir`), atomically."""

    def relative(path: Path | None) -> str | None:
        return None if path is None else path.relative_to(out_dir).as_posix()

    def frame(item: Frame) -> dict[str, Any]:
        return {
            "name": item.name, "source": capture.source_names.get(item.name), "path": relative(item.path),
            "width": item.width, "height": item.height, "time_s": item.time_s, "sharpness": item.sharpness,
            "exposure_s": item.exposure_s, "camera": item.camera,
            "twin": relative(capture.twins.get(item.name)), "mask": relative(capture.masks.get(item.name)),
        }  # fmt: skip

    record = {
        "format": _FORMAT, "version": _VERSION, "kind": capture.kind, "fps": capture.fps,
        "frames": [frame(f) for f in capture.frames],
        "test_frames": [frame(f) for f in capture.test_frames],
        "dropped": [{"name": name, "reason": reason} for name, reason in capture.dropped],
        "warnings": capture.warnings,
        "given_model": relative(capture.given_model), "given_poses": relative(capture.given_poses),
        "truth": relative(capture.truth),
    }  # fmt: skip
    write_json(out_dir / FRAMES_FILE, record)


def load_capture(out_dir: Path) -> Capture:
    """Read `frames.json` back, and what triage found of the frames.

    Raises CaptureError when it is missing, damaged or points outside `out_dir`.
    """
    path = out_dir / FRAMES_FILE
    record = read_json(path)
    if not isinstance(record, dict) or record.get("format") != _FORMAT:
        raise CaptureError(f"{path} is not a list of frames written by deblurgs")
    if record.get("version") != _VERSION:
        raise CaptureError(
            f"{path} has version {record.get('version')}, this program reads {_VERSION}; ingest again"
        )
    try:
        return _capture(record, out_dir)
    except (KeyError, TypeError, ValueError) as error:
        raise CaptureError(
            f"{path} is damaged ({type(error).__name__}: {error}); ingest the source again"
        ) from error


def write_json(path: Path, record: object) -> None:
    """Strict JSON (no NaN), ASCII only so that odd file names survive, written atomically."""
    files.write_bytes_atomic(path, json.dumps(record, indent=1, allow_nan=False).encode("ascii"))


def read_json(path: Path) -> Any:
    """Strict JSON with a size limit. Raises CaptureError."""
    try:
        return files.read_json(path)
    except OSError as error:
        raise CaptureError(f"cannot read {path}: {error.strerror}; run `deblurgs process` first") from error
    except ValueError as error:
        raise CaptureError(f"{error}; ingest the source again") from error


def _capture(record: dict[str, Any], out_dir: Path) -> Capture:
    kind = record["kind"]
    if kind not in get_args(Kind):
        raise ValueError(f"unknown kind {kind!r}")
    twins: dict[str, Path] = {}
    masks: dict[str, Path] = {}
    sources: dict[str, str] = {}
    verdicts = read_verdicts(out_dir / TRIAGE_FILE)

    def frames(key: str, split: str) -> list[Frame]:
        items = []
        for item in record[key]:
            name, path = item["name"], _inside(out_dir, item["path"])
            if not isinstance(name, str) or not name or path is None:
                raise ValueError("a frame without name or path")
            if name in sources or name in {f.name for f in items}:
                raise ValueError(f"frame {name!r} occurs twice")
            if (twin := _inside(out_dir, item["twin"])) is not None:
                twins[name] = twin
            if (mask := _inside(out_dir, item["mask"])) is not None:
                masks[name] = mask
            if item["source"] is not None:
                sources[name] = str(item["source"])
            items.append(
                Frame(
                    name, path, _count(item["width"]), _count(item["height"]),
                    _number(item["time_s"]), _number(item["sharpness"]), "test" if split == "test" else "train",
                    # Older captures have neither.
                    _number(item.get("exposure_s")),
                    None if item.get("camera") is None else str(item["camera"]),
                    verdicts.get(name) if split == "train" else None,
                )
            )  # fmt: skip
        return items

    return Capture(
        cast(Kind, kind), frames("frames", "train"), frames("test_frames", "test"),
        [(str(item["name"]), str(item["reason"])) for item in record["dropped"]],
        [str(text) for text in record["warnings"]],
        _number(record["fps"]), _inside(out_dir, record["given_model"]), _inside(out_dir, record["given_poses"]),
        twins, masks, sources, _inside(out_dir, record["truth"]),
    )  # fmt: skip


def _inside(root: Path, text: object) -> Path | None:
    """A path below `root`; a run folder may come from others, so it must not reach outside."""
    if text is None:
        return None
    pure = PurePosixPath(str(text))
    if pure.is_absolute() or ".." in pure.parts or not pure.parts:
        raise ValueError(f"path {text!r} leaves the folder")
    return root / pure


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"expected a positive whole number, got {value!r}")
    return value


def _number(value: object) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"expected a finite number, got {value!r}")
    return float(value)
