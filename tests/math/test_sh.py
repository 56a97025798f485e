import math

import numpy as np
import pytest
import torch
from scipy.special import assoc_legendre_p
from torch import Tensor

from deblurgs.math.sh import (
    degree_from_count,
    num_coefficients,
    rgb_to_sh0,
    sh0_to_rgb,
    sh_basis,
    sh_to_color,
)


def sphere_rule() -> tuple[Tensor, Tensor]:
    """Directions [P,3] and weights [P] that integrate polynomials up to degree 13 exactly over the unit sphere."""
    z, weight_z = np.polynomial.legendre.leggauss(8)
    phi = np.arange(16) * (2 * math.pi / 16)
    z, phi = (grid.ravel() for grid in np.meshgrid(z, phi, indexing="ij"))
    radius = np.sqrt(1 - z * z)
    points = np.stack([radius * np.cos(phi), radius * np.sin(phi), z], axis=-1)
    return torch.from_numpy(points), torch.from_numpy(np.repeat(weight_z, 16) * (2 * math.pi / 16))


def test_functions_are_orthonormal() -> None:
    points, weights = sphere_rule()
    values = sh_basis(3, points)
    gram = torch.einsum("p,pi,pj->ij", weights, values, values)
    torch.testing.assert_close(gram, torch.eye(16, dtype=torch.float64), rtol=0, atol=1e-13)


def test_signs_and_order_follow_the_definition() -> None:
    """Real spherical harmonics from associated Legendre functions, which carry the Condon-Shortley phase."""
    points, _ = sphere_rule()
    x, y, z = points.unbind(-1)
    phi = torch.atan2(y, x)
    columns = []
    for degree in range(4):
        for m in range(-degree, degree + 1):
            order = abs(m)
            factorials = math.factorial(degree - order) / math.factorial(degree + order)
            norm = math.sqrt((2 * degree + 1) / (4 * math.pi) * factorials)
            legendre = torch.from_numpy(np.asarray(assoc_legendre_p(degree, order, z.numpy())[0]))
            if m < 0:
                columns.append(math.sqrt(2) * norm * legendre * torch.sin(order * phi))
            elif m == 0:
                columns.append(norm * legendre)
            else:
                columns.append(math.sqrt(2) * norm * legendre * torch.cos(order * phi))
    torch.testing.assert_close(sh_basis(3, points), torch.stack(columns, dim=-1), rtol=0, atol=1e-13)


def test_degree_one_reads_minus_y_z_minus_x() -> None:
    """The order and signs that splat files use; a mistake here shows only in other people's viewers."""
    c = math.sqrt(3 / (4 * math.pi))
    values = sh_basis(1, torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64))
    expected = torch.tensor([math.sqrt(1 / (4 * math.pi)), -0.2 * c, 0.3 * c, -0.1 * c], dtype=torch.float64)
    torch.testing.assert_close(values, expected)


@pytest.mark.parametrize("degree", range(4))
def test_lower_degrees_are_prefixes_and_gradients_hold(degree: int, generator: torch.Generator) -> None:
    points = torch.randn(5, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    count = num_coefficients(degree)
    assert torch.equal(sh_basis(degree, points), sh_basis(3, points)[:, :count])
    sh = torch.randn(5, count, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(sh_to_color, (sh, points))


def test_constant_colour_round_trip(generator: torch.Generator) -> None:
    rgb = torch.rand(7, 3, generator=generator, dtype=torch.float64)
    sh = torch.zeros(7, 16, 3, dtype=torch.float64)
    sh[:, 0] = rgb_to_sh0(rgb)
    towards = torch.nn.functional.normalize(
        torch.randn(7, 3, generator=generator, dtype=torch.float64), dim=-1
    )
    torch.testing.assert_close(sh_to_color(sh, towards), rgb)
    torch.testing.assert_close(sh0_to_rgb(rgb_to_sh0(rgb)), rgb)


def test_counts_and_degrees() -> None:
    assert [num_coefficients(d) for d in range(4)] == [1, 4, 9, 16]
    assert [degree_from_count(k) for k in (1, 4, 9, 16)] == [0, 1, 2, 3]
    for wrong in (0, 2, 15, 25):
        with pytest.raises(ValueError, match=str(wrong)):
            degree_from_count(wrong)
    with pytest.raises(ValueError, match="sh_degree"):
        num_coefficients(4)
