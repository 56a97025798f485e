"""Quality and time of `deblurgs eval` on captures with ground truth, gathered into one JSON file.

    python tools/bench_quality.py DATA --json benchmarks/quality.json --docs README.md [--only blurball-fast,...]

DATA holds the scene folders (deblurnerf_blurball, synth_desk, bic_video, fox). Each scene runs in a process of its own,
one after the other; run it on a quiet machine, since training seconds are part of the result. Scenes already in the
JSON file are kept unless they are measured again; the table between the marks in the docs file is written from the JSON
file. fox has no sharp views: every eighth of its photos is held out instead.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from results import commit, today, write_between

RUNS: dict[str, list[str]] = {
    "blurball-fast": ["deblurnerf_blurball", "--preset", "fast", "--seeds", "0,1"],
    "blurball-default": ["deblurnerf_blurball", "--seeds", "0,1"],
    "blurball-own-sfm": ["deblurnerf_blurball", "--sfm", "blurry-only", "--seeds", "0,1"],
    "blurball-best": ["deblurnerf_blurball", "--preset", "best", "--seeds", "0,1"],
    "synth_desk": ["synth_desk", "--sfm", "blurry-only", "--methods", "plain,deblurgs,oracle"],
    "bic_video": ["bic_video", "--sfm", "blurry-only", "--methods", "plain,deblurgs,oracle"],
    "fox": ["fox"],
}

HOLD_EVERY = {"fox": 8}
USUAL = [name for name in RUNS if name != "blurball-best"]  # which takes an hour


def held_out(capture: Path, target: Path, every: int) -> Path:
    """The same photos as a folder with images/ and test/: every `every`-th of them is held out."""
    for number, photo in enumerate(sorted((capture / "images").iterdir())):
        part = target / ("test" if number % every == every // 2 else "images")
        part.mkdir(parents=True, exist_ok=True)
        (part / photo.name).symlink_to(photo.resolve())
    return target


def measure(data: Path, arguments: list[str]) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "result.json"
        scene, *options = arguments
        source = data / scene
        if scene in HOLD_EVERY:
            source = held_out(source, Path(folder) / scene, HOLD_EVERY[scene])
        command = [sys.executable, "-m", "deblurgs.cli", "eval", str(source), *options]
        subprocess.run([*command, "--json", str(target), "--output", str(Path(folder) / "run")], check=True)
        return json.loads(target.read_text())


TITLES = {
    "blurball-fast": "Deblur-NeRF ball, given model, `fast`",
    "blurball-default": "Deblur-NeRF ball, given model, `default`",
    "blurball-own-sfm": "Deblur-NeRF ball, own SfM, `default`",
    "blurball-best": "Deblur-NeRF ball, given model, `best`",
    "synth_desk": "rendered desk, own SfM, `default`",
    "bic_video": "phone video, own SfM, `default`",
    "fox": "fox, nearly sharp, own SfM, `default`",
}
BEGIN, END = "<!-- table from benchmarks/quality.json -->", "<!-- end of the table -->"


def table(results: dict[str, dict]) -> str:
    """Means over the seeds, one line per scene, task and method."""
    lines = [
        "| scene | size | task | method | seeds | aligned | refined | training |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, title in TITLES.items():
        groups: dict[tuple[str, str], list[dict]] = {}
        for row in results.get(name, {}).get("rows", []):
            groups.setdefault((row["task"], row["method"]), []).append(row)
        for (task, method), rows in sorted(groups.items(), key=lambda item: (item[0][0] != "novel", item[0])):
            aligned, refined = (
                statistics.mean(r[column]["psnr"] for r in rows) for column in ("aligned", "refined")
            )
            width, height = rows[0]["size"]
            seconds = statistics.mean(r["train_seconds"] for r in rows)
            lines.append(
                f"| {title} | {width}x{height} | {task} | {method} | {len(rows)} | {aligned:.2f} | {refined:.2f} "
                f"| {seconds:.0f} s |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--docs", type=Path, help="file with the table's marks")
    parser.add_argument(
        "--only", default=",".join(USUAL), help=f"of {', '.join(RUNS)}; empty: only write the table"
    )
    options = parser.parse_args()
    results = json.loads(options.json.read_text()) if options.json.exists() else {}
    for name in filter(None, options.only.split(",")):
        result = measure(options.data, RUNS[name])
        results[name] = {"date": today(), "commit": commit(), **result}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    if options.docs:
        write_between(options.docs, BEGIN, END, table(results))


if __name__ == "__main__":
    main()
