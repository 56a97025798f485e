"""Camera poses from blurred frames alone: `deblurgs process --own-sfm` on captures, compared with the truth if known.

    python tools/bench_sfm.py CAPTURE... --json benchmarks/sfm.json --docs docs/sfm.md [--work DIR]

The truth is the capture's cameras.json (`c2w` of each view, exact), else the same SfM on its sharp twins (sharp/), else
unknown. Errors are taken after one similarity: median rotation in degrees, RMSE of the camera centres in % of their RMS
distance from their mean. Captures already in the JSON file are kept unless they are measured again; the table between
the marks in the docs file is written from the JSON file.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from results import commit, write_between

from deblurgs.files import write_json_atomic
from deblurgs.sfm.diagnose import disagreement
from deblurgs.sfm.model import load_model

BEGIN, END = "<!-- table from benchmarks/sfm.json -->", "<!-- end of the table -->"


def process(source: Path, output: Path) -> tuple[int, float, str]:
    """`deblurgs process --own-sfm`: exit code, seconds, last line of what it said on failure."""
    command = [sys.executable, "-m", "deblurgs.cli", "process", str(source), "--output", str(output)]
    begun = time.monotonic()
    done = subprocess.run(
        [*command, "--own-sfm", "--quiet", "--overwrite"], capture_output=True, text=True, check=False
    )
    said = " ".join((done.stderr + done.stdout).split())
    return done.returncode, time.monotonic() - begun, said[-400:] if done.returncode else ""


def poses(run: Path) -> dict[str, np.ndarray]:
    model = load_model(run / "sfm")
    return {Path(n).stem: p for n, p in zip(model.names, model.camera_from_world, strict=True)}


def truth(capture: Path, work: Path) -> tuple[str | None, dict[str, np.ndarray]]:
    """What the poses are compared with: (kind, camera_from_world by stem)."""
    exact = capture / "cameras.json"
    if exact.is_file():
        views = json.loads(exact.read_text(encoding="utf-8"))["frames"]
        return "exact", {Path(v["name"]).stem: np.linalg.inv(np.array(v["c2w"])) for v in views}
    if (capture / "sharp").is_dir():
        run = work / f"{capture.name}-sharp"
        if not (run / "sfm" / "model.npz").is_file():
            process(capture / "sharp", run)
        return "SfM on sharp twins", poses(run)
    return None, {}


def measure(capture: Path, work: Path) -> dict[str, Any]:
    run = work / capture.name
    code, seconds, said = process(capture, run)
    row: dict[str, Any] = {
        "exit_code": code, "seconds": round(seconds, 1), "commit": commit(), "cpus": os.cpu_count(),
        "measured_utc": datetime.now(UTC).isoformat(timespec="seconds"),
    }  # fmt: skip
    if code:
        return {**row, "error": said}
    report = json.loads((run / "sfm" / "sfm.json").read_text(encoding="utf-8"))
    kind, known = truth(capture, work)
    compared = disagreement(poses(run), known) if kind else None
    return {
        **row,
        "registered": report["registered"],
        "total": report["total"],
        "rung": report["rung"],
        "error_px": report["error_px"],
        "truth": kind,
        "rotation_deg": None if compared is None else round(compared[0], 3),
        "centers_percent": None if compared is None else round(100 * compared[1], 2),
        "warnings": report["warnings"],
        "tried": [
            {k: t.get(k) for k in ("rung", "registered", "kept", "why", "disagreement", "seconds")}
            for t in report["tried"]
        ],
    }


def table(results: dict[str, Any]) -> str:
    lines = [
        "| capture | registered | rotation, median | centres, RMSE | truth | rung | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in results.items():
        if row["exit_code"]:
            lines.append(f"| {name} | exit code {row['exit_code']} | | | | | {row['seconds']:.0f} |")
            continue
        rotation = "-" if row["rotation_deg"] is None else f"{row['rotation_deg']:.2f} deg"
        centers = "-" if row["centers_percent"] is None else f"{row['centers_percent']:.1f} %"
        lines.append(
            f"| {name} | {row['registered']}/{row['total']} | {rotation} | {centers} | {row['truth'] or 'unknown'} "
            f"| {row['rung']} | {row['seconds']:.0f} |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("captures", type=Path, nargs="*")
    parser.add_argument("--json", type=Path, help="results are merged into this file")
    parser.add_argument("--docs", type=Path, help="write the table between the marks of this file")
    parser.add_argument(
        "--work", type=Path, help="keep the run folders here, and SfM of sharp twins between runs"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        known = options.json is not None and options.json.is_file()
        results = json.loads(options.json.read_text(encoding="utf-8"))["captures"] if known else {}
        for capture in options.captures:
            results[capture.name] = measure(capture, work)
            print(table({capture.name: results[capture.name]}).splitlines()[-1], flush=True)
            if options.json is not None:
                write_json_atomic(options.json, {"captures": results})
    if options.docs is not None:
        write_between(options.docs, BEGIN, END, table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
