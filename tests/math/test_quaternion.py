import math

import pytest
import roma
import torch
from torch import Tensor

from deblurgs.math import quaternion
from deblurgs.math.lie import so3_exp


def random_unit(generator: torch.Generator, num: int = 64) -> Tensor:
    return quaternion.normalize(torch.randn(num, 4, generator=generator, dtype=torch.float64))


def test_matrices_agree_with_roma_through_the_named_converters(generator: torch.Generator) -> None:
    wxyz = random_unit(generator)
    theirs = roma.unitquat_to_rotmat(quaternion.xyzw_from_wxyz(wxyz))
    torch.testing.assert_close(quaternion.to_matrix(wxyz), theirs, rtol=0, atol=1e-14)
    back = quaternion.wxyz_from_xyzw(roma.rotmat_to_unitquat(theirs))
    torch.testing.assert_close(back * back[:, :1].sign(), wxyz * wxyz[:, :1].sign(), rtol=0, atol=1e-14)


def test_from_matrix_inverts_to_matrix_on_all_four_branches(generator: torch.Generator) -> None:
    axes = torch.eye(3, dtype=torch.float64)
    half_turns = torch.cat([torch.zeros(3, 1, dtype=torch.float64), axes], dim=1)
    wxyz = torch.cat([random_unit(generator), torch.tensor([[1.0, 0, 0, 0]]).double(), half_turns])
    back = quaternion.from_matrix(quaternion.to_matrix(wxyz))
    assert (back[:, 0] >= 0).all()
    torch.testing.assert_close((back * wxyz).sum(-1).abs(), torch.ones(len(wxyz), dtype=torch.float64))
    best = quaternion.to_matrix(wxyz).diagonal(dim1=-2, dim2=-1)
    assert (best.sum(-1) < -0.9).any() and (best.sum(-1) > 2.9).any()


def test_product_is_the_product_of_matrices_and_conjugate_its_inverse(generator: torch.Generator) -> None:
    a, b = random_unit(generator), random_unit(generator)
    product = quaternion.to_matrix(quaternion.multiply(a, b))
    torch.testing.assert_close(product, quaternion.to_matrix(a) @ quaternion.to_matrix(b))
    identity = quaternion.multiply(a, quaternion.conjugate(a))
    torch.testing.assert_close(identity, torch.tensor([1.0, 0, 0, 0]).double().expand_as(a))


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 0.7, 3.0])
def test_slerp_turns_at_constant_speed(angle: float) -> None:
    axis = torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64)
    start = quaternion.from_matrix(so3_exp(0.4 * axis))
    end = quaternion.from_matrix(so3_exp((0.4 + angle) * axis))
    for u in (0.0, 0.25, 0.5, 1.0):
        for sign in (1.0, -1.0):  # The same rotation with the other sign must not take the long way round.
            between = quaternion.slerp(start, sign * end, torch.tensor(u, dtype=torch.float64))
            expected = so3_exp((0.4 + u * angle) * axis)
            torch.testing.assert_close(quaternion.to_matrix(between), expected, rtol=0, atol=1e-12)


def test_gradients(generator: torch.Generator) -> None:
    raw = torch.randn(6, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    other = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    u = torch.linspace(0, 1, 6, dtype=torch.float64)
    normalize = quaternion.normalize
    assert torch.autograd.gradcheck(lambda q: quaternion.to_matrix(normalize(q)), raw)
    assert torch.autograd.gradcheck(lambda q: quaternion.slerp(normalize(q), normalize(other), u), raw)
    assert torch.autograd.gradcheck(lambda q: quaternion.from_matrix(quaternion.to_matrix(normalize(q))), raw)


def test_zero_and_equal_quaternions_have_finite_gradients() -> None:
    zero = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    quaternion.normalize(zero).sum().backward()
    assert zero.grad is not None and torch.equal(zero.grad, torch.zeros(4, dtype=torch.float64))
    same = torch.tensor([math.sqrt(0.5), 0.0, math.sqrt(0.5), 0.0], dtype=torch.float64, requires_grad=True)
    middle = quaternion.slerp(same, same.detach(), torch.tensor(0.5, dtype=torch.float64))
    middle.sum().backward()
    assert same.grad is not None and same.grad.isfinite().all()
