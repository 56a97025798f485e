"""Kills runs at random moments and checks that they go on as if nothing had happened.

    python tools/kill_test.py --kills 20 --seed 0 [--json out.json] [--work DIR]

One small run (ten frames of the demo) is made without interruption. Then, for each kill, a copy in which the chosen
stage and all later ones were never done is gone on with by `deblurgs resume`; after a random time the whole process
group gets SIGKILL. `deblurgs resume` once more must finish it with the same cameras, the same losses, the same scene
and the same pictures, bit for bit (the splat file up to rounding), and leave no lock, no temporary file and no
checkpoint behind.
"""

import argparse
import contextlib
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from results import commit, today
from safetensors.numpy import load_file

from deblurgs.demo import demo_source
from deblurgs.export.ply import read_ply
from deblurgs.files import TEMPORARY_PREFIX, read_json_lines

SETTINGS = ["--train.scales", "0.25", "--train.steps", "400", "--train.density.max-gaussians", "1500"]
STAGES = ("capture", "sfm", "train", "render", "export")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--work", type=Path, help="working folder; default: a temporary one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        results = kill_runs(arguments.work or Path(temporary), arguments.kills, arguments.seed)
    passed = sum(r["problem"] is None for r in results)
    print(f"{passed} of {len(results)} killed runs were finished as if nothing had happened")
    if arguments.json:
        machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors"
        record = {
            "date": today(),
            "commit": commit(),
            "machine": machine,
            "seed": arguments.seed,
            "kills": results,
        }
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")
    return 0 if passed == len(results) else 1


def kill_runs(work: Path, kills: int, seed: int) -> list[dict]:
    """-> one record per kill: stage, seconds, what the manifest said of the stages, and the problem or None."""
    straight = make_straight_run(work)
    seconds = {n: s["seconds"] for n, s in stages_of(straight).items()}
    draw = random.Random(seed)
    results = []
    for number in range(kills):
        stage = ("capture", "sfm", "train", "train", "render")[number % 5]
        begin = STAGES.index(stage)
        out = work / f"killed{number:03d}"
        begin_again(straight, out, STAGES[begin:])
        # Up to the end of the chosen stage, and a little of what follows. The interpreter takes a while to start.
        after_s = draw.uniform(0.0, 1.3 * seconds[stage] + 1.0)
        died_in = kill_after(out, after_s)
        done = subprocess.run(command("resume", out), capture_output=True, text=True, timeout=900)
        problem = (
            difference(straight, out) if done.returncode == 0 else f"exit {done.returncode}: {done.stderr}"
        )
        results.append(
            {
                "number": number,
                "stage": stage,
                "after_s": round(after_s, 2),
                "died_in": died_in,
                "problem": problem,
            }
        )
        print(
            f"{number + 1}/{kills}  {stage} killed after {after_s:.1f} s in {died_in}: {problem or 'same'}",
            flush=True,
        )
        if problem is None:
            shutil.rmtree(out)
    return results


def make_straight_run(work: Path) -> Path:
    photos, straight = work / "photos", work / "straight"
    photos.mkdir(parents=True)
    for path in sorted(demo_source().glob("*.jpg"))[:10]:
        shutil.copy2(path, photos)
    subprocess.run(
        [
            sys.executable, "-m", "deblurgs.cli", "run", str(photos), "--output", str(straight), *SETTINGS,
            "--checkpoint-every", "0.3", "--quiet",
        ],
        check=True,
    )  # fmt: skip
    return straight


def command(name: str, out: Path) -> list[str]:
    return [sys.executable, "-m", "deblurgs.cli", name, str(out), "--quiet"]


def stages_of(out: Path) -> dict:
    return json.loads((out / "manifest.json").read_text())["stages"]


def begin_again(straight: Path, out: Path, undone: tuple[str, ...]) -> None:
    shutil.copytree(straight, out)
    manifest = json.loads((out / "manifest.json").read_text())
    for stage in undone:
        manifest["stages"].pop(stage, None)
    (out / "manifest.json").write_text(json.dumps(manifest))


def kill_after(out: Path, seconds: float) -> str:
    """Seconds count from the moment the run folder is locked; -> what the manifest says was going on."""
    process = subprocess.Popen(command("resume", out), start_new_session=True, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (out / ".lock").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(seconds)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    running = [name for name, entry in stages_of(out).items() if entry["status"] == "running"]
    return ", ".join(running) or ("nothing: it was finished" if process.returncode == 0 else "between stages")


def difference(straight: Path, out: Path) -> str | None:
    """What is not the same in two finished runs; None when all is."""
    scenes = [load_file(p / "checkpoint" / "scene.safetensors") for p in (straight, out)]
    if scenes[0].keys() != scenes[1].keys():
        return "the scenes have other tensors"
    for name, value in scenes[0].items():
        if not np.array_equal(value, scenes[1][name]):
            return f"{name} of the scene differs"
    traces = [
        [{k: v for k, v in r.items() if k != "seconds"} for r in read_json_lines(p / "metrics.jsonl")]
        for p in (straight, out)
    ]
    if traces[0] != traces[1]:
        return "the losses differ"
    for folder in ("sharp", "reblur", "support"):
        for path in sorted((straight / "renders" / folder).glob("*.png")):
            if path.read_bytes() != (out / "renders" / folder / path.name).read_bytes():
                return f"{folder}/{path.name} differs"
    # Turning colours into SfM's world is a matrix product whose last bits depend on where numbers lie in memory.
    splats = [read_ply(p / "export" / "scene.ply") for p in (straight, out)]
    for name in ("means", "quats_wxyz", "log_scales", "logit_opacities", "sh0", "shN"):
        if not np.allclose(getattr(splats[0], name), getattr(splats[1], name), rtol=1e-5, atol=1e-7):
            return f"{name} of scene.ply differs"
    left = [p.name for p in out.rglob("*") if p.name.startswith((TEMPORARY_PREFIX, ".lock", "step-"))]
    return f"left behind: {', '.join(left)}" if left else None


if __name__ == "__main__":
    sys.exit(main())
