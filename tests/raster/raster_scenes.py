"""Small scenes and poses that the tests of the rasterizers share."""

from dataclasses import dataclass

import torch
from torch import Tensor

from deblurgs.math.lie import se3_exp
from deblurgs.math.sh import rgb_to_sh0
from deblurgs.raster.api import Rendered
from deblurgs.raster.reference import render_exposure
from deblurgs.scene.camera import Camera

F64 = torch.float64
CAMERA = Camera(16, 12, 15.0, 16.0, 7.4, 6.3)


@dataclass(frozen=True)
class Scene:
    means: Tensor
    quats: Tensor
    scales: Tensor
    opacities: Tensor
    sh0: Tensor
    shN: Tensor

    def tensors(self) -> tuple[Tensor, ...]:
        return self.means, self.quats, self.scales, self.opacities, self.sh0, self.shN

    def __getitem__(self, idx: Tensor) -> "Scene":
        return Scene(*(tensor[idx] for tensor in self.tensors()))


def random_scene(num: int, generator: torch.Generator, degree: int = 3) -> Scene:
    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=F64)

    return Scene(
        means=torch.cat([0.8 * normal(num, 2), 3.0 + 0.5 * normal(num, 1)], dim=1),
        quats=normal(num, 4),
        scales=(0.3 * normal(num, 3) - 1.2).exp(),
        opacities=torch.sigmoid(normal(num)).clamp(max=0.9),
        sh0=0.5 * normal(num, 1, 3),
        shN=0.2 * normal(num, (degree + 1) ** 2 - 1, 3),
    )


def one_gaussian(x: float, y: float, z: float, scale: float = 0.2, opacity: float = 0.8) -> Scene:
    rgb = torch.tensor([0.9, 0.5, 0.2], dtype=F64)
    return Scene(
        means=torch.tensor([[x, y, z]], dtype=F64),
        quats=torch.tensor([[1.0, 0, 0, 0]], dtype=F64),
        scales=torch.full((1, 3), scale, dtype=F64),
        opacities=torch.tensor([opacity], dtype=F64),
        sh0=rgb_to_sh0(rgb)[None, None],
        shN=torch.zeros(1, 0, 3, dtype=F64),
    )


def join(*scenes: Scene) -> Scene:
    return Scene(*(torch.cat(parts) for parts in zip(*(scene.tensors() for scene in scenes), strict=True)))


def random_poses(num: int, generator: torch.Generator, size: float = 0.05) -> Tensor:
    return se3_exp(size * torch.randn(num, 6, generator=generator, dtype=F64))


def eye() -> Tensor:
    return torch.eye(4, dtype=F64)[None]


def one_view(scene: Scene, camera: Camera = CAMERA, viewmat: Tensor | None = None, **options) -> Rendered:
    """Encoded image of one pose."""
    pose = eye() if viewmat is None else viewmat[None]
    return render_exposure(
        *scene.tensors(), pose, torch.ones(1, dtype=F64), camera, linear_mean=False, **options
    )


def assert_equal_images(a: Rendered, b: Rendered, atol: float = 1e-12) -> None:
    for name in ("image", "alpha", "depth"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=0, atol=atol)
