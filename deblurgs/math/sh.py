"""Real spherical harmonics up to degree 3, in the sign convention of 3D Gaussian splat files.

Y_lm carries the Condon-Shortley phase (-1)^m; order within a degree is m = -l..l, so degree 1 reads (-y, z,
-x). The functions are orthonormal on the unit sphere: integral of Y_i Y_j = delta_ij.
Reference: Sloan, "Stupid Spherical Harmonics Tricks", 2008, appendix A2 (polynomial forms).
"""

from math import pi, sqrt

import torch
from torch import Tensor

SH_C0 = sqrt(1.0 / (4.0 * pi))
_C1 = sqrt(3.0 / (4.0 * pi))
_C2_XY = sqrt(15.0 / (4.0 * pi))  # xy, yz, xz
_C2_ZZ = sqrt(5.0 / (16.0 * pi))  # 2z^2 - x^2 - y^2
_C2_XX = sqrt(15.0 / (16.0 * pi))  # x^2 - y^2
_C3_3 = sqrt(35.0 / (32.0 * pi))  # |m| = 3
_C3_XYZ = sqrt(105.0 / (4.0 * pi))  # m = -2
_C3_1 = sqrt(21.0 / (32.0 * pi))  # |m| = 1
_C3_0 = sqrt(7.0 / (16.0 * pi))  # m = 0
_C3_2 = sqrt(105.0 / (16.0 * pi))  # m = 2

MAX_DEGREE = 3


def num_coefficients(degree: int) -> int:
    """(degree + 1)^2. Raises ValueError outside 0..3."""
    if not 0 <= degree <= MAX_DEGREE:
        raise ValueError(f"sh_degree must lie in 0..{MAX_DEGREE}, got {degree}")
    return (degree + 1) ** 2


def degree_from_count(count: int) -> int:
    """The degree that stores `count` coefficients per channel. Raises ValueError unless count is 1, 4, 9 or
    16."""
    for degree in range(MAX_DEGREE + 1):
        if (degree + 1) ** 2 == count:
            return degree
    raise ValueError(f"{count} spherical-harmonic coefficients per channel; expected 1, 4, 9 or 16")


def sh_basis(degree: int, directions: Tensor) -> Tensor:
    """Values of all basis functions. directions [...,3] unit vectors -> [...,(degree+1)^2]."""
    num_coefficients(degree)
    x, y, z = directions.unbind(-1)
    values = [torch.full_like(x, SH_C0)]
    if degree >= 1:
        values += [-_C1 * y, _C1 * z, -_C1 * x]
    if degree >= 2:
        xx, yy, zz = x * x, y * y, z * z
        values += [
            _C2_XY * x * y,
            -_C2_XY * y * z,
            _C2_ZZ * (2.0 * zz - xx - yy),
            -_C2_XY * x * z,
            _C2_XX * (xx - yy),
        ]
        if degree >= 3:
            values += [
                -_C3_3 * y * (3.0 * xx - yy),
                _C3_XYZ * x * y * z,
                -_C3_1 * y * (4.0 * zz - xx - yy),
                _C3_0 * z * (2.0 * zz - 3.0 * xx - 3.0 * yy),
                -_C3_1 * x * (4.0 * zz - xx - yy),
                _C3_2 * z * (xx - yy),
                -_C3_3 * x * (xx - 3.0 * yy),
            ]
    return torch.stack(values, dim=-1)


def sh_to_color(coefficients: Tensor, directions: Tensor) -> Tensor:
    """Colour seen along unit directions: 0.5 + sum_k Y_k sh_k, *not* clamped at zero.

    coefficients [...,K,3] with K in {1,4,9,16}; directions [...,3] from the camera to the Gaussian, world
    axes. Returns [...,3] encoded (sRGB) colour.
    """
    degree = degree_from_count(coefficients.shape[-2])
    basis = sh_basis(degree, directions)  # [...,K]
    return 0.5 + (basis[..., None] * coefficients).sum(-2)


def rgb_to_sh0(rgb: Tensor) -> Tensor:
    """The constant coefficient that shows `rgb` [...,3] from everywhere: (rgb - 0.5) / Y_00."""
    return (rgb - 0.5) / SH_C0


def sh0_to_rgb(sh0: Tensor) -> Tensor:
    """Inverse of `rgb_to_sh0`, [...,3] -> [...,3], not clamped."""
    return 0.5 + sh0 * SH_C0
