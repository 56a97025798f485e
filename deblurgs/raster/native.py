"""The compiled CPU library: finding it, loading it, and its C signatures (include/deblurgs/raster.h)."""

import ctypes
import os
from functools import cache
from pathlib import Path

from deblurgs.errors import UsageError

ABI_VERSION = 3
LIBRARY = "libdeblurgs_cpu"

_f32 = ctypes.c_void_p  # pointers travel as addresses: torch owns the memory


class Exposure(ctypes.Structure):
    """struct deblurgs_exposure."""

    _fields_ = [
        ("num_gaussians", ctypes.c_int64),
        ("num_views", ctypes.c_int32), ("width", ctypes.c_int32), ("height", ctypes.c_int32),
        ("sh_degree", ctypes.c_int32), ("sh_stored", ctypes.c_int32), ("flags", ctypes.c_int32),
        ("fx", ctypes.c_float), ("fy", ctypes.c_float), ("cx", ctypes.c_float), ("cy", ctypes.c_float),
        ("limit_u", ctypes.c_float), ("limit_v", ctypes.c_float),
        ("means", _f32), ("quats", _f32), ("scales", _f32), ("opacities", _f32), ("sh0", _f32), ("sh_rest", _f32),
        ("viewmats", _f32), ("weights", _f32), ("background", _f32),
    ]  # fmt: skip


class Images(ctypes.Structure):
    """struct deblurgs_images."""

    _fields_ = [("image", _f32), ("alpha", _f32), ("depth", _f32), ("visible", _f32)]


class Gradients(ctypes.Structure):
    """struct deblurgs_gradients."""

    _fields_ = [
        ("means", _f32), ("quats", _f32), ("scales", _f32), ("opacities", _f32), ("sh0", _f32), ("sh_rest", _f32),
        ("viewmats", _f32), ("background", _f32), ("gradient_px", _f32),
    ]  # fmt: skip


def library_candidates() -> list[Path]:
    """Where the library may lie: the environment's choice, else beside the package (wheel or editable install)."""
    override = os.environ.get("DEBLURGS_CPU_LIBRARY")
    if override:
        return [Path(override)]
    import deblurgs

    found: list[Path] = []
    for root in deblurgs.__path__:
        for suffix in (".so", ".dylib", ".dll"):
            found.append(Path(root) / "_native" / f"{LIBRARY}{suffix}")
            found.append(Path(root) / "_native" / f"{LIBRARY.removeprefix('lib')}{suffix}")
    return found


@cache
def load() -> tuple[ctypes.CDLL | None, str]:
    """The library, or None and why not. The outcome is remembered, failures included."""
    candidates = library_candidates()
    path = next((p for p in candidates if p.is_file()), None)
    if path is None:
        return None, f"the compiled library is missing (looked for {candidates[0]})"
    try:
        library = ctypes.CDLL(str(path))
        version = library.deblurgs_abi_version()
    except (OSError, AttributeError) as error:
        return None, f"{path} cannot be loaded ({error})"
    if version != ABI_VERSION:
        return (
            None,
            f"{path} has interface version {version}, this package needs {ABI_VERSION}: reinstall deblurgs",
        )
    _declare(library)
    isa = os.environ.get("DEBLURGS_CPU_ISA")
    if isa and library.deblurgs_cpu_select_isa(isa.encode()) != 0:
        return None, f"DEBLURGS_CPU_ISA={isa} cannot run on this machine"
    return library, ""


def _declare(library: ctypes.CDLL) -> None:
    pointer = ctypes.c_void_p
    library.deblurgs_constant.restype = ctypes.c_double
    library.deblurgs_constant.argtypes = [ctypes.c_char_p]
    library.deblurgs_cpu_isa.restype = ctypes.c_char_p
    library.deblurgs_cpu_select_isa.argtypes = [ctypes.c_char_p]
    library.deblurgs_cpu_create.restype = pointer
    library.deblurgs_cpu_destroy.argtypes = [pointer]
    library.deblurgs_cpu_destroy.restype = None
    for name in ("deblurgs_cpu_bytes", "deblurgs_cpu_pairs"):
        getattr(library, name).argtypes = [pointer]
        getattr(library, name).restype = ctypes.c_int64
    library.deblurgs_cpu_bad_view.argtypes = [pointer]
    library.deblurgs_cpu_forward.argtypes = [
        pointer, ctypes.POINTER(Exposure), ctypes.POINTER(Images), ctypes.c_int,
    ]  # fmt: skip
    library.deblurgs_cpu_backward.argtypes = [
        pointer, ctypes.POINTER(Exposure), pointer, ctypes.POINTER(Gradients), ctypes.c_int,
    ]  # fmt: skip
    library.deblurgs_cpu_loss.argtypes = [
        pointer, pointer, pointer, ctypes.c_int32, ctypes.c_int32, ctypes.c_float, ctypes.c_float, ctypes.c_int32,
        pointer, pointer, pointer, ctypes.c_int,
    ]  # fmt: skip
    library.deblurgs_cpu_spread.argtypes = [
        pointer, pointer, ctypes.c_int32, ctypes.c_int32, ctypes.c_int32, ctypes.c_int32, pointer, ctypes.c_int,
    ]  # fmt: skip


def threads() -> int:
    """Threads for one call: DEBLURGS_THREADS, else OMP_NUM_THREADS, else as many cores as this process may use.

    Not torch's own setting: its parallel loops are best kept at one thread beside these kernels, because its workers
    spin for milliseconds after each of them.
    """
    for name in ("DEBLURGS_THREADS", "OMP_NUM_THREADS"):
        wish = os.environ.get(name, "")
        if wish.isdecimal() and int(wish) >= 1:
            return int(wish)
        if wish and name == "DEBLURGS_THREADS":
            raise UsageError(f"DEBLURGS_THREADS={wish}: a whole number from 1 on is expected")
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
