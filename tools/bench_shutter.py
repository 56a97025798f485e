"""Duty cycle and readout of rendered clips, as `deblurgs eval` finds them from blurry frames alone, beside the truth.

    python tools/bench_shutter.py CAPTURE... --json benchmarks/shutter.json [--docs docs/method.md]
                                  [-- OPTIONS OF `deblurgs eval`]

Each CAPTURE is a folder of `tools/make_scenes.py --video`, whose cameras.json knows the shutter. It is evaluated with
`--trajectory continuous`; where the shutter rolled, once as if it had not, and once with the readout estimated. Clips
already in the JSON file are kept unless they are measured again; with --docs the table in that file is written anew.
"""

import json
import sys
import tempfile
from pathlib import Path

from ablate import evaluate
from results import capture_parser, commit, measure_captures, today

BEGIN, END = "<!-- table from benchmarks/shutter.json -->", "<!-- end of the table -->"
USUAL = ["--sfm", "blurry-only", "--preset", "fast", "--trajectory", "continuous"]
ROLLING = ["--train.trajectory.rolling-shutter"]


def measure(clip: Path, options: list[str]) -> dict:
    truth = json.loads((clip / "cameras.json").read_text(encoding="utf-8"))
    readout = truth["readout_s"] * truth["fps"]
    result: dict = {
        "date": today(), "commit": commit(), "options": options, "duty": truth["duty"], "readout": round(readout, 4),
        "focal_px": truth["fl_x"], "made_with": truth["made_with"], "runs": {},
    }  # fmt: skip
    for name, more in {"global": [], "rolling": ROLLING}.items():
        if name == "global" or readout > 0:
            with tempfile.TemporaryDirectory() as folder:
                rows = evaluate(clip, Path(folder), [*USUAL, *more, *options])
            result["runs"][name] = {
                "shutter": rows[0]["shutter"],
                "refined": {row["task"]: row["refined"]["psnr"] for row in rows},
                "train_seconds": rows[0]["train_seconds"],
            }
    return result


def table(results: dict[str, dict]) -> str:
    lines = [
        "| clip | taken for | duty: true, found | readout: true, found | novel, refined | deblurring, refined |",
        "|---|---|---|---|---|---|",
    ]
    for clip, result in results.items():
        for name, run in result["runs"].items():
            found = run["shutter"]
            readout = f"{found['readout']:.2f}" if "readout" in found else "-"
            novel, deblurring = (
                f"{run['refined'].get(t, float('nan')):.2f}" for t in ("novel", "deblurring")
            )
            lines.append(
                f"| {clip} | {name} | {result['duty']:.2f}, {found['duty']:.2f} | {result['readout']:.2f}, {readout} "
                f"| {novel} | {deblurring} |"
            )
    return "\n".join(lines)


def main() -> None:
    arguments, own = sys.argv[1:], []
    if "--" in arguments:
        at = arguments.index("--")
        arguments, own = arguments[:at], arguments[at + 1 :]
    options = capture_parser(__doc__).parse_args(arguments)
    measure_captures(options, lambda clip: measure(clip, own), table, BEGIN, END)


if __name__ == "__main__":
    main()
