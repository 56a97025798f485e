"""The emulation of the GPU finds what it is there to find, and covers every kernel."""

import re

import numpy as np
import pytest
import torch
from emulated_launcher import ROOT, EmulatedLauncher, build, unavailable

from deblurgs.errors import DeviceError

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=unavailable() or "")


def one_block(kernel: str, *arguments, threads: int = 64, seed: int = 0) -> None:
    EmulatedLauncher(seed).launch(kernel, (1, 1, 1), (threads, 1, 1), arguments)


@pytest.mark.parametrize("count", [1, 3, 4, 1024, 1500])
def test_memory_out_of_bounds_is_found(count: int) -> None:
    """Beyond the last number, at a page's end and in the slack that alignment leaves."""
    with pytest.raises(DeviceError, match=r"fault_write_beyond.*(out of bounds|beyond the end)"):
        one_block("deblurgs_fault_write_beyond", torch.zeros(count), np.int32(count))
    if count % 4 == 0:
        with pytest.raises(DeviceError, match=r"fault_read_beyond.*out of bounds"):
            one_block("deblurgs_fault_read_beyond", torch.zeros(count), torch.zeros(1), np.int32(count))
    with pytest.raises(DeviceError, match=r"fault_read_beyond.*out of bounds"):
        one_block("deblurgs_fault_read_beyond", None, torch.zeros(1), np.int32(count))


def test_a_missing_barrier_shows() -> None:
    numbers, sums = torch.ones(64), set()
    for seed in range(5):
        out = torch.zeros(1)
        one_block("deblurgs_fault_race", numbers, out, seed=seed)
        sums.add(float(out))
    assert sums != {64.0}


@pytest.mark.parametrize("fault", ["missing_lane", "divergence", "barrier"])
def test_collectives_without_all_lanes_are_found(fault: str) -> None:
    for seed in range(3):
        with pytest.raises(DeviceError, match=r"collective|never come"):
            one_block(f"deblurgs_fault_{fault}", torch.zeros(64), seed=seed)


def test_wrong_arguments_are_found() -> None:
    numbers = torch.zeros(4)
    with pytest.raises(DeviceError, match="unknown kernel"):
        one_block("deblurgs_no_such_kernel", numbers)
    with pytest.raises(DeviceError, match="takes 2 arguments, got 1"):
        one_block("deblurgs_fault_write_beyond", numbers)
    with pytest.raises(DeviceError, match="argument 1 should be of kind 'i'"):
        one_block("deblurgs_fault_write_beyond", numbers, np.int64(4))
    with pytest.raises(DeviceError, match="whole warps"):
        one_block("deblurgs_fault_write_beyond", numbers, np.int32(4), threads=33)


def test_every_kernel_is_emulated() -> None:
    for path in sorted((ROOT / "cuda").glob("*.cuh")):
        text = path.read_text()
        if path.name == "platform.cuh":
            continue
        found = re.findall(r"DEBLURGS_KERNEL\s+(?:__launch_bounds__\([^\n]*\)\s+)?(deblurgs_\w+)", text)
        assert len(found) == text.count("DEBLURGS_KERNEL"), path.name
        for name in found:
            names = [f"{name}{degree}" for degree in range(4)] if name.endswith("_") else [name]
            for kernel in names:
                assert build().emulated_kinds(kernel.encode()) is not None, kernel
