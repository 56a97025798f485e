"""The scene: N anisotropic 3-D Gaussians with spherical-harmonics colour in display (sRGB-encoded) space."""

import torch
from torch import Tensor, nn

from deblurgs.math.sh import rgb_to_sh0
from deblurgs.math.sh_rotation import rotate_sh
from deblurgs.scene.transform import Similarity

PARAMETERS = ("means", "quats", "log_scales", "logit_opacities", "sh0", "shN")


class Gaussians(nn.Module):
    """means [N,3], quats [N,4] wxyz (any length), log_scales [N,3], logit_opacities [N], sh0 [N,1,3], shN [N,K-1,3]."""

    means: nn.Parameter
    quats: nn.Parameter
    log_scales: nn.Parameter
    logit_opacities: nn.Parameter
    sh0: nn.Parameter
    shN: nn.Parameter

    def __init__(self, **tensors: Tensor) -> None:
        super().__init__()
        for name in PARAMETERS:
            # A copy: training writes in place, and what was passed in belongs to the caller.
            setattr(self, name, nn.Parameter(tensors[name].detach().clone().contiguous()))

    @property
    def num_gaussians(self) -> int:
        return self.means.shape[0]

    @property
    def scales(self) -> Tensor:
        return self.log_scales.exp()

    @property
    def opacities(self) -> Tensor:
        return self.logit_opacities.sigmoid()

    def tensors(self) -> dict[str, Tensor]:
        """The parameters by name, detached copies."""
        return {name: getattr(self, name).detach().clone() for name in PARAMETERS}

    @staticmethod
    def from_points(points: Tensor, colors: Tensor, sh_degree: int, *, opacity: float = 0.5) -> "Gaussians":
        """One round Gaussian per point. points [P,3]; colors [P,3] encoded in [0,1].

        The radius is half the mean distance to the three nearest points, so that neighbours just touch.
        """
        count = points.shape[0]
        radius = 0.5 * neighbour_distance(points)  # [P]
        num_rest = (sh_degree + 1) ** 2 - 1
        return Gaussians(
            means=points,
            quats=points.new_tensor([1.0, 0.0, 0.0, 0.0]).repeat(count, 1),
            log_scales=radius.log()[:, None].repeat(1, 3),
            logit_opacities=points.new_full((count,), opacity).logit(),
            sh0=rgb_to_sh0(colors)[:, None],
            shN=points.new_zeros(count, num_rest, 3),
        )

    def transformed(self, similarity: Similarity) -> "Gaussians":
        """The same scene in the similarity's target frame; view-dependent colour turns with it."""
        t = self.tensors()
        means = similarity.apply_points(t["means"].double()).float()
        quats, scales = similarity.apply_gaussians(t["quats"].double(), t["log_scales"].double().exp())
        rotation = torch.tensor(similarity.rotation, dtype=torch.float64, device=means.device)
        return Gaussians(
            means=means,
            quats=quats.float(),
            log_scales=scales.log().float(),
            logit_opacities=t["logit_opacities"],
            sh0=t["sh0"],
            shN=rotate_sh(t["shN"].double(), rotation).float(),
        )


def neighbour_distance(points: Tensor, neighbours: int = 3, chunk: int = 2048) -> Tensor:
    """Mean distance of every point to its nearest neighbours, [P]. Capped at ten times the median (lone points)."""
    count = points.shape[0]
    if count < 2:
        return points.new_full((count,), 0.05)
    k = min(neighbours, count - 1)
    parts = []
    for start in range(0, count, chunk):
        distance = torch.cdist(points[start : start + chunk], points)  # [c,P]
        parts.append(distance.topk(k + 1, largest=False).values[:, 1:].mean(dim=1))
    mean = torch.cat(parts)
    median = mean.median().clamp_min(1e-6)
    return mean.clamp(min=0.05 * median, max=10.0 * median)
