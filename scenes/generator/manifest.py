"""cameras.json: everything about a capture that a test may need as truth."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scenes.generator.plan import NUM_SUBFRAMES, Plan
from scenes.generator.sensor import Noise

CONVENTION = (
    "c2w: 4x4 camera-to-world, OpenCV axes (x right, y down, z forward), world z up, metres. Pixels: the centre of the "
    "top-left pixel is (0.5, 0.5); pinhole, no distortion. c2w of a frame is the mid-exposure of its MIDDLE row. "
    f"subframes: {NUM_SUBFRAMES} c2w uniform in time over the middle row's exposure, ends included, the middle one is "
    "c2w. Row r is exposed over [m - exposure_s/2, m + exposure_s/2] with m = time_s + readout_s * ((r + 0.5) / h - "
    "0.5), r from the top; scan: c2w uniform over the time in which any row is open (only with readout_s > 0). "
    "pixel = response(gains * noisy(exposure_scale * radiance)); blur is a mean of radiance. sharp/ has the gains of "
    "its frame, a global shutter and no noise; test/ has gains 1."
)


def as_json(
    plan: Plan, width: int, height: int, focal_px: float, gains: NDArray[np.float64], noise: Noise,
    suffix: str, settings: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """gains [num_train,3] in the order of the training views; suffix: of the files in images/; settings: how made."""
    shutter, video = plan.shutter, plan.video
    frames = []
    factors = iter(gains)
    for view in plan.views:
        entry: dict[str, Any] = {
            "name": view.name + (suffix if view.split == "train" else ".png"),
            "split": view.split,
            "c2w": view.mid.tolist(),
        }
        if view.subframes is not None and view.open_path is not None:
            entry |= {
                "time_s": view.time_s,
                "exposure_s": shutter.exposure_s,
                "gains": next(factors).tolist(),
                "path_px": round(view.path_px, 3),
                "subframes": view.subframes.tolist(),
            }
            if shutter.readout_s > 0:
                entry["scan"] = view.open_path.tolist()
        frames.append(entry)
    lengths = [view.path_px for view in plan.views if view.split == "train"]
    return {
        "w": width, "h": height, "fl_x": focal_px, "fl_y": focal_px, "cx": width / 2, "cy": height / 2,
        "convention": CONVENTION,
        "fps": video.fps if video else None,
        "duty": shutter.exposure_s * video.fps if video else None,
        "exposure_s": shutter.exposure_s, "readout_s": shutter.readout_s, "row_reference": "middle",
        "path_px": {
            name: round(float(np.percentile(lengths, p)), 3)
            for name, p in (("p10", 10), ("median", 50), ("p90", 90), ("max", 100))
        },
        "noise": asdict(noise), "made_with": settings, "path": plan.path or None, "frames": frames,
    }  # fmt: skip


def write(path: Path, value: dict[str, Any]) -> None:
    """One line per view: small enough to read, and a change of one view is a change of one line."""
    head = {key: item for key, item in value.items() if key != "frames"}
    rows = ",\n".join(json.dumps(frame) for frame in value["frames"])
    text = json.dumps(head)[:-1] + ', "frames": [\n' + rows + "\n]}\n"
    path.write_text(text, encoding="utf-8")
