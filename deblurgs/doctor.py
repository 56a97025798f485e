"""`deblurgs doctor`: can the main job run on this machine, and if not, why not.

Nothing is changed and nothing is downloaded. Each check ends in `ok`, `warning` (it works, but slower or with a
part missing) or `problem` (the main job cannot run).
"""

import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from deblurgs import machine
from deblurgs.errors import DeblurgsError
from deblurgs.files import plain_json

_MIN_MEMORY_MB = 2000
_MIN_DISK_MB = 500
_CHILD_TIMEOUT_S = 120


class Health(StrEnum):
    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Check:
    """One line of the report."""

    name: str
    health: Health
    detail: str


@dataclass(frozen=True)
class Report:
    versions: dict[str, str | None]
    checks: tuple[Check, ...]

    @property
    def can_run(self) -> bool:
        return all(check.health is not Health.PROBLEM for check in self.checks)


def examine(folder: Path | None = None) -> Report:
    """Look at this machine; `folder` is where runs will be written (default: the current folder)."""
    versions = {"python": machine.python_version(), **machine.package_versions()}
    steps: tuple[Callable[[], Check | list[Check]], ...] = (
        lambda: _check_packages(versions),
        _check_processor,
        _check_memory,
        lambda: _check_disk(folder if folder is not None else Path.cwd()),
        _check_rasterizer,
        _check_video,
        _check_sfm,
    )
    checks: list[Check] = []
    for step in steps:
        result = step()
        checks += result if isinstance(result, list) else [result]
    return Report(versions, tuple(checks))


def json_from_report(report: Report) -> str:
    return json.dumps(plain_json({"can_run": report.can_run, **plain_json(report)}), indent=1)


def text_from_report(report: Report) -> str:
    """The report for people, one fact per line."""
    known = ", ".join(f"{name} {version or 'missing'}" for name, version in report.versions.items())
    lines = [f"versions: {known}"]
    lines += [f"{check.health:8}{check.name}: {check.detail}" for check in report.checks]
    lines.append(
        "The main job can run here."
        if report.can_run
        else "The main job cannot run here: see each 'problem'."
    )
    return "\n".join(lines)


def doctor(*, as_json: bool = False, folder: Path | None = None) -> None:
    """Print the report to stdout. Raises DeblurgsError (exit code 1) when the main job cannot run here."""
    report = examine(folder)
    print(json_from_report(report) if as_json else text_from_report(report))
    if not report.can_run:
        broken = [check.name for check in report.checks if check.health is Health.PROBLEM]
        raise DeblurgsError(
            f"the main job cannot run on this machine: {', '.join(broken)} (see the report above)"
        )


def _check_packages(versions: dict[str, str | None]) -> Check:
    missing = [name for name, version in versions.items() if version is None]
    if missing:
        names = ", ".join(missing)
        return Check(
            "packages", Health.PROBLEM, f"not installed: {names}. Run  pip install {' '.join(missing)}"
        )
    return Check("packages", Health.OK, "all required packages are installed")


def _check_processor() -> Check:
    flags = _processor_flags()
    vector = [name for name in ("avx512f", "avx2", "fma", "asimd") if name in flags]
    detail = f"{platform.machine()}, {machine.num_threads()} threads, vector units: {' '.join(vector) or 'unknown'}"
    return Check("processor", Health.OK, detail)


def _processor_flags() -> set[str]:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return set(line.partition(":")[2].split())
    except OSError:
        pass
    return set()


def _check_memory() -> Check:
    available = machine.available_memory_bytes()
    if available is None:
        return Check("memory", Health.OK, "the system does not tell how much is free")
    megabytes = available / 2**20
    if megabytes < _MIN_MEMORY_MB:
        detail = f"{megabytes:.0f} MB free; below about {_MIN_MEMORY_MB} MB use --preset fast or fewer frames"
        return Check("memory", Health.WARNING, detail)
    return Check("memory", Health.OK, f"{megabytes:.0f} MB free")


def _check_disk(folder: Path) -> Check:
    free = machine.free_disk_bytes(folder)
    if free is None:
        return Check("disk", Health.WARNING, f"the free space in {folder} is unknown")
    health = Health.OK if free / 2**20 >= _MIN_DISK_MB else Health.WARNING
    return Check("disk", health, f"{free / 2**20:.0f} MB free in {folder}")


def _check_rasterizer() -> list[Check]:
    try:
        import torch
    except Exception as error:  # A broken installation raises anything, OSError from the linker included.
        return [
            Check("torch", Health.PROBLEM, f"does not load: {error}. Install the CPU build of torch again")
        ]
    checks = [Check("torch", Health.OK, f"loads, {torch.get_num_threads()} threads")]
    reason, detail = _compiled_backend()
    if reason is None:
        checks.append(Check("rasterizer cpu", Health.OK, detail))
    else:
        detail = f"{reason}; the reference rasterizer is used instead and is slow. Install the wheel again"
        checks.append(Check("rasterizer cpu", Health.WARNING, detail))
    checks.append(_check_gpu())
    checks.append(_try_render())
    return checks


def _check_gpu() -> Check:
    """Which way the GPU kernels take, or what stands in it."""
    name = "rasterizer cuda"
    try:
        import torch

        from deblurgs.raster.devices import launcher_for, why_no_cuda
        from deblurgs.raster.gsplat import GsplatBackend

        reason = why_no_cuda()
        if reason is not None:
            return Check(name, Health.OK, f"not used, everything runs on the CPU: {reason}")
        index = torch.cuda.current_device()
        launcher, words = launcher_for(index)
        gpu = torch.cuda.get_device_name(index)
        other = GsplatBackend().available()
    except Exception as error:  # Whatever is broken, the report goes on.
        return Check(name, Health.WARNING, f"{type(error).__name__}: {error}")
    if launcher is not None:
        return Check(name, Health.OK, f"{gpu}, kernels {words}")
    instead = "gsplat is used instead" if other is None else "the CPU is used instead"
    return Check(name, Health.WARNING, f"{gpu} cannot be used: {words}; {instead}")


def _compiled_backend() -> tuple[str | None, str]:
    """Why the compiled kernels cannot be used (None if they can), and where they lie and what they use."""
    try:
        from deblurgs.raster import native
        from deblurgs.raster.cpu import CpuBackend

        backend = CpuBackend()
        reason = backend.available()
        if reason is not None:
            return reason, ""
        path = next((item for item in native.library_candidates() if item.is_file()), None)
        return None, f"instruction set {backend.isa()}, {path}"
    except Exception as error:  # Whatever is broken, the report goes on.
        return f"{type(error).__name__}: {error}", ""


def _try_render() -> Check:
    """Render one Gaussian and look at the middle of the picture."""
    import warnings

    import torch

    from deblurgs.raster.api import rasterize
    from deblurgs.scene.camera import Camera

    one = torch.ones
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # The slow fallback has its own line in the report.
            image = rasterize(
                torch.tensor([[0.0, 0.0, 2.0]]), torch.tensor([[1.0, 0.0, 0.0, 0.0]]), 0.3 * one(1, 3),
                0.9 * one(1), one(1, 1, 3), torch.zeros(1, 0, 3), torch.eye(4),
                Camera(16, 16, 16.0, 16.0, 8.0, 8.0),
            ).image  # fmt: skip
        middle = float(image[8, 8].mean())
    except Exception as error:
        return Check("render", Health.PROBLEM, f"a test picture failed: {type(error).__name__}: {error}")
    # Colour 0.5 + 0.2821 with opacity 0.9 over black is 0.70 in the middle.
    if not 0.6 < middle < 0.75:
        return Check(
            "render", Health.PROBLEM, f"a test picture is wrong (middle {middle:.3f}, expected 0.70)"
        )
    return Check("render", Health.OK, "a test picture is right")


def _check_video() -> Check:
    try:
        from deblurgs.export.video import available_codec, available_decoders
    except Exception as error:
        return Check(
            "video", Health.PROBLEM, f"PyAV does not load: {error}. Run  pip install --force-reinstall av"
        )
    decoders = available_decoders(("h264", "hevc", "av1", "vp9", "mpeg4", "prores"))
    encoder = available_codec()
    health = Health.OK if encoder == "libx264" and "h264" in decoders else Health.WARNING
    return Check("video", health, f"reads {', '.join(decoders) or 'nothing'}; writes {encoder or 'no mp4'}")


# pycolmap wheels can corrupt the heap for code that compresses later (see deblurgs/sfm/colmap/). The child does
# what a run does: our import first, then a PNG and a compressed npz.
_SFM_CHILD = """
import sys
sys.path.insert(0, sys.argv[1])
import deblurgs.sfm.colmap
import numpy as np
from PIL import Image
noise = np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)
for index in range(3):
    Image.fromarray(noise).save(f"{sys.argv[2]}/{index}.png")
    np.savez_compressed(f"{sys.argv[2]}/{index}.npz", noise=noise)
    assert (np.asarray(Image.open(f"{sys.argv[2]}/{index}.png")) == noise).all()
    assert (np.load(f"{sys.argv[2]}/{index}.npz")["noise"] == noise).all()
print("intact")
"""


def _check_sfm() -> Check:
    root = str(Path(__file__).resolve().parents[1])
    with tempfile.TemporaryDirectory(prefix="deblurgs-doctor-") as folder:
        try:
            child = subprocess.run(
                [sys.executable, "-c", _SFM_CHILD, root, folder],
                capture_output=True, text=True, errors="replace", timeout=_CHILD_TIMEOUT_S, check=False,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return Check(
                "camera poses (pycolmap)", Health.PROBLEM, f"hangs (stopped after {_CHILD_TIMEOUT_S} s)"
            )
        except OSError as error:
            return Check(
                "camera poses (pycolmap)", Health.PROBLEM, f"no child process can be started: {error}"
            )
    if child.returncode == 0 and child.stdout.strip().endswith("intact"):
        return Check(
            "camera poses (pycolmap)", Health.OK, "loads in a child process and leaves memory intact"
        )
    last = child.stderr.strip().splitlines()[-1:] or [f"exit code {child.returncode}"]
    return Check("camera poses (pycolmap)", Health.PROBLEM, f"fails in a child process: {last[0]}")
