"""All kernels compile without a GPU and none spills more than was recorded."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from deblurgs.raster import cubins, nvrtc

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "build_cubins.py"
sys.path.insert(0, str(TOOL.parent))

import build_cubins  # noqa: E402


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(TOOL), *arguments], capture_output=True, text=True, timeout=900, check=False
    )


def needs_nvrtc() -> None:
    compiler, reason = nvrtc.load()
    if compiler is None:
        pytest.skip(reason)


def test_every_architecture_compiles_without_new_spills() -> None:
    needs_nvrtc()
    done = run("--check")
    assert done.returncode == 0, done.stderr
    for architecture in cubins.ARCHITECTURES:
        assert f"sm_{architecture}: " in done.stdout
    assert done.stdout.count("registers") >= len(cubins.ARCHITECTURES) * 20
    assert "deblurgs_raster_backward" in done.stdout


@pytest.mark.slow
def test_every_architecture_compiles_with_nvcc_too() -> None:
    needs_nvrtc()
    done = run("--check", "--nvcc")
    assert done.returncode == 0, done.stderr
    assert "nvcc" in done.stdout


def test_more_spills_than_recorded_are_named() -> None:
    found = {"sm_80": {"a": 8, "b": 16}, "sm_90": {"a": 4}}
    assert build_cubins.beyond({"sm_80": {"a": 8, "b": 16}, "sm_90": {"a": 8}}, found) == []
    worse = build_cubins.beyond({"sm_80": {"a": 8}}, found)
    assert worse == [
        "b spills 16 bytes on sm_80, 0 are recorded", "a spills 4 bytes on sm_90, 0 are recorded",
    ]  # fmt: skip


def test_kernels_without_a_report_are_named() -> None:
    code = b"\0.text.one\0.text.two\0"
    use = nvrtc.Usage(1, 0, 0, 0, 0)
    assert build_cubins.unreported(nvrtc.Compiled(code, {"one": use, "two": use})) == []
    assert build_cubins.unreported(nvrtc.Compiled(code, {"one": use})) == ["two"]
    assert build_cubins.unreported(nvrtc.Compiled(b"", {})) != []


def test_what_was_built_is_what_the_package_takes(tmp_path: Path) -> None:
    compiler, reason = nvrtc.load()
    if compiler is None:
        pytest.skip(reason)
    (tmp_path / "cuda").mkdir()
    (tmp_path / "include" / "deblurgs").mkdir(parents=True)
    (tmp_path / "cuda" / cubins.SOURCE).write_text('extern "C" __global__ void one(float* x) { x[0] = 1; }')
    files = cubins.Sources(tmp_path)
    build_cubins.write_cubins(files, compiler, build_cubins.compile_all(files, compiler, (80, 90)))
    found, _ = cubins.prebuilt_for(files, 86)
    assert found is not None and found.name == "sm_80.cubin" and found.read_bytes().startswith(b"\x7fELF")
    assert cubins.prebuilt_for(files, 75)[0] is None


def test_the_table_of_spills_covers_every_architecture() -> None:
    recorded = json.loads(build_cubins.SPILLS.read_text(encoding="utf-8"))["spills"]
    assert set(recorded) == {f"sm_{architecture}" for architecture in cubins.ARCHITECTURES}
