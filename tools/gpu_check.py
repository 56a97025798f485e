"""The steps of tools/gpu_check: each in a process of its own with a time of its own; one that fails stops no other."""

import argparse
import atexit
import contextlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("tyro", "rich", "safetensors", "pillow", "imageio", "numpy", "pycolmap", "av", "pytest", "hypothesis",
            "nvidia-cuda-nvrtc-cu12")  # fmt: skip
"""What a bare machine with a CUDA build of torch lacks; gsplat is taken where it is."""
_TAIL = 6000


@dataclass
class Step:
    """One step: its command, the most seconds it may take, the reason to leave it out, the JSON it writes."""

    name: str
    seconds: float
    command: list[str]
    why_not: str | None = None
    result: Path | None = None


@dataclass
class Outcome:
    name: str
    status: str
    seconds: float
    output: str = ""
    data: Any = field(default=None)


def run_step(step: Step, seconds: float, env: dict[str, str]) -> Outcome:
    """Run it in its own process group, so that what it started ends with it."""
    if step.why_not is not None:
        return Outcome(step.name, f"skipped: {step.why_not}", 0.0)
    if seconds < min(step.seconds, 10.0):
        return Outcome(step.name, "skipped: no time was left", 0.0)
    start = time.monotonic()
    limit = min(step.seconds, seconds)
    try:
        child = subprocess.Popen(
            step.command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        return Outcome(step.name, f"failed: {error}", 0.0)
    try:
        output, _ = child.communicate(timeout=limit)
        status = "ok" if child.returncode == 0 else f"failed with exit code {child.returncode}"
    except subprocess.TimeoutExpired:
        with contextlib.suppress(OSError):
            os.killpg(child.pid, signal.SIGKILL)
        output, _ = child.communicate()
        status = f"stopped after {limit:.0f} s"
    data = None
    if step.result is not None and step.result.is_file():
        with contextlib.suppress(ValueError):
            data = json.loads(step.result.read_text(encoding="utf-8"))
    return Outcome(step.name, status, round(time.monotonic() - start, 1), output[-_TAIL:], data)


def plan(
    out: Path, scene: Path | None, photos: Path | None, *, has: Callable[[str], str | None] = shutil.which
) -> list[Step]:
    """The steps in order: what shows faults first, then figures, then what takes the rest of the time."""
    python = sys.executable

    def own(script: str, *arguments: str) -> list[str]:
        return [python, str(ROOT / "tools" / script), *arguments]

    no_gsplat = None if find_spec("gsplat") else "gsplat is not installed"
    small = own("bench_gpu.py", "--small")
    sanitizer = has("compute-sanitizer")
    no_sanitizer = (
        None if sanitizer else "compute-sanitizer is not installed (it comes with the CUDA toolkit)"
    )
    no_scene = None if scene and scene.is_dir() else f"there is no scene at {scene} (--scene)"
    restorer = ROOT / "tools" / "train_restore.py"
    guided = ROOT / "deblurgs" / "restore" / "data" / "mimo_thin.safetensors"
    no_restorer = None
    if not restorer.is_file():
        no_restorer = "tools/train_restore.py is not there"
    elif photos is None or not photos.is_dir():
        no_restorer = "no folder of photos was given (--photos)"
    tests = [python, "-m", "pytest", "-p", "no:cacheprovider", "--tb=short", "-rs"]

    def train(preset: str, seconds: float) -> Step:
        result = out / f"train-{preset}.json"
        command = own("bench_gpu_train.py", str(scene), "--preset", preset, "--json", str(result))
        return Step(f"train {preset}", seconds, command, no_scene, result)

    return [
        Step("device", 30, ["nvidia-smi"], None if has("nvidia-smi") else "nvidia-smi is not installed"),
        Step("doctor", 60, [python, "-m", "deblurgs.cli", "doctor", "--json"]),
        Step("compile", 90, own("build_cubins.py", "--check", "--architectures", "80", "90", "120")),
        Step("contract", 150, [*tests, "-k", "cuda and not emulated or gsplat", "tests/contract"]),
        Step("tests", 60, [*tests, "-m", "gpu", "tests/raster", "tests/train"]),
        Step("memcheck", 60, ["env", "PYTORCH_NO_CUDA_MEMORY_CACHING=1", "compute-sanitizer", "--error-exitcode",
             "9", *small], no_sanitizer),
        Step("racecheck", 60, ["compute-sanitizer", "--tool", "racecheck", "--error-exitcode", "9", *small],
             no_sanitizer),
        Step("bench", 170, own("bench_gpu.py", "--seconds", "120", "--json", str(out / "bench.json")), None,
             out / "bench.json"),
        train("default", 150),
        Step("oracle", 40, own("record_gsplat.py", "--output", str(out / "gsplat.safetensors")), no_gsplat),
        train("best", 330),
        Step("restorer", 600, own("train_restore.py", "--photos", str(photos), "--output", str(out / "restorer"),
                                  "--device", "cuda", "--base", "--estimator", str(guided), "--minutes", "1"),
             no_restorer),
    ]  # fmt: skip


def summary(outcomes: list[Outcome]) -> str:
    return "\n".join(f"{o.name:12} {o.seconds:7.1f} s  {o.status}" for o in outcomes)


def gpu_reason() -> str | None:
    """None when torch can use a GPU, else why not."""
    try:
        import torch
    except ImportError as error:
        return f"torch does not load ({error})"
    if torch.version.cuda is None:
        return f"this torch ({torch.__version__}) is a build without CUDA"
    return None if torch.cuda.is_available() else "torch finds no NVIDIA GPU"


def machine() -> dict[str, Any]:
    import torch

    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit or None,
        "machine": platform.platform(), "gpu": torch.cuda.get_device_name(0), "torch": torch.__version__,
        "capability": list(torch.cuda.get_device_capability(0)), "cuda": torch.version.cuda,
    }  # fmt: skip


def carry(folder: Path) -> int:
    """Fill a folder with the wheels that a bare machine lacks; here the network is needed."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary",
        ":all:",
        "-d",
        str(folder),
    ]
    extra = ("typeguard", "docstring-parser", "markdown-it-py", "mdurl", "pygments", "iniconfig", "pluggy",
             "packaging", "sortedcontainers", "typing-extensions")  # fmt: skip
    return subprocess.run(
        [*command, "-c", str(ROOT / "constraints.txt"), *PACKAGES, *extra], check=False
    ).returncode


def unpack(wheels: Path, target: Path) -> Path:
    """Install the wheels into a folder of their own: the machine's Python stays as it is."""
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(target),
         *map(str, sorted(wheels.glob("*.whl")))],
        check=True,
    )  # fmt: skip
    return target


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=570.0, help="time for everything")
    parser.add_argument("--wheels", type=Path, help="folder of wheels that this Python lacks")
    parser.add_argument("--carry", type=Path, metavar="FOLDER", help="only fill such a folder (with network)")
    parser.add_argument(
        "--scene", type=Path, default=ROOT.parent / "shared" / "data" / "deblurnerf_blurball",
        help="a Deblur-NeRF scene to train",
    )  # fmt: skip
    parser.add_argument("--photos", type=Path, help="tiles to train the restorer on")
    parser.add_argument("--only", nargs="+", help="names of steps")
    arguments = parser.parse_args()
    if arguments.carry:
        return carry(arguments.carry)
    reason = gpu_reason()
    if reason is not None:
        print(f"gpu_check: there is no GPU to check: {reason}. Nothing was done.")
        return 0
    end = time.monotonic() + arguments.seconds
    out = Path(os.environ.get("OUT") or ROOT / "build" / "gpu_check").resolve()
    out.mkdir(parents=True, exist_ok=True)
    target = out / "gpu.json" if os.environ.get("OUT") else ROOT / "benchmarks" / "gpu.json"
    env = dict(os.environ)
    path = [str(ROOT), str(ROOT / "tools")]
    if arguments.wheels:
        folder = tempfile.mkdtemp(prefix="gpu_check-")  # not among the results: it is large
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        path.append(str(unpack(arguments.wheels.resolve(), Path(folder))))
    env["PYTHONPATH"] = os.pathsep.join([*path, env.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    outcomes: list[Outcome] = []
    for step in plan(out, arguments.scene, arguments.photos):
        if arguments.only and step.name not in arguments.only:
            continue
        print(f"gpu_check: {step.name} ...", flush=True)
        outcomes.append(run_step(step, end - time.monotonic(), env))
        print(outcomes[-1].output, flush=True)
        result = {"machine": machine(), "steps": [vars(outcome) for outcome in outcomes]}
        target.write_text(
            json.dumps(result, indent=1), encoding="utf-8"
        )  # after each step: time may end in any
    print(summary(outcomes))
    print(f"gpu_check: results in {target}")
    return 1 if any(o.status.startswith(("failed", "stopped")) for o in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
