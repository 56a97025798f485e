"""Which device and which backend is taken, and the words when it cannot be had."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

from deblurgs.errors import DeviceError, UsageError
from deblurgs.raster import backend, cubins, devices, driver
from deblurgs.raster import gsplat as gsplat_backend

on_cpu_torch = pytest.mark.skipif(torch.version.cuda is not None, reason="this torch has CUDA")


@on_cpu_torch
def test_without_cuda_auto_is_the_cpu_and_cuda_is_refused() -> None:
    assert devices.resolve("auto") == devices.resolve("cpu") == torch.device("cpu")
    with pytest.raises(UsageError, match=r"--device cuda cannot be had: this torch .* build without CUDA"):
        devices.resolve("cuda")
    devices.require("auto")
    with pytest.raises(UsageError, match="--device cuda cannot be had"):
        devices.require("cuda")
    for name in ("cuda", "gsplat"):
        with pytest.raises(UsageError, match=f"The {name} rasterizer cannot be used"):
            backend.choose(name, torch.zeros(1, 3))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a machine with a GPU answers, as far as choosing goes."""
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))
    monkeypatch.setattr(driver, "load", lambda: (SimpleNamespace(), ""))
    monkeypatch.setattr(driver, "DriverLauncher", lambda d, device, cubin: SimpleNamespace(device=device))
    remembered = (devices.launcher_for, backend._cuda, backend._gsplat, gsplat_backend._library)
    for function in remembered:
        function.cache_clear()
    yield
    for function in remembered:
        function.cache_clear()


class OnGpu:
    """As much of a CUDA tensor as choosing a backend looks at."""

    device = torch.device("cuda", 0)
    dtype = torch.float32


def test_with_kernels_auto_is_the_gpu(gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cubins, "find", lambda capability, cuda: cubins.Kernels(b"", "prebuilt for sm_90"))
    assert devices.resolve("auto") == torch.device("cuda", 0)
    assert devices.launcher_for(0)[1] == "prebuilt for sm_90"
    assert backend.choose("auto", OnGpu()).name == "cuda"  # type: ignore[arg-type]
    monkeypatch.setenv("DEBLURGS_BACKEND", "reference")
    assert backend.choose("auto", OnGpu()).name == "reference"  # type: ignore[arg-type]
    assert backend.choose("auto", torch.zeros(1, 3)).name != "cuda"
    monkeypatch.setenv("DEBLURGS_BACKEND", "fastest")
    with pytest.raises(UsageError, match="DEBLURGS_BACKEND=fastest"):
        backend.choose("auto", OnGpu())  # type: ignore[arg-type]


def test_without_kernels_gsplat_is_next_and_then_the_reference(
    gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(capability: tuple[int, int], cuda: str) -> None:
        raise DeviceError("no kernels were prebuilt")

    monkeypatch.setattr(cubins, "find", refuse)
    monkeypatch.setattr(gsplat_backend, "_library", lambda: (None, "gsplat does not load"))
    assert devices.resolve("auto") == torch.device("cpu")
    with pytest.warns(
        RuntimeWarning, match="slow reference rasterizer: no kernels were prebuilt; gsplat does not"
    ):
        assert backend.choose("auto", OnGpu()).name == "reference"  # type: ignore[arg-type]
    backend._gsplat.cache_clear()
    monkeypatch.setattr(gsplat_backend, "_library", lambda: (SimpleNamespace(), ""))
    assert backend.choose("auto", OnGpu()).name == "gsplat"  # type: ignore[arg-type]
    assert devices.resolve("cuda") == torch.device("cuda", 0)


def test_prebuilt_code_that_does_not_load_is_replaced_by_nvrtcs(
    gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(capability: tuple[int, int], cuda: str, *, refused: str = "") -> cubins.Kernels:
        return (
            cubins.Kernels(b"new", f"compiled ({refused})")
            if refused
            else cubins.Kernels(b"old", "prebuilt for sm_90")
        )

    def start(d: object, device: torch.device, cubin: bytes) -> SimpleNamespace:
        if cubin == b"old":
            raise DeviceError("no binary for this GPU")
        return SimpleNamespace(device=device)

    monkeypatch.setattr(cubins, "find", find)
    monkeypatch.setattr(driver, "DriverLauncher", start)
    launcher, origin = devices.launcher_for(0)
    assert launcher is not None and origin == "compiled (no binary for this GPU)"
