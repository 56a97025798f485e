"""Rotations SO(3) as matrices [...,3,3] and rigid motions SE(3) as matrices [...,4,4], with their tangents.

Tangents are `omega` [...,3] (rotation vector, radians) and `xi = (v, omega)` [...,6], translation part first.
The convention is right multiplication: a pose is perturbed as `T @ se3_exp(xi)`, so xi lives in the frame on
the right. Formulas: Sola, Deray, Atchuthan, "A micro Lie theory for state estimation in robotics", 2018
(arXiv 1812.01537), equation numbers below. Every function is finite and differentiable at the identity and
accurate up to half turns, in float32 and float64.
"""

from math import factorial

import torch
from torch import Tensor

from deblurgs.math import quaternion

# Below this squared angle the power series are used. Eight terms leave a relative error of 1e-20 there, while
# the closed forms lose eps / angle^2 to cancellation, so the border suits both dtypes.
_SERIES_BELOW = 0.25
_SERIES_TERMS = 8
_JACOBIAN_TERMS = 12


def hat(omega: Tensor) -> Tensor:
    """The skew matrix of the cross product: hat(a) @ b = a x b. [...,3] -> [...,3,3]."""
    x, y, z = omega.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))


def vee(skew: Tensor) -> Tensor:
    """Inverse of `hat`, [...,3,3] -> [...,3]; a matrix that is not quite skew is antisymmetrised first."""
    return 0.5 * torch.stack(
        [
            skew[..., 2, 1] - skew[..., 1, 2],
            skew[..., 0, 2] - skew[..., 2, 0],
            skew[..., 1, 0] - skew[..., 0, 1],
        ],
        dim=-1,
    )


def so3_exp(omega: Tensor) -> Tensor:
    """Rotation matrix of a rotation vector (Rodrigues; eq. 132). [...,3] -> [...,3,3]."""
    a, b, _ = _rodrigues_coefficients(omega)
    skew = hat(omega)
    return _identity(3, omega) + a * skew + b * (skew @ skew)


def so3_log(rotation: Tensor) -> Tensor:
    """Rotation vector of length at most pi, [...,3,3] -> [...,3]. At exactly pi the sign of the axis is
    arbitrary.

    The way leads through the quaternion, where the angle follows from atan2 and neither end of the range
    loses digits (eq. 133 with acos would lose half of them near 0 and pi).
    """
    wxyz = quaternion.from_matrix(rotation)
    w, xyz = wxyz[..., :1], wxyz[..., 1:]  # w >= 0
    squared = (xyz * xyz).sum(-1, keepdim=True)
    small = squared < 1e-4
    # Double where: neither branch may see an argument at which its own derivative is infinite.
    length = torch.where(small, torch.ones_like(squared), squared).sqrt()
    w_small = torch.where(small, w, torch.ones_like(w))
    t = squared / (w_small * w_small)
    t = torch.where(small, t, torch.zeros_like(t))
    series = (1.0 - t * (1.0 / 3.0 - t * (1.0 / 5.0 - t * (1.0 / 7.0 - t / 9.0)))) / w_small
    return 2.0 * torch.where(small, series, torch.atan2(length, w) / length) * xyz


def so3_left_jacobian(omega: Tensor) -> Tensor:
    """J_l with exp(omega + d) = exp(J_l d) exp(omega) to first order (eq. 145). [...,3] -> [...,3,3]."""
    _, b, c = _rodrigues_coefficients(omega)
    skew = hat(omega)
    return _identity(3, omega) + b * skew + c * (skew @ skew)


def se3_exp(xi: Tensor) -> Tensor:
    """Rigid motion of a tangent (v, omega): rotation exp(omega), translation J_l(omega) v (eq. 172).

    [...,6] -> [...,4,4]. se3_exp(-xi) is the inverse of se3_exp(xi).
    """
    v, omega = xi[..., :3], xi[..., 3:]
    a, b, c = _rodrigues_coefficients(omega)
    skew = hat(omega)
    skew_squared = skew @ skew
    identity = _identity(3, xi)
    rotation = identity + a * skew + b * skew_squared
    left_jacobian = identity + b * skew + c * skew_squared
    return _assemble(rotation, (left_jacobian @ v[..., None])[..., 0])


def se3_log(transform: Tensor) -> Tensor:
    """Tangent (v, omega) with |omega| <= pi, [...,4,4] -> [...,6] (eq. 173)."""
    omega = so3_log(transform[..., :3, :3])
    # J_l is invertible for every angle below 2 pi, so a 3x3 solve is accurate where its closed-form inverse
    # is not. (`solve` itself would look whether it worked, and a GPU be waited for.)
    v = torch.linalg.solve_ex(so3_left_jacobian(omega), transform[..., :3, 3:]).result[..., 0]
    return torch.cat([v, omega], dim=-1)


def se3_inverse(transform: Tensor) -> Tensor:
    """Inverse of a rigid motion without a general matrix inverse (eq. 170), [...,4,4] -> [...,4,4]."""
    transposed = transform[..., :3, :3].transpose(-1, -2)
    return _assemble(transposed, -(transposed @ transform[..., :3, 3:])[..., 0])


def se3_adjoint(transform: Tensor) -> Tensor:
    """Ad with T exp(xi) T^-1 = exp(Ad xi) for xi = (v, omega) (eq. 175), [...,4,4] -> [...,6,6]."""
    rotation = transform[..., :3, :3]
    coupling = hat(transform[..., :3, 3]) @ rotation
    top = torch.cat([rotation, coupling], dim=-1)
    bottom = torch.cat([torch.zeros_like(rotation), rotation], dim=-1)
    return torch.cat([top, bottom], dim=-2)


def se3_left_jacobian(xi: Tensor) -> Tensor:
    """J_l with exp(xi + d) = exp(J_l d) exp(xi) to first order, [...,6] -> [...,6,6]; the right one is J_l(-xi).

    The series sum_k ad(xi)^k / (k + 1)! (eq. 67 there), accurate to 1e-9 for rotations up to one radian.
    """
    v, omega = xi[..., :3], xi[..., 3:]
    zero = torch.zeros_like(hat(v))
    ad = torch.cat([torch.cat([hat(omega), hat(v)], dim=-1), torch.cat([zero, hat(omega)], dim=-1)], dim=-2)
    identity = _identity(6, xi).expand_as(ad)
    result = identity
    for k in reversed(range(1, _JACOBIAN_TERMS)):
        result = identity + ad @ result / (k + 1)
    return result


def _identity(size: int, like: Tensor) -> Tensor:
    return torch.eye(size, dtype=like.dtype, device=like.device)


def _assemble(rotation: Tensor, translation: Tensor) -> Tensor:
    """[...,3,3], [...,3] -> [...,4,4]."""
    top = torch.cat([rotation, translation[..., None]], dim=-1)
    last = _identity(4, rotation)[3:].expand(*top.shape[:-2], 1, 4)
    return torch.cat([top, last], dim=-2)


def _rodrigues_coefficients(omega: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """sin(t)/t, (1 - cos t)/t^2 and (t - sin t)/t^3 for t = |omega|, each [...,1,1] for use with matrices."""
    squared = (omega * omega).sum(-1)[..., None, None]
    small = squared < _SERIES_BELOW
    # Double where: the branch that is thrown away must stay away from sqrt(0) and 0/0, whose infinite slope
    # times the zero of the outer where would be a NaN gradient; and from huge powers in the series.
    for_series = torch.where(small, squared, torch.zeros_like(squared))
    for_closed = torch.where(small, torch.ones_like(squared), squared)
    angle = for_closed.sqrt()
    sine = torch.sin(angle)
    half_sine = torch.sin(0.5 * angle)
    closed = (
        sine / angle,
        2.0 * half_sine * half_sine / for_closed,  # 1 - cos t = 2 sin^2(t/2) does not cancel.
        (angle - sine) / (for_closed * angle),
    )
    a, b, c = (torch.where(small, _series(for_series, first), closed[first - 1]) for first in (1, 2, 3))
    return a, b, c


def _series(squared: Tensor, first: int) -> Tensor:
    """sum_k (-1)^k squared^k / (2k + first)! by Horner's rule."""
    result = torch.zeros_like(squared)
    for k in reversed(range(_SERIES_TERMS)):
        result = 1.0 / factorial(2 * k + first) - squared * result
    return result
