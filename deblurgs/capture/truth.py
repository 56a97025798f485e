"""The exact cameras of a rendered capture (`cameras.json`) as given poses, for evaluation with known poses."""

from pathlib import Path
from typing import Any

import numpy as np

from deblurgs.capture.dataset import Capture
from deblurgs.capture.llff import GivenPoses
from deblurgs.errors import CaptureError
from deblurgs.files import read_json, write_json_atomic


def write_true_poses(capture: Capture, target: Path) -> Path:
    """Write the mid-exposure poses of all frames, held-out ones too, in the format of `given_poses.json`.

    `capture.truth` holds w, h, fl_x, fl_y, cx, cy in px and per frame name, split ("train" or "test") and c2w, 4x4
    world_from_camera with OpenCV axes. Names are compared without suffix. Raises CaptureError when it is missing,
    malformed, of another image size, or lacks a training frame; a held-out view without pose is left out.
    """
    path = capture.truth
    if path is None:
        raise CaptureError("the capture has no cameras.json with its true poses")
    try:
        data: dict[str, Any] = read_json(path)
        width, height = int(data["w"]), int(data["h"])
        fx, fy, cx, cy = (float(data[key]) for key in ("fl_x", "fl_y", "cx", "cy"))
        known = {
            (str(frame["split"]), str(frame["name"]).rsplit(".", 1)[0]): np.array(frame["c2w"], np.float64)
            for frame in data["frames"]
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CaptureError(
            f"{path}: the true poses cannot be read ({type(error).__name__}: {error}). It needs w, h, fl_x, fl_y, "
            "cx, cy and frames with name, split and c2w. Use --sfm blurry-only to estimate the poses."
        ) from error
    named = {}
    for frame in (*capture.frames, *capture.test_frames):
        if (frame.width, frame.height) != (width, height):
            raise CaptureError(
                f"{path} is for images of {width}x{height}, but {frame.name} has {frame.width}x{frame.height}"
            )
        source = capture.source_names.get(frame.name, frame.name)
        pose = known.get((frame.split, source.rsplit(".", 1)[0]))
        if pose is not None:
            if pose.shape != (4, 4) or not np.isfinite(pose).all() or abs(np.linalg.det(pose)) < 1e-9:
                raise CaptureError(f"{path}: c2w of {source} is no finite rigid 4x4 matrix")
            named[frame.name] = np.linalg.inv(pose)
        elif frame.split == "train":
            raise CaptureError(f"{path} has no pose for {source}")
    write_json_atomic(target, GivenPoses(width, height, fx, fy, cx, cy, named).as_json())
    return target
