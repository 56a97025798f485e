"""The launcher against a driver of our own that runs on the processor; against NVIDIA's where there is a GPU."""

import ctypes
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from deblurgs.errors import DeviceError
from deblurgs.raster import cubins, driver
from deblurgs.raster.driver import Driver, DriverLauncher

CPU = torch.device("cpu")
STREAM = 4711


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler for the driver of this test")
    target = tmp_path_factory.mktemp("fake") / "libcuda.so"
    source = Path(__file__).with_name("fake_cuda.cpp")
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", str(target), str(source)], check=True, timeout=60
    )
    return ctypes.CDLL(str(target))


@pytest.fixture
def launcher(library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> DriverLauncher:
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=STREAM))
    return DriverLauncher(Driver(library), CPU, b"good")


def test_a_kernel_gets_its_arguments_grid_stream_and_context(
    launcher: DriverLauncher, library: ctypes.CDLL
) -> None:
    x, y = torch.arange(5.0), torch.zeros(5)
    launcher.launch("scale", (3, 2, 1), (64, 2, 1), [x, y, np.float32(0.5), np.int64(4)], shared_bytes=80_000)
    assert y.tolist() == [0.0, 0.5, 1.0, 1.5, 0.0]
    seen = (ctypes.c_uint64 * 12).in_dll(library, "fake_last")
    assert list(seen)[:10] == [3, 2, 1, 64, 2, 1, 80_000, STREAM, 1, 1], (
        "context pushed while the kernel starts"
    )


def test_every_type_of_number_arrives_unchanged(launcher: DriverLauncher) -> None:
    out = torch.zeros(6, dtype=torch.float64)
    numbers = [
        np.int32(-7),
        np.uint32(2**32 - 1),
        np.int64(-(2**40)),
        np.uint64(2**50),
        np.float32(0.1),
        None,
    ]
    launcher.launch("all_types", (1, 1, 1), (1, 1, 1), [out, *numbers])
    assert out.tolist() == [-7.0, 2.0**32 - 1, -(2.0**40), 2.0**50, float(np.float32(0.1)), 1.0]


def test_nothing_starts_for_an_empty_grid(launcher: DriverLauncher) -> None:
    launcher.launch("scale", (0, 1, 1), (64, 1, 1), [])


def test_refusals_are_explained(launcher: DriverLauncher, library: ctypes.CDLL) -> None:
    one, block = (1, 1, 1), (32, 1, 1)
    with pytest.raises(DeviceError, match="no kernel unknown"):
        launcher.launch("unknown", one, block, [])
    with pytest.raises(DeviceError, match=r"did not start.*CUDA_ERROR_INVALID_VALUE, invalid argument"):
        launcher.launch("scale", one, (2048, 1, 1), [])
    with pytest.raises(DeviceError, match="300000 bytes of shared memory"):
        launcher.launch("scale", one, block, [], shared_bytes=300_000)
    with pytest.raises(ValueError, match="argument 1: the tensor must be contiguous"):
        launcher.launch("scale", one, block, [None, torch.zeros(4, 4).T])
    with pytest.raises(ValueError, match="argument 0: on meta"):
        launcher.launch("scale", one, block, [torch.zeros(1, device="meta")])
    with pytest.raises(TypeError, match=r"argument 0: .* not float"):
        launcher.launch("scale", one, block, [1.0])  # type: ignore[list-item]
    with pytest.raises(DeviceError, match="does not take the compiled kernels: CUDA_ERROR_INVALID_IMAGE"):
        DriverLauncher(Driver(library), CPU, b"bad")


def test_without_a_driver_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "_NAMES", ("libthere_is_no_such_driver.so",))
    found, reason = driver.load.__wrapped__()
    assert found is None and "no NVIDIA driver is installed" in reason


@pytest.mark.gpu
def test_a_kernel_of_nvrtc_runs_on_the_gpu(tmp_path: Path) -> None:
    from deblurgs.raster import nvrtc

    compiler, reason = nvrtc.load(cubins._major(torch.version.cuda))
    assert compiler is not None, reason
    loaded, reason = driver.load()
    assert loaded is not None, reason
    source = tmp_path / "scale.cu"
    source.write_text(
        'extern "C" __global__ void scale(const float* x, float* y, float a, long long n) {'
        " long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; if (i < n) y[i] = a * x[i]; }"
    )
    major, minor = torch.cuda.get_device_capability(0)
    cubin = compiler.compile(source, (), 10 * major + minor).cubin
    launcher = DriverLauncher(loaded, torch.device("cuda", 0), cubin)
    x = torch.arange(1000.0, device="cuda:0")
    y = torch.zeros_like(x)
    launcher.launch("scale", (4, 1, 1), (256, 1, 1), [x, y, np.float32(2.0), np.int64(1000)])
    assert torch.equal(y, 2.0 * x)
