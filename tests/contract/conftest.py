"""Backends of the rasterizer that this machine can run, one after the other; the others skip with the reason."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

for _room in ("raster", "train"):
    _place = str(Path(__file__).resolve().parents[1] / _room)
    if _place not in sys.path:
        sys.path.insert(0, _place)

import torch  # noqa: E402
from backend_checks import Contract  # noqa: E402
from emulated_launcher import EmulatedLauncher, unavailable  # noqa: E402

from deblurgs.errors import DeblurgsError  # noqa: E402
from deblurgs.raster import native  # noqa: E402
from deblurgs.raster.backend import choose  # noqa: E402
from deblurgs.raster.cpu import CpuBackend  # noqa: E402
from deblurgs.raster.cuda import CudaBackend  # noqa: E402
from deblurgs.raster.reference import ReferenceBackend  # noqa: E402

BACKENDS = ["reference", "cpu-baseline", "cpu-avx2", "cpu-avx512", "cuda-emulated", "cuda", "gsplat"]


@pytest.fixture(params=BACKENDS)
def contract(request: pytest.FixtureRequest) -> Iterator[Contract]:
    """One backend that can run here, in float32."""
    name: str = request.param
    if name.startswith("cpu"):
        library, reason = native.load()
        if library is None:
            pytest.skip(f"compiled library: {reason}")
        if library.deblurgs_cpu_select_isa(name.removeprefix("cpu-").encode()) != 0:
            pytest.skip(f"this machine has no {name.removeprefix('cpu-')}")
        yield Contract(CpuBackend())
        library.deblurgs_cpu_select_isa(None)
    elif name == "reference":
        # Rounding in float32: it subtracts products where the kernels do not.
        yield Contract(ReferenceBackend(), forgiven=100.0, exact=False, slow=True)
    elif name == "cuda-emulated":
        if reason := unavailable():
            pytest.skip(reason)
        yield Contract(CudaBackend(EmulatedLauncher(seed=len(request.node.name))), slow=True)
    else:
        if not torch.cuda.is_available():
            pytest.skip("this machine has no CUDA device")
        try:
            backend = choose(name, torch.zeros(1, 3, device="cuda"))  # type: ignore[arg-type]
        except (DeblurgsError, ValueError) as error:
            if name == "cuda":
                pytest.fail(f"there is a GPU, and our kernels cannot be used on it: {error}")
            pytest.skip(str(error))
        if name == "gsplat":
            # It clamps alpha per pixel and culls by a radius, and adds gradients up in any order.
            yield Contract(backend, "cuda", forgiven=2000.0, exact=False, repeatable=False)
        else:
            # One instruction for 2^x, and products fused by the compiler's choice.
            yield Contract(backend, "cuda", forgiven=10.0)


@pytest.fixture
def exact(contract: Contract) -> Contract:
    """A backend that follows the definition to the letter in float32."""
    if not contract.exact:
        pytest.skip(f"{contract.backend.name} follows the definition less closely")
    return contract
