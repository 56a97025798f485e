"""Feeds damaged files to every reader for as long as asked, and names those that make one crash, hang or eat memory.

    python tools/fuzz.py --minutes 30 [--target ply] [--start 0] [--json out.json]

Each reader works in a process of its own with an address space of 8 GB; an input that takes over 30 s counts as a hang.
The number that is printed for a fault repeats it: --target NAME --start NUMBER --minutes 0. --json adds what was tried
to a file, reader by reader.
"""

import argparse
import faulthandler
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "fuzz"))

HANG_S = 30
MEMORY = 8 * 2**30


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=5.0, help="for each reader; 0 tries one input")
    parser.add_argument("--target", action="append")
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    from fuzz_targets import TARGETS

    names = arguments.target or list(TARGETS)
    unknown = set(names) - set(TARGETS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(TARGETS)}")
    if arguments.worker:
        return work(names[0], arguments.minutes, arguments.start)
    faults = 0
    for name in names:
        found, summary = watch(name, arguments.minutes, arguments.start)
        faults += found
        if arguments.json:
            record(arguments.json, name, arguments, found, summary)
    print(f"{faults} faults" if faults else "no faults")
    return 1 if faults else 0


def record(path: Path, name: str, arguments: argparse.Namespace, faults: int, summary: str) -> None:
    """Add one reader's turn to the file."""
    from results import commit, today

    turns = json.loads(path.read_text()) if path.exists() else []
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors"
    turns.append({
        "date": today(), "commit": commit(), "machine": machine, "target": name, "minutes": arguments.minutes,
        "start": arguments.start, "faults": faults, "summary": summary,
    })  # fmt: skip
    path.write_text(json.dumps(turns, indent=1) + "\n")


def watch(name: str, minutes: float, start: int) -> tuple[int, str]:
    """Run workers until the time is up; one that dies is followed by another behind the fatal input. -> faults, and
    what the last worker did."""
    deadline, faults = time.monotonic() + 60 * minutes, 0
    while True:
        left = max(deadline - time.monotonic(), 0.0) / 60
        command = [
            sys.executable,
            __file__,
            "--worker",
            "--target",
            name,
            "--minutes",
            str(left),
            "--start",
            str(start),
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        numbers = [int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("at ")]
        last = numbers[-1] if numbers else start
        summary = [line for line in done.stdout.splitlines() if line.startswith("done")]
        if done.returncode == 0:
            print(f"{name}: {summary[-1]}", flush=True)
            return faults, summary[-1]
        faults += 1
        print(
            f"{name}: input {last} ended the reader (exit {done.returncode}):\n{done.stderr[-1500:]}",
            flush=True,
        )
        start = last + 1
        if time.monotonic() >= deadline or faults >= 20:
            return faults, f"ended by input {last}"


def work(name: str, minutes: float, start: int) -> int:
    from fuzz_targets import TARGETS, one_input

    target = TARGETS[name]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    deadline, number, read = time.monotonic() + 60 * minutes, start, 0
    with tempfile.TemporaryDirectory() as temporary:
        seeds_folder = Path(temporary) / "seeds"
        seeds_folder.mkdir()
        seeds = target.seeds(seeds_folder)
        folder = Path(temporary) / "work"
        while True:
            print(f"at {number}", flush=True)
            faulthandler.dump_traceback_later(HANG_S, exit=True)
            folder.mkdir()
            read += one_input(target, seeds, number, folder)
            shutil.rmtree(folder)
            faulthandler.cancel_dump_traceback_later()
            number += 1
            if time.monotonic() >= deadline:
                print(f"done {number - start} inputs, {read} read, the others refused")
                return 0


if __name__ == "__main__":
    sys.exit(main())
