"""Feeds damaged files to every reader for as long as asked, and names those that make one crash, hang or eat memory.

    python tools/fuzz.py --minutes 30 [--target ply] [--start 0]

Each reader works in a process of its own with an address space of 8 GB; an input that takes over 30 s counts as a hang.
The number that is printed for a fault repeats it: --target NAME --start NUMBER --minutes 0.
"""

import argparse
import faulthandler
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
        faults += watch(name, arguments.minutes, arguments.start)
    print(f"{faults} faults" if faults else "no faults")
    return 1 if faults else 0


def watch(name: str, minutes: float, start: int) -> int:
    """Run workers until the time is up; one that dies is followed by another behind the fatal input. -> faults."""
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
            return faults
        faults += 1
        print(
            f"{name}: input {last} ended the reader (exit {done.returncode}):\n{done.stderr[-1500:]}",
            flush=True,
        )
        start = last + 1
        if time.monotonic() >= deadline or faults >= 20:
            return faults


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
