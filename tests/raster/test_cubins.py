"""Prebuilt code, code compiled at first use, and the words when neither can be had. NVRTC needs no GPU."""

import dataclasses
import json
from pathlib import Path

import pytest

from deblurgs.errors import DeviceError
from deblurgs.raster import cubins, nvrtc
from deblurgs.raster.cubins import Sources

KERNEL = '#include "factor.cuh"\nextern "C" __global__ void twice(float* x) { x[threadIdx.x] *= FACTOR; }\n'
CUDA_12 = "12.8"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sources:
    """Sources of one small kernel, and a cache of its own."""
    (tmp_path / "cuda").mkdir()
    (tmp_path / "include" / "deblurgs").mkdir(parents=True)
    (tmp_path / "cuda" / cubins.SOURCE).write_text(KERNEL)
    (tmp_path / "cuda" / "factor.cuh").write_text('#include "deblurgs/two.h"\n#define FACTOR TWO\n')
    (tmp_path / "include" / "deblurgs" / "two.h").write_text("#define TWO 2.0f\n")
    monkeypatch.setenv("DEBLURGS_CUDA_SOURCES", str(tmp_path))
    monkeypatch.setenv("DEBLURGS_CACHE", str(tmp_path / "cache"))
    found = cubins.sources()
    assert found is not None and found.root == tmp_path
    return found


@pytest.fixture
def compiler() -> nvrtc.Compiler:
    found, reason = nvrtc.load(12)
    if found is None:
        pytest.skip(reason)
    return found


def prebuild(files: Sources, *architectures: int) -> None:
    files.cubins.mkdir()
    (files.cubins / "index.json").write_text(json.dumps({"sources": files.digest()}))
    for architecture in architectures:
        (files.cubins / f"sm_{architecture}.cubin").write_bytes(b"%d" % architecture)


@pytest.mark.parametrize(
    ("capability", "expected"),
    [((8, 6), b"86"), ((8, 0), b"80"), ((8, 9), b"86"), ((12, 1), b"120")],
)
def test_the_nearest_prebuilt_code_of_the_same_generation_is_taken(
    files: Sources, capability: tuple[int, int], expected: bytes
) -> None:
    prebuild(files, 80, 86, 90, 120)
    found = cubins.find(capability, CUDA_12)
    assert found.cubin == expected and found.origin == f"prebuilt for sm_{expected.decode()}"


def test_other_generations_and_embedded_devices_have_no_prebuilt_code(files: Sources) -> None:
    prebuild(files, 80, 86, 90)
    for architecture in (75, 100, 120, 87):
        assert cubins.prebuilt_for(files, architecture)[0] is None


def test_prebuilt_code_of_other_sources_is_not_used(files: Sources) -> None:
    prebuild(files, 80)
    (files.root / "include" / "deblurgs" / "two.h").write_text("#define TWO 3.0f\n")
    assert cubins.prebuilt_for(files, 80) == (None, "the prebuilt kernels are of other sources")


def test_nvrtc_compiles_once_and_the_cache_serves_afterwards(
    files: Sources, compiler: nvrtc.Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = cubins.find((8, 6), CUDA_12)
    assert first.cubin.startswith(b"\x7fELF") and b"twice" in first.cubin
    assert "now, kept in" in first.origin and "no kernels were prebuilt" in first.origin
    kept = list(cubins.cache_folder().glob("*.cubin"))
    assert len(kept) == 1 and "sm_86" in kept[0].name and files.digest()[:32] in kept[0].name
    monkeypatch.setattr(nvrtc.Compiler, "compile", lambda *_: pytest.fail("compiled again"))
    second = cubins.find((8, 6), CUDA_12)
    assert second.cubin == first.cubin and "at an earlier use" in second.origin
    monkeypatch.undo()


def test_a_damaged_cubin_in_the_cache_is_compiled_anew(files: Sources, compiler: nvrtc.Compiler) -> None:
    first = cubins.find((8, 6), CUDA_12)
    (kept,) = cubins.cache_folder().glob("*.cubin")
    kept.write_bytes(first.cubin[:-40])
    second = cubins.find((8, 6), CUDA_12)
    assert second.cubin == first.cubin == kept.read_bytes() and "now, kept in" in second.origin
    assert "at an earlier use" in cubins.find((8, 6), CUDA_12).origin


def test_a_cache_that_cannot_be_written_does_not_stop_anyone(
    files: Sources, compiler: nvrtc.Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = files.root / "a_file"
    blocked.write_text("")
    monkeypatch.setenv("DEBLURGS_CACHE", str(blocked))
    found = cubins.find((9, 0), CUDA_12)
    assert found.cubin.startswith(b"\x7fELF") and "not kept" in found.origin


def test_errors_carry_the_words_of_the_compiler(files: Sources, compiler: nvrtc.Compiler) -> None:
    files.unit.write_text('extern "C" __global__ void broken() { undeclared = 1; }')
    with pytest.raises(DeviceError, match=r"does not compile for sm_80(.|\n)*undeclared"):
        cubins.find((8, 0), CUDA_12)
    with pytest.raises(DeviceError, match="too old"):
        cubins.find((6, 1), CUDA_12)


def test_without_nvrtc_and_without_prebuilt_code_both_reasons_are_told(
    files: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nvrtc, "load", lambda _: (None, "NVRTC is not installed"))
    with pytest.raises(DeviceError, match=r"no kernels were prebuilt, and .*: NVRTC is not installed"):
        cubins.find((8, 0), CUDA_12)
    monkeypatch.setenv("DEBLURGS_CUDA_SOURCES", str(files.root / "nowhere"))
    with pytest.raises(DeviceError, match="missing from this installation"):
        cubins.find((8, 0), CUDA_12)


def test_the_assemblers_report_is_read(files: Sources, compiler: nvrtc.Compiler) -> None:
    files.unit.write_text(
        'extern "C" __global__ void plain(float* x) { x[0] = 1; }\n'
        'extern "C" __global__ void shared(float* x) { __shared__ float s[256]; s[threadIdx.x] = x[threadIdx.x];'
        " __syncthreads(); x[threadIdx.x] = s[255 - threadIdx.x]; }\n"
        'extern "C" __global__ void __launch_bounds__(1024, 2) greedy(float* x) { float v[64];\n'
        "#pragma unroll\nfor (int i = 0; i < 64; ++i) v[i] = x[i * 7 + threadIdx.x];\n__syncthreads();\n"
        "#pragma unroll\nfor (int i = 0; i < 64; ++i) x[i * 5 + threadIdx.x] = v[i] * v[63 - i]; }\n"
    )
    usage = compiler.compile(files.unit, files.folders, 80).usage
    assert set(usage) == {"plain", "shared", "greedy"}
    assert usage["plain"].registers > 0 and usage["plain"].spill_stores == 0
    assert usage["shared"].shared_bytes == 1024
    assert usage["greedy"].registers <= 32 and usage["greedy"].spill_stores > 0
    assert dataclasses.asdict(usage["greedy"])["spill_loads"] > 0
