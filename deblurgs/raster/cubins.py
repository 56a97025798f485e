"""Which compiled kernels run on a GPU: prebuilt ones of the package, those of an earlier first use, or NVRTC now.

A root folder holds `cuda/deblurgs.cu` with what it includes, `include/deblurgs/` and, where they were built,
`cuda/cubins/sm_<architecture>.cubin` with `index.json`, which names the sources they were made from. A checkout is such
a folder, and so is `_native/gpu` in an installed package.
"""

import contextlib
import hashlib
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from deblurgs.errors import DeblurgsError, DeviceError
from deblurgs.files import write_bytes_atomic
from deblurgs.raster import nvrtc

SOURCE = "deblurgs.cu"
ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
"""Prebuilt: Turing, both Amperes, Ada, Hopper, data-centre and consumer Blackwell. Code for x.y runs on x.z, z >= y."""
_EMBEDDED = frozenset({72, 87, 88, 101, 110})
"""Jetson and Drive: desktop code does not run there, whatever the number says."""
PREBUILT = "prebuilt for"
"""How the origin of code of the package begins."""
_OLDEST = 70  # the kernels rely on warps whose lanes are scheduled independently


@dataclass(frozen=True)
class Sources:
    """The kernels' sources and everything built from them."""

    root: Path

    @property
    def unit(self) -> Path:
        return self.root / "cuda" / SOURCE

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where includes are searched."""
        return self.root / "cuda", self.root / "include"

    @property
    def cubins(self) -> Path:
        return self.root / "cuda" / "cubins"

    def digest(self) -> str:
        """SHA-256 over names and contents of all that can be included, and the options of the compiler."""
        known = hashlib.sha256(" ".join(nvrtc.OPTIONS).encode())
        files = [p for p in (self.root / "cuda").iterdir() if p.suffix in {".cu", ".cuh", ".h", ".inl"}]
        files += (self.root / "include" / "deblurgs").glob("*.h")
        for path in sorted(files, key=lambda p: p.name):
            data = path.read_bytes()
            known.update(f"{path.name} {len(data)}\n".encode() + data)
        return known.hexdigest()


@dataclass(frozen=True)
class Kernels:
    """Machine code for a device, and the way it came about in words."""

    cubin: bytes
    origin: str


def sources() -> Sources | None:
    """$DEBLURGS_CUDA_SOURCES, else the checkout, else the installed package; None when no kernels are there."""
    override = os.environ.get("DEBLURGS_CUDA_SOURCES")
    if override:
        roots = [Path(override)]
    else:
        import deblurgs

        folders = [Path(folder) for folder in deblurgs.__path__]
        roots = [f.parent for f in folders] + [f / "_native" / "gpu" for f in folders]
    return next((s for s in map(Sources, roots) if s.unit.is_file()), None)


def find(capability: tuple[int, int], torch_cuda: str | None, *, refused: str = "") -> Kernels:
    """Code for a device of this compute capability. torch_cuda: the CUDA version torch was built for, e.g. "12.8".

    refused: why the driver did not take the prebuilt code, which is then passed over.

    Raises DeviceError that says what stands in each way.
    """
    architecture = 10 * capability[0] + capability[1]
    if architecture < _OLDEST:
        raise DeviceError(
            f"the GPU is too old (compute capability {capability[0]}.{capability[1]}, 7.0 is needed)"
        )
    files = sources()
    if files is None:
        raise DeviceError("the GPU kernels are missing from this installation: reinstall deblurgs")
    prebuilt, why_not = prebuilt_for(files, architecture)
    if prebuilt is not None and refused:
        prebuilt, why_not = None, f"the code {PREBUILT} {prebuilt.stem} does not load: {refused}"
    if prebuilt is not None:
        return Kernels(prebuilt.read_bytes(), f"{PREBUILT} {prebuilt.stem}")
    compiler, reason = nvrtc.load(_major(torch_cuda))
    if compiler is None:
        raise DeviceError(f"{why_not}, and they cannot be compiled here: {reason}")
    return compiled(files, compiler, architecture, why_not)


def prebuilt_for(files: Sources, architecture: int) -> tuple[Path | None, str]:
    """The best cubin of the package for an architecture, or None and why there is none."""
    index = files.cubins / "index.json"
    try:
        known = json.loads(index.read_text(encoding="utf-8"))["sources"]
    except (OSError, ValueError, KeyError, TypeError):
        return None, "no kernels were prebuilt"
    if known != files.digest():
        return None, "the prebuilt kernels are of other sources"
    fitting = [a for a in ARCHITECTURES if a // 10 == architecture // 10 and a <= architecture]
    if architecture in _EMBEDDED:
        fitting = [a for a in fitting if a == architecture]
    for choice in sorted(fitting, reverse=True):
        path = files.cubins / f"sm_{choice}.cubin"
        if path.is_file():
            return path, ""
    return None, f"no kernels were prebuilt for sm_{architecture}"


def compiled(files: Sources, compiler: nvrtc.Compiler, architecture: int, why: str) -> Kernels:
    """Compiled for exactly this architecture, now or at an earlier use. Raises DeviceError when that fails.

    why: there is no prebuilt code, for the words of `Kernels.origin`.
    """
    version = ".".join(map(str, compiler.version))
    path = cache_folder() / f"{files.digest()[:32]}-sm_{architecture}-nvrtc-{version}.cubin"
    words = f"compiled by NVRTC {version} for sm_{architecture}"
    kept_before = _from_cache(path)
    if kept_before is not None:
        return Kernels(kept_before, f"{words} at an earlier use ({why})")
    cubin = compiler.compile(files.unit, files.folders, architecture).cubin
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes_atomic(path, cubin)
        write_bytes_atomic(_checksum(path), hashlib.sha256(cubin).hexdigest().encode())
        kept = f"kept in {path.parent}"
    except (OSError, DeblurgsError) as error:
        kept = f"not kept: {error}"  # the next process compiles again, which takes seconds
    return Kernels(cubin, f"{words} now, {kept} ({why})")


def _checksum(path: Path) -> Path:
    """The file beside a kept cubin that holds its SHA-256."""
    return path.with_suffix(".sha256")


def _from_cache(path: Path) -> bytes | None:
    """A kept cubin, or None when there is none; one that is damaged is deleted."""
    try:
        cubin = path.read_bytes()
    except OSError:
        return None
    try:
        whole = _checksum(path).read_bytes() == hashlib.sha256(cubin).hexdigest().encode()
    except OSError:
        whole = False
    if whole:
        return cubin
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
        _checksum(path).unlink(missing_ok=True)
    return None


def cache_folder() -> Path:
    """$DEBLURGS_CACHE, else the user's own cache folder on this system, with deblurgs/kernels in it."""
    override = os.environ.get("DEBLURGS_CACHE")
    if override:
        return Path(override)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "deblurgs" / "kernels"


def _major(version: str | None) -> int | None:
    head = (version or "").partition(".")[0]
    return int(head) if head.isdecimal() else None
