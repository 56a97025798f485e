"""Pictures and gradients that gsplat rendered on a GPU (tools/record_gsplat.py), against our backends without one."""

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from record_gsplat import DEFAULT, MAX_BYTES, NAMES, Oracle, answer, oracles  # noqa: E402

from deblurgs.raster import native  # noqa: E402
from deblurgs.raster.backend import Backend, choose  # noqa: E402
from deblurgs.raster.reference import ReferenceBackend  # noqa: E402

CASES = {case.name: case for case in oracles()}
# gsplat culls by a radius of about three standard deviations where we cull by the alpha cut-off, so faint rims differ.
IMAGE, GRADIENT = 2e-3, 2e-2


@pytest.fixture(params=["cpu", "reference"])
def backend(request: pytest.FixtureRequest) -> tuple[Backend, torch.dtype]:
    if request.param == "reference":
        return ReferenceBackend(), torch.float64
    library, reason = native.load()
    if library is None:
        pytest.skip(f"compiled library: {reason}")
    return choose("cpu", torch.zeros(1, 3)), torch.float32


def differences(wanted: dict[str, Tensor], found: dict[str, Tensor]) -> list[str]:
    """What differs by more than culling explains, as sentences; relative L2."""
    assert set(found) == set(wanted)
    worse = []
    for name, tensor in wanted.items():
        if not tensor.numel():
            continue
        error = float((found[name] - tensor).norm() / tensor.norm().clamp_min(1e-9))
        if not error < (GRADIENT if name.startswith("gradient.") else IMAGE):
            worse.append(f"{name} differs by {error:.2e}")
    return worse


@pytest.mark.parametrize("name", CASES)
def test_gsplat_on_a_gpu_said_the_same(name: str, backend: tuple[Backend, torch.dtype]) -> None:
    if not DEFAULT.is_file():
        pytest.skip(
            "no recording yet: tools/record_gsplat.py makes it on a machine with an NVIDIA GPU and gsplat"
        )
    data = DEFAULT.read_bytes()
    assert len(data) <= MAX_BYTES
    recorded = {k.partition("/")[2]: t for k, t in load(data).items() if k.startswith(f"{name}/")}
    case = CASES[name]
    for leaf in NAMES:
        assert torch.equal(recorded.pop(f"given.{leaf}"), case.leaves[leaf]), f"{leaf} was recorded otherwise"
    assert not differences(recorded, answer(case, backend[0], "cpu", backend[1]))


@pytest.mark.parametrize("name", CASES)
def test_the_cases_ask_something_and_our_backends_agree_on_them(
    name: str, backend: tuple[Backend, torch.dtype]
) -> None:
    """Also the proof that the comparison above can fail."""
    case: Oracle = CASES[name]
    wanted = answer(case, ReferenceBackend(), "cpu", torch.float64)
    found = answer(case, backend[0], "cpu", backend[1])
    assert not differences(wanted, found)
    assert float(wanted["alpha"].mean()) > 0.3 and all(t.isfinite().all() for t in wanted.values())
    found["gradient.viewmats"] = found["gradient.viewmats"] * 1.05
    found["image"] = found["image"] + 0.01
    assert len(differences(wanted, found)) == 2
