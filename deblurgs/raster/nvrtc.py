"""NVIDIA's run-time compiler (NVRTC), by ctypes: CUDA sources to the machine code ("cubin") of one architecture.

It needs neither a GPU nor a CUDA toolkit nor a host compiler, and every CUDA build of torch brings it along.
API: docs.nvidia.com/cuda/nvrtc.
"""

import ctypes
import ctypes.util
import os
import re
import sys
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from deblurgs.errors import DeviceError

# 13 is the newest; the library of torch's own CUDA version is asked for first.
MAJOR_VERSIONS = (12, 13)
OPTIONS = ("--std=c++17",)
"""Given to every compilation, besides architecture and folders."""


@dataclass(frozen=True)
class Usage:
    """What one kernel takes of the machine, as the assembler reports it. Spills in bytes per thread."""

    registers: int
    spill_stores: int
    spill_loads: int
    stack_bytes: int
    shared_bytes: int


@dataclass(frozen=True)
class Compiled:
    """`cubin` for one architecture, and the use of registers and memory by name of the kernel."""

    cubin: bytes
    usage: dict[str, Usage]


class Compiler:
    """A loaded NVRTC library."""

    def __init__(self, library: ctypes.CDLL, path: Path) -> None:
        self.library, self.path = library, path
        major, minor = ctypes.c_int(), ctypes.c_int()
        library.nvrtcGetErrorString.restype = ctypes.c_char_p
        self._check(
            library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)), "it does not tell its version"
        )
        self.version: tuple[int, int] = (major.value, minor.value)

    def architectures(self) -> tuple[int, ...]:
        """What it can compile for, as 75 for sm_75; ascending."""
        count = ctypes.c_int()
        self._check(self.library.nvrtcGetNumSupportedArchs(ctypes.byref(count)), "it lists no architectures")
        archs = (ctypes.c_int * count.value)()
        self._check(self.library.nvrtcGetSupportedArchs(archs), "it lists no architectures")
        return tuple(archs)

    def compile(self, source: Path, folders: tuple[Path, ...], architecture: int) -> Compiled:
        """Compile one translation unit for sm_<architecture>; `folders` are searched for what it includes.

        Raises DeviceError with the compiler's own words.
        """
        program = ctypes.c_void_p()
        text = source.read_bytes()
        status = self.library.nvrtcCreateProgram(
            ctypes.byref(program), text, source.name.encode(), 0, None, None
        )
        self._check(status, f"{source} cannot be read")
        try:
            options = [
                f"--gpu-architecture=sm_{architecture}", *OPTIONS, "--ptxas-options=-v",
                *(f"--include-path={folder}" for folder in folders),
            ]  # fmt: skip
            array = (ctypes.c_char_p * len(options))(*(os.fsencode(option) for option in options))
            status = self.library.nvrtcCompileProgram(program, len(options), array)
            log = self._text(program, "ProgramLog")
            if status != 0:
                raise DeviceError(
                    f"{source} does not compile for sm_{architecture} with NVRTC {self.version[0]}.{self.version[1]} "
                    f"({self._words(status)}):\n{log.strip()[-4000:]}"
                )
            return Compiled(self._bytes(program, "CUBIN"), parse_usage(log))
        finally:
            self.library.nvrtcDestroyProgram(ctypes.byref(program))

    def _bytes(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        self._check(getattr(self.library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)), f"no {what}")
        buffer = ctypes.create_string_buffer(size.value)
        self._check(getattr(self.library, f"nvrtcGet{what}")(program, buffer), f"no {what}")
        return buffer.raw

    def _text(self, program: ctypes.c_void_p, what: str) -> str:
        return self._bytes(program, what).rstrip(b"\0").decode(errors="replace")

    def _words(self, status: int) -> str:
        return self.library.nvrtcGetErrorString(status).decode()

    def _check(self, status: int, what: str) -> None:
        if status != 0:
            raise DeviceError(f"NVRTC ({self.path}): {what} ({self._words(status)})")


_KERNEL = re.compile(r"Compiling entry function '(\S+)' for|Function properties for (\S+)")
_FRAME = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_REGISTERS = re.compile(r"Used (\d+) registers(.*)")
_SHARED = re.compile(r"(\d+) bytes smem")


def parse_usage(log: str) -> dict[str, Usage]:
    """Registers, spills and shared memory by kernel, from the assembler's report."""
    usage: dict[str, Usage] = {}
    kernel, frame = "", (0, 0, 0)
    for line in log.splitlines():
        if found := _KERNEL.search(line):
            kernel = found[1] or found[2]
        elif found := _FRAME.search(line):
            frame = (int(found[1]), int(found[2]), int(found[3]))
        elif (found := _REGISTERS.search(line)) and kernel:
            shared = _SHARED.search(found[2])
            usage[kernel] = Usage(
                int(found[1]), frame[1], frame[2], frame[0], int(shared[1]) if shared else 0
            )
            frame = (0, 0, 0)
    return usage


def candidates(prefer_major: int | None = None) -> list[Path]:
    """Where the library may lie: $DEBLURGS_NVRTC, NVIDIA's Python packages, torch's own folder, a CUDA toolkit.

    prefer_major: the CUDA version of torch, whose code its driver surely runs; that library comes first.
    """
    override = os.environ.get("DEBLURGS_NVRTC")
    if override:
        return [Path(override)]
    majors = sorted(MAJOR_VERSIONS, key=lambda major: (major != prefer_major, major))
    roots = [root for package in ("nvidia", "torch") for root in _package_folders(package)]
    toolkits = [Path(os.environ[name]) for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    if sys.platform != "win32":
        toolkits.append(Path("/usr/local/cuda"))
    found: list[Path] = []
    for major in majors:
        patterns = [f"lib/libnvrtc.so.{major}", f"lib64/libnvrtc.so.{major}", f"bin/nvrtc64_{major}0_0.dll",
                    f"bin/x86_64/nvrtc64_{major}0_0.dll", f"lib/nvrtc64_{major}0_0.dll"]  # fmt: skip
        for root in roots:
            packages = ("cuda_nvrtc", f"cu{major}", ".")
            found += [root / package / pattern for package in packages for pattern in patterns]
        found += [toolkit / pattern for toolkit in toolkits for pattern in patterns]
    system = ctypes.util.find_library("nvrtc")
    return [path for path in found if path.is_file()] + ([Path(system)] if system else [])


def _package_folders(name: str) -> list[Path]:
    """Folders of an installed package, without importing it; several for NVIDIA's namespace package."""
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        return []
    return [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []


@cache
def load(prefer_major: int | None = None) -> tuple[Compiler | None, str]:
    """The compiler, or None and why there is none, as part of a sentence. The outcome is remembered."""
    paths = candidates(prefer_major)
    reasons: list[str] = []
    for path in paths:
        try:
            return Compiler(ctypes.CDLL(str(path)), path), ""
        except (OSError, AttributeError, DeviceError) as error:
            reasons.append(f"{path}: {error}")
    if reasons:
        return None, f"NVRTC cannot be loaded ({'; '.join(reasons)})"
    return (
        None,
        "NVRTC is not installed (CUDA builds of torch bring it; else  pip install nvidia-cuda-nvrtc-cu12)",
    )
