"""Compile the GPU kernels for every architecture, report what they take, and refuse more spills than were recorded.

    python tools/build_cubins.py                  # all architectures into cuda/cubins, which the next wheel packs
    python tools/build_cubins.py --check          # compile and compare only, nothing is written
    python tools/build_cubins.py --record         # write the present spills to cuda/spills.json

Neither a GPU nor a CUDA toolkit is needed, only NVRTC (pip install nvidia-cuda-nvrtc-cu12). With --nvcc the kernels
are also passed through that compiler where it is installed.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from deblurgs.files import write_bytes_atomic, write_json_atomic
from deblurgs.raster import nvrtc
from deblurgs.raster.cubins import ARCHITECTURES, Sources

ROOT = Path(__file__).resolve().parents[1]
SPILLS = ROOT / "cuda" / "spills.json"

Spills = dict[str, dict[str, int]]
"""Bytes stored per thread for want of registers, by architecture ("sm_80") and kernel; kernels without are left out."""


def spills_of(usage: dict[str, nvrtc.Usage]) -> dict[str, int]:
    return {name: use.spill_stores for name, use in sorted(usage.items()) if use.spill_stores}


def beyond(recorded: Spills, found: Spills) -> list[str]:
    """Kernels that spill more than was recorded, as sentences."""
    return [
        f"{kernel} spills {number} bytes on {arch}, {recorded.get(arch, {}).get(kernel, 0)} are recorded"
        for arch, kernels in found.items()
        for kernel, number in kernels.items()
        if number > recorded.get(arch, {}).get(kernel, 0)
    ]


def unreported(compiled: nvrtc.Compiled) -> list[str]:
    """Kernels in the machine code of which the assembler's report says nothing, so their spills are not known."""
    names = {name.decode() for name in re.findall(rb"\0\.text\.(\w+)(?=\0)", compiled.cubin)}
    return sorted(names - set(compiled.usage)) if names else ["(no kernel was found in the code)"]


def report(architecture: int, usage: dict[str, nvrtc.Usage], seconds: float, size: int) -> str:
    lines = [f"sm_{architecture}: {len(usage)} kernels, {size / 1024:.0f} KiB, {seconds:.1f} s"]
    lines += [
        f"  {name:44} {use.registers:4} registers {use.shared_bytes:6} B shared {use.spill_stores:4} B spilt"
        f" {use.stack_bytes:4} B stack"
        for name, use in sorted(usage.items())
    ]
    return "\n".join(lines)


def compile_all(
    files: Sources, compiler: nvrtc.Compiler, architectures: tuple[int, ...]
) -> dict[int, nvrtc.Compiled]:
    done: dict[int, nvrtc.Compiled] = {}
    for architecture in architectures:
        start = time.perf_counter()
        done[architecture] = compiler.compile(files.unit, files.folders, architecture)
        print(
            report(
                architecture,
                done[architecture].usage,
                time.perf_counter() - start,
                len(done[architecture].cubin),
            ),
            flush=True,
        )
    return done


def write_cubins(files: Sources, compiler: nvrtc.Compiler, done: dict[int, nvrtc.Compiled]) -> None:
    """The index comes last: without it nobody takes what a broken-off build left."""
    files.cubins.mkdir(exist_ok=True)
    for old in (files.cubins / "index.json", *files.cubins.glob("*.cubin")):
        old.unlink(missing_ok=True)
    for architecture, compiled in done.items():
        write_bytes_atomic(files.cubins / f"sm_{architecture}.cubin", compiled.cubin)
    index = {
        "sources": files.digest(),
        "nvrtc": ".".join(map(str, compiler.version)),
        "architectures": list(done),
    }
    write_json_atomic(files.cubins / "index.json", index)


def through_nvcc(files: Sources, architectures: tuple[int, ...]) -> str:
    """What nvcc says to the same source; raises CalledProcessError when it refuses."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        return "nvcc is not installed: the kernels were not passed through it"
    folders = [f"-I{folder}" for folder in files.folders]
    with tempfile.TemporaryDirectory() as folder:
        for architecture in architectures:
            subprocess.run(
                [nvcc, "-cubin", f"-arch=sm_{architecture}", *nvrtc.OPTIONS, *folders, "-o",
                 str(Path(folder) / "kernels.cubin"), str(files.unit)],
                check=True, timeout=900,
            )  # fmt: skip
    return f"nvcc compiles the kernels for {', '.join(f'sm_{a}' for a in architectures)}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--architectures", type=int, nargs="+", default=list(ARCHITECTURES), metavar="NN")
    parser.add_argument("--check", action="store_true", help="write no cubins")
    parser.add_argument("--record", action="store_true", help="write cuda/spills.json anew")
    parser.add_argument("--nvcc", action="store_true", help="pass the kernels through nvcc too")
    arguments = parser.parse_args()
    files = Sources(ROOT)
    compiler, reason = nvrtc.load()
    if compiler is None:
        print(f"build_cubins: {reason}", file=sys.stderr)
        return 1
    architectures = tuple(arguments.architectures)
    done = compile_all(files, compiler, architectures)
    found: Spills = {f"sm_{arch}": spills_of(compiled.usage) for arch, compiled in done.items()}
    if arguments.record:
        write_json_atomic(SPILLS, {"nvrtc": ".".join(map(str, compiler.version)), "spills": found})
    worse = beyond(json.loads(SPILLS.read_text(encoding="utf-8"))["spills"], found)
    worse += [
        f"the assembler's report lacks {kernel} on sm_{arch}"
        for arch, compiled in done.items()
        for kernel in unreported(compiled)
    ]
    for line in worse:
        print(f"build_cubins: {line}", file=sys.stderr)
    if worse:
        return 1
    if not arguments.check:
        write_cubins(files, compiler, done)
    if arguments.nvcc:
        print(through_nvcc(files, architectures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
