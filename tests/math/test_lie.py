"""Group axioms, an outside oracle, and gradients that stay finite where the textbook formulas divide zero by zero."""

import math
from collections.abc import Callable

import pytest
import roma
import torch
from torch import Tensor

from deblurgs.math import quaternion
from deblurgs.math.lie import (
    hat,
    se3_adjoint,
    se3_exp,
    se3_inverse,
    se3_left_jacobian,
    se3_log,
    so3_exp,
    so3_left_jacobian,
    so3_log,
    vee,
)

DTYPES = [torch.float32, torch.float64]
NUM = 64


def tolerance(dtype: torch.dtype) -> float:
    return 5e-6 if dtype == torch.float32 else 1e-13


def directions(generator: torch.Generator) -> Tensor:
    axis = torch.randn(NUM, 3, generator=generator, dtype=torch.float64)
    return axis / axis.norm(dim=-1, keepdim=True)


def omegas(kind: str, generator: torch.Generator) -> Tensor:
    """Rotation vectors [64,3] float64, all shorter than pi."""
    if kind == "uniform":
        wxyz = quaternion.normalize(torch.randn(NUM, 4, generator=generator, dtype=torch.float64))
        return roma.unitquat_to_rotvec(quaternion.xyzw_from_wxyz(wxyz))
    if kind == "gaussian":
        return 0.5 * torch.randn(NUM, 3, generator=generator, dtype=torch.float64)
    if kind == "near identity":
        return 1e-7 * torch.randn(NUM, 3, generator=generator, dtype=torch.float64)
    if kind == "series border":
        return directions(generator) * torch.linspace(0.499, 0.501, NUM, dtype=torch.float64)[:, None]
    assert kind == "near pi"
    return directions(generator) * (math.pi - 1e-3)


KINDS = ["uniform", "gaussian", "near identity", "series border", "near pi"]


def poses(kind: str, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    v = torch.randn(NUM, 3, generator=generator, dtype=torch.float64)
    if kind == "near identity":
        v = v * 1e-7
    return se3_exp(torch.cat([v, omegas(kind, generator)], dim=-1).to(dtype))


def close(a: Tensor, b: Tensor, dtype: torch.dtype, factor: float = 1.0) -> None:
    torch.testing.assert_close(a, b, rtol=factor * tolerance(dtype), atol=factor * tolerance(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_rigid_motions_form_a_group(kind: str, dtype: torch.dtype, generator: torch.Generator) -> None:
    a, b, c = (poses(kind, dtype, generator) for _ in range(3))
    identity = torch.eye(4, dtype=dtype).expand_as(a)
    close(a @ se3_inverse(a), identity, dtype)
    close(se3_inverse(a) @ a, identity, dtype)
    close(se3_inverse(se3_inverse(a)), a, dtype)
    close((a @ b) @ c, a @ (b @ c), dtype, factor=4)
    close(se3_inverse(a @ b), se3_inverse(b) @ se3_inverse(a), dtype, factor=4)
    rotation = a[:, :3, :3]
    close(rotation @ rotation.transpose(-1, -2), torch.eye(3, dtype=dtype).expand_as(rotation), dtype)
    close(torch.linalg.det(rotation), torch.ones(NUM, dtype=dtype), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_log_inverts_exp(kind: str, dtype: torch.dtype, generator: torch.Generator) -> None:
    v = torch.randn(NUM, 3, generator=generator, dtype=torch.float64)
    xi = torch.cat([v, omegas(kind, generator)], dim=-1).to(dtype)
    close(se3_log(se3_exp(xi)), xi, dtype, factor=10)
    close(so3_log(so3_exp(xi[:, 3:])), xi[:, 3:], dtype, factor=10)
    close(se3_exp(-xi), se3_inverse(se3_exp(xi)), dtype, factor=2)


def test_log_keeps_the_digits_of_tiny_motions(generator: torch.Generator) -> None:
    """Relative, not absolute, accuracy: trajectories are built from small tangents."""
    for dtype in DTYPES:
        xi = (1e-6 * torch.randn(NUM, 6, generator=generator, dtype=torch.float64)).to(dtype)
        error = (se3_log(se3_exp(xi)) - xi).norm(dim=-1) / xi.norm(dim=-1)
        assert error.max() < 4 * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_rotations_agree_with_roma(kind: str, dtype: torch.dtype, generator: torch.Generator) -> None:
    omega = omegas(kind, generator)
    truth = roma.rotvec_to_rotmat(omega)
    close(so3_exp(omega.to(dtype)), truth.to(dtype), dtype)
    ours = so3_log(truth.to(dtype))
    theirs = roma.rotmat_to_rotvec(truth).to(dtype)
    close(ours, theirs, dtype, factor=10)


def test_exp_agrees_with_the_matrix_exponential(generator: torch.Generator) -> None:
    """The definition itself: exp of the 4x4 generator [[hat(omega), v], [0, 0]]."""
    for kind in KINDS:
        v = torch.randn(NUM, 3, generator=generator, dtype=torch.float64)
        omega = omegas(kind, generator)
        algebra = torch.zeros(NUM, 4, 4, dtype=torch.float64)
        algebra[:, :3, :3], algebra[:, :3, 3] = hat(omega), v
        close(
            se3_exp(torch.cat([v, omega], dim=-1)), torch.linalg.matrix_exp(algebra), torch.float64, factor=4
        )


def test_half_turns_have_a_log_of_length_pi(generator: torch.Generator) -> None:
    axis = directions(generator)
    for dtype in DTYPES:
        rotation = (2.0 * axis[:, :, None] * axis[:, None, :] - torch.eye(3, dtype=torch.float64)).to(dtype)
        omega = so3_log(rotation)
        close(omega.norm(dim=-1), torch.full((NUM,), math.pi, dtype=dtype), dtype)
        close(so3_exp(omega), rotation, dtype, factor=4)


def test_adjoint_moves_tangents_across_a_pose(generator: torch.Generator) -> None:
    pose = poses("gaussian", torch.float64, generator)
    xi = torch.randn(NUM, 6, generator=generator, dtype=torch.float64) * 0.3
    moved = (se3_adjoint(pose) @ xi[..., None])[..., 0]
    close(se3_exp(moved), pose @ se3_exp(xi) @ se3_inverse(pose), torch.float64, factor=10)


def test_left_jacobian_is_the_derivative_of_exp(generator: torch.Generator) -> None:
    for omega in omegas("gaussian", generator)[:8]:
        jacobian = torch.func.jacrev(so3_exp)(omega)  # [3,3,3]
        # d exp / d omega_k = hat(J_l e_k) exp(omega).
        columns = torch.stack([vee(jacobian[..., k] @ so3_exp(omega).T) for k in range(3)], dim=-1)
        close(columns, so3_left_jacobian(omega), torch.float64, factor=10)


def test_left_jacobian_of_rigid_motions_is_the_derivative_of_exp(generator: torch.Generator) -> None:
    xi = 0.3 * torch.randn(NUM, 6, generator=generator, dtype=torch.float64)
    jacobian, eps = se3_left_jacobian(xi), 1e-5
    for k in range(6):
        step = torch.zeros(6, dtype=torch.float64)
        step[k] = eps
        numeric = (
            se3_log(se3_exp(xi + step) @ se3_exp(-xi)) - se3_log(se3_exp(xi - step) @ se3_exp(-xi))
        ) / (2 * eps)
        assert torch.allclose(jacobian[..., k], numeric, atol=1e-8)


def test_hat_and_vee(generator: torch.Generator) -> None:
    a, b = torch.randn(2, NUM, 3, generator=generator, dtype=torch.float64)
    close((hat(a) @ b[..., None])[..., 0], torch.linalg.cross(a, b), torch.float64)
    assert torch.equal(vee(hat(a)), a)


POINTS = {
    "identity": torch.zeros(6, dtype=torch.float64),
    "tiny": torch.tensor([0.3, -0.2, 1.0, 1e-9, -2e-9, 1e-9], dtype=torch.float64),
    "ordinary": torch.tensor([0.3, -0.2, 1.0, 0.7, -1.1, 0.4], dtype=torch.float64),
    "nearly pi": torch.tensor([0.3, -0.2, 1.0, 1.8, -1.8, 1.8], dtype=torch.float64),
}


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize(
    "function",
    [
        se3_exp,
        lambda xi: so3_exp(xi[3:]),
        lambda xi: se3_log(se3_exp(xi)),
        lambda xi: se3_log(se3_exp(xi) @ se3_exp(xi * 0.1 + 0.01)),
        lambda xi: se3_inverse(se3_exp(xi)),
        lambda xi: se3_adjoint(se3_exp(xi)),
    ],
    ids=["se3_exp", "so3_exp", "log exp", "log of product", "inverse", "adjoint"],
)
def test_gradients_agree_with_finite_differences(point: str, function: Callable[[Tensor], Tensor]) -> None:
    assert torch.autograd.gradcheck(function, POINTS[point].clone().requires_grad_(True))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-20, 1e-7, 0.5, math.pi, 6.2])
def test_gradients_are_finite_everywhere(size: float, dtype: torch.dtype) -> None:
    xi = torch.tensor([0.1, 0.2, 0.3, 0.0, size, 0.0], dtype=dtype, requires_grad=True)
    (gradient,) = torch.autograd.grad(se3_log(se3_exp(xi)).sum() + se3_exp(xi).sum(), xi)
    assert gradient.isfinite().all()


def test_the_derivative_at_identity_is_the_identity() -> None:
    jacobian = torch.func.jacrev(lambda xi: se3_log(se3_exp(xi)))(torch.zeros(6, dtype=torch.float64))
    close(jacobian, torch.eye(6, dtype=torch.float64), torch.float64)
