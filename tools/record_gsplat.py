"""Record small cases rendered by gsplat on a GPU, pictures and gradients, for comparison where there is no GPU.

    python tools/record_gsplat.py [--output tests/oracle/gsplat.safetensors]

tests/oracle/test_oracle.py compares the CPU backend and the reference with the recording. The cases avoid what the two
define differently (opacities at the clamp, Gaussians at the near plane), so what is left is rounding.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from deblurgs.errors import DeblurgsError  # noqa: E402
from deblurgs.math.lie import se3_exp  # noqa: E402
from deblurgs.raster.backend import Backend, choose  # noqa: E402
from deblurgs.scene.camera import Camera  # noqa: E402

DEFAULT = ROOT / "tests" / "oracle" / "gsplat.safetensors"
NAMES = ("means", "quats", "scales", "opacities", "sh0", "shN", "viewmats")
MAX_BYTES = 1_000_000


@dataclass(frozen=True)
class Oracle:
    """One case: the arguments of an exposure, and the gradient of its picture."""

    name: str
    leaves: dict[str, Tensor]
    weights: Tensor
    camera: Camera
    antialiased: bool
    image_gradient: Tensor


def oracles() -> list[Oracle]:
    """The cases, the same on every machine: drawn by torch's CPU generator."""
    cases = []
    for number, (name, num, views, degree, antialiased) in enumerate(
        (
            ("sharp", 40, 1, 0, False), ("exposure", 60, 4, 1, False), ("glossy", 60, 3, 3, False),
            ("antialiased", 60, 3, 2, True),
        )
    ):  # fmt: skip
        g = torch.Generator().manual_seed(100 + number)
        camera = Camera(48, 36, 50.0, 52.0, 25.0, 17.5)
        z = 2.0 + 2.0 * torch.rand(num, generator=g)
        xy = (torch.rand(num, 2, generator=g) - 0.5) * torch.tensor([0.9, 0.65]) * z[:, None]
        slide = torch.linspace(-0.5, 0.5, views)[:, None] if views > 1 else torch.zeros(1, 1)
        leaves = {
            "means": torch.cat([xy, z[:, None]], 1),
            "quats": torch.randn(num, 4, generator=g),
            "scales": 0.08 + 0.3 * torch.rand(num, 3, generator=g),
            "opacities": 0.1 + 0.75 * torch.rand(num, generator=g),
            "sh0": torch.randn(num, 1, 3, generator=g),
            "shN": 0.15 * torch.randn(num, (degree + 1) ** 2 - 1, 3, generator=g),
            "viewmats": se3_exp(slide * torch.tensor([0.2, 0.05, 0.04, 0.02, -0.03, 0.05])),
        }
        weights = torch.full((views,), 1.0 / views)
        gradient = torch.randn(camera.height, camera.width, 3, generator=g)
        cases.append(Oracle(name, leaves, weights, camera, antialiased, gradient))
    return cases


def answer(case: Oracle, backend: Backend, device: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """image, alpha, depth and `gradient.<argument>`, float32 in host memory."""
    leaves = [case.leaves[n].to(device, dtype).clone().requires_grad_() for n in NAMES]
    out = backend.render_exposure(
        *leaves, weights=case.weights.to(device, dtype), camera=case.camera, antialiased=case.antialiased
    )
    out.image.backward(case.image_gradient.to(device, dtype))
    found = {"image": out.image, "alpha": out.alpha, "depth": out.depth}
    found |= {f"gradient.{n}": t.grad for n, t in zip(NAMES, leaves, strict=True) if t.grad is not None}
    return {name: t.detach().float().cpu().contiguous() for name, t in found.items()}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=DEFAULT)
    arguments = parser.parse_args()
    try:
        backend = choose("gsplat", torch.zeros(1, 3))
    except DeblurgsError as error:
        print(f"record_gsplat: {error}", file=sys.stderr)
        return 1
    import importlib.metadata

    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    for case in oracles():
        # What was rendered is kept beside the answer, so that no later change of `oracles` can part the two.
        tensors |= {f"{case.name}/{n}": t for n, t in answer(case, backend, "cuda", torch.float32).items()}
        tensors |= {f"{case.name}/given.{n}": t.contiguous() for n, t in case.leaves.items()}
    about = {
        "gsplat": importlib.metadata.version("gsplat"), "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name(0), "date": datetime.now(UTC).date().isoformat(),
    }  # fmt: skip
    data = save(tensors, metadata={"about": json.dumps(about)})
    if len(data) > MAX_BYTES:
        print(f"record_gsplat: {len(data)} bytes are more than {MAX_BYTES}", file=sys.stderr)
        return 1
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_bytes(data)
    print(f"{arguments.output}: {len(tensors)} tensors, {len(data)} bytes, {about}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
