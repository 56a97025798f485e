"""What this machine has: memory, threads, package versions. Standard library only, nothing is imported to
ask."""

import contextlib
import importlib.metadata
import os
import platform
import resource
import shutil
import sys
from pathlib import Path

PACKAGES = (
    "deblurgs",
    "torch",
    "numpy",
    "pycolmap",
    "av",
    "pillow",
    "imageio",
    "safetensors",
    "tyro",
    "rich",
)


def package_versions(names: tuple[str, ...] = PACKAGES) -> dict[str, str | None]:
    """Installed versions by distribution name, None where a package is missing."""
    versions: dict[str, str | None] = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    if versions.get("deblurgs", "") is None:  # Run from a checkout that is not installed.
        from deblurgs import __version__

        versions["deblurgs"] = __version__
    return versions


def python_version() -> str:
    return platform.python_version()


def num_threads() -> int:
    """Processor cores that this process may use (respects taskset and container masks where the system
    tells)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def available_memory_bytes() -> int | None:
    """Memory that can still be used without swapping: the smallest of what the machine, the container and this
    process's own limit (`ulimit -v`) leave; None where the system does not tell."""
    candidates = [
        value
        for value in (_meminfo("MemAvailable"), _cgroup_headroom(), _limit_headroom())
        if value is not None
    ]  # fmt: skip
    return min(candidates) if candidates else None


def total_memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def free_disk_bytes(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def _meminfo(key: str) -> int | None:
    with contextlib.suppress(OSError, ValueError, IndexError), Path("/proc/meminfo").open() as file:
        for line in file:
            if line.startswith(key + ":"):
                return int(line.split()[1]) * 1024
    return None


def _cgroup_headroom() -> int | None:
    root = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError):
        return max(
            int((root / "memory.max").read_text()) - int((root / "memory.current").read_text()), 0
        )  # "max" is not a number: no limit
    return None


def _limit_headroom() -> int | None:
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return None
    with contextlib.suppress(OSError, ValueError, IndexError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        return max(limit - pages * os.sysconf("SC_PAGE_SIZE"), 0)
    return limit


class PeakMemory:
    """Peak resident memory of this process since construction, and of the largest finished child ever.

    Linux lets a process reset its own high-water mark; elsewhere the value is the peak since the process
    started, which is an upper bound.
    """

    def __init__(self) -> None:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")

    def own_mb(self) -> float:
        with contextlib.suppress(OSError, ValueError, IndexError), Path("/proc/self/status").open() as file:
            for line in file:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) / 1024
        return _maxrss_mb(resource.RUSAGE_SELF)

    def children_mb(self) -> float:
        return _maxrss_mb(resource.RUSAGE_CHILDREN)


def _maxrss_mb(who: int) -> float:
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kilobytes
    return resource.getrusage(who).ru_maxrss * unit / 2**20
