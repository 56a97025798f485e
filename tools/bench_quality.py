"""Quality and time of `deblurgs eval` on captures with ground truth, gathered into one JSON file.

    python tools/bench_quality.py DATA --json benchmarks/quality.json [--only blurball-fast,...]

DATA holds the scene folders (deblurnerf_blurball, synth_desk, bic_video). Each scene runs in a process of its own, one
after the other; run it on a quiet machine, since training seconds are part of the result. Scenes already in the JSON
file are kept unless they are measured again.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

RUNS: dict[str, list[str]] = {
    "blurball-fast": ["deblurnerf_blurball", "--preset", "fast", "--seeds", "0,1"],
    "blurball-default": ["deblurnerf_blurball", "--seeds", "0,1"],
    "synth_desk": ["synth_desk", "--sfm", "blurry-only", "--methods", "plain,deblurgs,oracle"],
    "bic_video": ["bic_video", "--sfm", "blurry-only", "--methods", "plain,deblurgs,oracle"],
}


def commit() -> str:
    """The checkout's commit, with a plus sign where tracked files differ from it."""
    head = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    dirty = subprocess.run(
        ["git", "status", "--porcelain", "-uno"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "")


def today() -> str:
    return datetime.now(UTC).date().isoformat()


def measure(data: Path, arguments: list[str]) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "result.json"
        scene, *options = arguments
        command = [sys.executable, "-m", "deblurgs.cli", "eval", str(data / scene), *options]
        subprocess.run([*command, "--json", str(target), "--output", str(Path(folder) / "run")], check=True)
        return json.loads(target.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--only", default=",".join(RUNS))
    options = parser.parse_args()
    results = json.loads(options.json.read_text()) if options.json.exists() else {}
    for name in options.only.split(","):
        result = measure(options.data, RUNS[name])
        results[name] = {"date": today(), "commit": commit(), **result}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
