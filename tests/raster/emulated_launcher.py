"""The GPU kernels on the host: builds cuda/emulate once and starts kernels there, thread by thread."""

import ctypes
import fcntl
import hashlib
import mmap
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch

from deblurgs.errors import DeviceError
from deblurgs.raster.launcher import Size

ROOT = Path(__file__).resolve().parent.parent.parent
_FLAGS = ["-std=c++17", "-O2", "-march=native", "-ffp-contract=off", "-fPIC", "-shared"]
_WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]
_PAGE = mmap.PAGESIZE
_KINDS = {"i": np.int32, "l": np.int64, "f": np.float32}


def unavailable() -> str | None:
    """Why the emulation cannot be built here, or None."""
    return None if shutil.which("g++") else "there is no g++ to compile the emulation with"


def sources() -> list[Path]:
    """Everything that the emulation is compiled from."""
    return sorted(p for folder in ("cuda", "include") for p in (ROOT / folder).rglob("*") if p.is_file())


@cache
def build() -> ctypes.CDLL:
    """The emulation as a library, compiled once for each state of the sources and kept in the temporary folder."""
    digest = hashlib.sha256(repr(_FLAGS).encode())
    for path in sources():
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    folder = Path(tempfile.gettempdir()) / f"deblurgs_emulation_{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    library = folder / f"{digest.hexdigest()[:20]}.so"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # Tests may run in several processes.
        if not library.is_file():
            unfinished = library.with_suffix(".unfinished")
            units = [str(ROOT / "cuda/emulate" / name) for name in ("kernels.cpp", "fibers.cpp")]
            includes = [f"-I{ROOT / 'cuda'}", f"-I{ROOT / 'include'}"]
            command = ["g++", *_FLAGS, *_WARNINGS, *includes, *units, "-o", str(unfinished)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise RuntimeError(f"the emulation does not compile:\n{done.stderr[:4000]}")
            unfinished.replace(library)
    emulation = ctypes.CDLL(str(library))
    emulation.emulated_kinds.restype = ctypes.c_char_p
    emulation.emulated_kinds.argtypes = [ctypes.c_char_p]
    emulation.emulated_launch.restype = ctypes.c_char_p
    emulation.emulated_launch.argtypes = [ctypes.c_char_p, *[ctypes.c_void_p] * 3, ctypes.c_uint64]
    return emulation


class _Guarded:
    """A copy of a tensor whose end lies at a page that nobody may touch, as its beginning nearly does."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor
        size = tensor.numel() * tensor.element_size()
        pages = -(-size // _PAGE)
        self.memory = mmap.mmap(-1, (pages + 2) * _PAGE)
        self.base = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        for page in (0, pages + 1):
            _protect(self.base + page * _PAGE, 0)
        # Rows of records are read 16 bytes at a time.
        self.address = (self.base + (pages + 1) * _PAGE - size) // 16 * 16
        self.size = size
        self.slack = self.base + _PAGE, self.address + size, self.base + (pages + 1) * _PAGE
        ctypes.memset(self.slack[0], 0xA5, self.address - self.slack[0])
        ctypes.memset(self.slack[1], 0xA5, self.slack[2] - self.slack[1])
        ctypes.memmove(self.address, tensor.data_ptr(), size)

    def finish(self) -> bool:
        """Copy back; whether the few bytes around the numbers are untouched."""
        before = ctypes.string_at(self.slack[0], self.address - self.slack[0])
        after = ctypes.string_at(self.slack[1], self.slack[2] - self.slack[1])
        ctypes.memmove(self.tensor.data_ptr(), self.address, self.size)
        pages = (self.slack[2] - self.base) // _PAGE
        for page in (0, pages):
            _protect(self.base + page * _PAGE, mmap.PROT_READ | mmap.PROT_WRITE)
        return before.strip(b"\xa5") == b"" and after.strip(b"\xa5") == b""


def _protect(address: int, protection: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(_PAGE), protection) != 0:
        raise OSError(ctypes.get_errno(), "mprotect")


class EmulatedLauncher:
    """A `deblurgs.raster.launcher.Launcher` on CPU tensors.

    Threads of a block run as fibers that change at barriers and warp collectives, in an order drawn from `seed`, as do
    blocks. Kernels see copies of their tensors between forbidden pages. Refused with DeviceError: an unknown kernel, a
    wrong number or type of arguments, memory out of bounds, collectives without all lanes, barriers that not all reach.
    """

    def __init__(self, seed: int = 0) -> None:
        self._emulation = build()
        self._seed = seed
        self.launches: list[str] = []

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def launch(
        self,
        kernel: str,
        grid: Size,
        block: Size,
        arguments: Sequence[torch.Tensor | np.generic | None],
        *,
        shared_bytes: int = 0,
    ) -> None:
        if shared_bytes:
            raise DeviceError(f"{kernel}: the emulation has no dynamic shared memory")
        kinds = self._emulation.emulated_kinds(kernel.encode())
        if kinds is None:
            raise DeviceError(f"{kernel}: unknown kernel")
        _check_kinds(kernel, kinds.decode(), arguments)
        self.launches.append(kernel)
        guarded: dict[int, _Guarded] = {}
        values: list[ctypes.Array] = []
        for argument in arguments:
            if isinstance(argument, np.generic):
                values.append(ctypes.create_string_buffer(argument.tobytes(), argument.nbytes))
                continue
            address = 0
            if argument is not None and argument.numel():
                if not argument.is_contiguous() or argument.device.type != "cpu":
                    raise DeviceError(f"{kernel}: contiguous CPU tensors expected")
                place = argument.data_ptr()
                if place not in guarded:
                    guarded[place] = _Guarded(argument)
                address = guarded[place].address
            values.append(ctypes.create_string_buffer(int(address).to_bytes(8, "little"), 8))
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(v) for v in values))
        sizes = [(ctypes.c_uint32 * 3)(*size) for size in (grid, block)]
        self._seed = (self._seed * 6364136223846793005 + 1442695040888963407) % 2**64
        failure = self._emulation.emulated_launch(kernel.encode(), *sizes, pointers, self._seed)
        untouched = [g.finish() for g in guarded.values()]
        if failure:
            raise DeviceError(failure.decode())
        if not all(untouched):
            raise DeviceError(f"{kernel}: wrote beyond the end of an argument")


def _check_kinds(kernel: str, kinds: str, arguments: Sequence[torch.Tensor | np.generic | None]) -> None:
    if len(kinds) != len(arguments):
        raise DeviceError(f"{kernel}: takes {len(kinds)} arguments, got {len(arguments)}")
    for place, (kind, argument) in enumerate(zip(kinds, arguments, strict=True)):
        if kind == "p":
            fits = argument is None or isinstance(argument, torch.Tensor)
        else:
            fits = type(argument) is _KINDS.get(kind)
        if not fits:
            raise DeviceError(
                f"{kernel}: argument {place} should be of kind {kind!r}, got {type(argument).__name__}"
            )
