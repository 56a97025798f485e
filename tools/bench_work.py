"""The work items of the rasterizer benchmark: seeded scenes that fill a view with anisotropic Gaussians."""

from dataclasses import dataclass

import torch
from torch import Tensor

from deblurgs.math.lie import se3_exp
from deblurgs.scene.camera import Camera

SEED = 20240411


@dataclass(frozen=True)
class WorkItem:
    """Arguments of one `render_exposure`, the gradient of its image, and the camera."""

    gaussians: dict[str, Tensor]  # means, quats, scales, opacities, sh0, shN
    viewmats: Tensor  # [V,4,4]
    weights: Tensor  # [V]
    camera: Camera
    image_gradient: Tensor  # [H,W,3]

    def tensors(self) -> tuple[Tensor, ...]:
        return (*self.gaussians.values(), self.viewmats)


def work_item(
    num_gaussians: int = 20_000, width: int = 256, height: int = 192, num_views: int = 1, degree: int = 0
) -> WorkItem:
    """Work item W (one view) or W10 (ten views along about 10 px of blur).

    Depth 2..8 uniform in disparity, standard deviations on screen of about 1.3 x 2.1 px in the median, opacity
    sigmoid(N(0.2, 1.8)); focal length 240 px at a width of 256.
    """
    g = torch.Generator().manual_seed(SEED)
    focal = 240.0 * width / 256

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g)

    def uniform(n: int, low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, generator=g)

    z = 1.0 / uniform(num_gaussians, 1 / 8, 1 / 2)
    x = (uniform(num_gaussians, -2, width + 2) - width / 2) * z / focal
    y = (uniform(num_gaussians, -2, height + 2) - height / 2) * z / focal
    # A common size and a shape: flat parts and detail, as in trained scenes.
    sigma_px = 1.5 * torch.exp(0.5 * normal(num_gaussians, 1) + 0.45 * normal(num_gaussians, 3))
    gaussians = {
        "means": torch.stack([x, y, z], 1),
        "quats": normal(num_gaussians, 4),
        "scales": sigma_px * (z / focal)[:, None],
        "opacities": torch.sigmoid(0.2 + 1.8 * normal(num_gaussians)),
        "sh0": normal(num_gaussians, 1, 3),
        "shN": 0.2 * normal(num_gaussians, (degree + 1) ** 2 - 1, 3),
    }
    # The middle of the depth range moves by 10 px over the exposure, with a little roll and nod.
    end = torch.tensor([10.0 * 3.2 / focal, 0.01, 0.02, 0.004, 0.004, 0.01])
    u = torch.linspace(-0.5, 0.5, num_views) if num_views > 1 else torch.zeros(1)
    viewmats = se3_exp(u[:, None] * end)
    return WorkItem(
        gaussians, viewmats, torch.full((num_views,), 1.0 / num_views),
        Camera(width, height, focal, focal, width / 2, height / 2),
        normal(height, width, 3) / (3 * height * width),
    )  # fmt: skip
