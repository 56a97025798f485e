"""What triage found out about the frames of a run folder, as later stages use it: a help that may be missing."""

import math
from pathlib import Path

from deblurgs import files
from deblurgs.scene.frame import FrameBlur


def read_verdicts(path: Path) -> dict[str, FrameBlur]:
    """Blur by frame name from a `triage.json`; empty where the file, and without those entries that, cannot be used."""
    try:
        record = files.read_json(path)
    except (OSError, ValueError):
        return {}
    rows = record.get("frames") if isinstance(record, dict) else None
    found = {}
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and isinstance(row.get("name"), str):
            percentile, extent_px = _number(row.get("percentile"), 1.0), _number(row.get("extent_px"), 1e5)
            if percentile is not None:
                found[row["name"]] = FrameBlur(percentile, extent_px)
    return found


def _number(value: object, most: float) -> float | None:
    """A finite number from 0 to `most`, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value) if 0 <= value <= most else None
