"""Hostile numbers in every backend: what is broken is dropped, and nothing else notices."""

import pytest
import torch
from backend_checks import NAMES, Contract, render_with_gradients
from raster_scenes import CAMERA, F64, Scene, join, random_poses, random_scene

from deblurgs.scene.camera import Camera

POISON = [
    float("nan"), float("inf"), -float("inf"), 1e-40, -1e-40, 3.4028235e38, -3.4028235e38, 1e20, 0.0, -1.0,
    0.01, 1 / 255, 0.99, 1e-30,
]  # fmt: skip


@pytest.mark.parametrize("field", ["means", "quats", "scales", "opacities", "sh0", "shN"])
def test_poison_stays_where_it_is(field: str, exact: Contract, generator: torch.Generator) -> None:
    """A hostile number in one Gaussian: others keep finite gradients, and a dropped one leaves no trace."""
    healthy, victim = random_scene(40, generator, 2), random_scene(1, generator, 2)
    victim.means[0] = torch.tensor([0.0, 0.0, 3.0])
    poses = random_poses(2, generator)
    half = torch.full((2,), 0.5, dtype=F64)
    image_gradient = torch.randn(12, 16, 3, generator=generator, dtype=F64)
    alone, alone_gradients = render_with_gradients(
        exact.backend, healthy, poses, half, CAMERA, image_gradient, torch.float32, exact.device
    )
    for value in POISON:
        columns = getattr(victim, field)[0].numel()
        for column in range(min(columns, 1 if exact.slow else 4)):
            poisoned = Scene(*(t.clone() for t in victim.tensors()))
            getattr(poisoned, field).view(-1)[column] = value
            # In the middle, so that it shares vectors with healthy neighbours.
            scene = join(healthy[torch.arange(20)], poisoned, healthy[torch.arange(20, 40)])
            rendered, gradients = render_with_gradients(
                exact.backend, scene, poses, half, CAMERA, image_gradient, torch.float32, exact.device
            )
            rest = torch.arange(41) != 20
            label = f"{field}[{column}] = {value}"
            extreme = field in ("sh0", "shN") and 1e19 < abs(value) < float("inf")
            assert extreme or rendered.image.isfinite().all(), label
            for name, gradient in gradients.items():
                kept = gradient[rest] if name in NAMES[:6] else gradient
                assert kept.isfinite().all(), f"{name} with {label}"
            if value != value or abs(value) == float("inf"):
                assert torch.equal(rendered.image, alone.image), label
                for name in NAMES[:6]:
                    assert not gradients[name][20].any(), f"{name} with {label}"
                    torch.testing.assert_close(
                        gradients[name][rest], alone_gradients[name], rtol=1e-4, atol=1e-5
                    )


def test_thousands_of_hostile_scenes(exact: Contract) -> None:
    """Random mixtures of hostile numbers everywhere, poses included where they are finite: no crash, no NaN image
    from finite colours."""
    g = torch.Generator().manual_seed(11)
    poison = torch.tensor([*POISON, 1e10, 16.0, 15.5, 255.0, 1e-3], dtype=torch.float32)
    camera = Camera(33, 18, 20.0, 22.0, 16.0, 8.5)
    for _ in range(10 if exact.slow else 150):
        tensors = [t.float() for t in random_scene(37, g, 1).tensors()]
        for tensor in tensors:
            hit = torch.rand(tensor.shape, generator=g) < 0.1
            tensor[hit] = poison[torch.randint(len(poison), (int(hit.sum()),), generator=g)]
        poses = random_poses(2, g).float()
        poses[0, 0, 3] = float(poison[torch.randint(3, len(poison), (1,), generator=g)])
        leaves = [t.to(exact.device).requires_grad_() for t in (*tensors, poses)]
        rendered = exact.backend.render_exposure(
            *leaves, torch.full((2,), 0.5, device=exact.device), camera, antialiased=True
        )
        rendered.image.sum().backward()
        assert rendered.alpha.isfinite().all()
        assert rendered.alpha.min() >= 0.0 and rendered.alpha.max() <= 1.0 + 1e-6
        assert leaves[3].grad is not None
