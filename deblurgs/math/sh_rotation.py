"""Turning view-dependent colour together with the scene."""

import torch
from torch import Tensor

from deblurgs.math.sh import degree_from_count, sh_basis


def rotate_sh(rest: Tensor, rotation: Tensor) -> Tensor:
    """Coefficients of degree >= 1 after the scene was rotated: rest [N,K-1,3], rotation [3,3] new_from_old.

    The rotated function at direction d is the old one at R^T d. Each degree is closed under rotation, so its matrix
    follows exactly from the basis at more directions than coefficients (least squares, float64).
    """
    count = rest.shape[1] + 1
    if count == 1:
        return rest
    degree = degree_from_count(count)
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(64, 3, generator=generator, dtype=torch.float64)
    directions = directions / directions.norm(dim=1, keepdim=True)
    new = sh_basis(degree, directions)[:, 1:]  # [64,K-1]
    old = sh_basis(degree, directions @ rotation.double())[:, 1:]  # rows: basis at R^T d
    matrix = torch.linalg.lstsq(new, old).solution  # new @ matrix = old
    return torch.einsum("jk,nkc->njc", matrix.to(rest.dtype), rest)
