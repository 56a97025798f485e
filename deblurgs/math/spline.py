"""Bases of the curves that trajectories are made of: value(u) = sum_k basis_k(u) * knot_k, u in [0,1].

The rows of every basis sum to one, so adding a constant to all knots adds it to the curve, and every curve
starts at its first knot (u = 0) and ends at its last one (u = 1).
- `linear`: straight pieces between evenly spaced knots.
- `bezier`: one polynomial of degree K-1 in Bernstein form. Any number of knots, but far knots act on all of
  the curve.
- `cubic`: uniform cubic B-spline with knots evenly spaced in u. Beyond each end stands a phantom knot, the
  linear extrapolation of the last two, which makes the curve meet its end knots with zero curvature and works
  for every K >= 2 (K = 2 is a straight line). Evenly spaced knots give constant speed, which an open knot
  vector would not.
References: Farin, "Curves and Surfaces for CAGD", 5th ed., sections 5.1 (Bernstein) and 8.7 (B-splines).
"""

from typing import Literal, get_args

import torch
from torch import Tensor

SplineKind = Literal["linear", "bezier", "cubic"]


def basis(kind: str, num_knots: int, u: Tensor) -> Tensor:
    """Weights of the knots, u [...] -> [...,K].

    Differentiable in u. Raises ValueError for an unknown kind, fewer than two knots, or u (on the CPU) outside [0,1].
    """
    _check(kind, num_knots, u)
    if kind == "bezier":
        return _bernstein(num_knots - 1, u)
    if kind == "linear":
        return (1.0 - _offsets(num_knots, u, padding=0).abs()).clamp(min=0.0)
    offset = _offsets(num_knots, u, padding=1).abs()
    inner = 2.0 / 3.0 - offset.square() + 0.5 * offset.pow(3)
    outer = (2.0 - offset).clamp(min=0.0).pow(3) / 6.0
    return _fold_phantoms(torch.where(offset < 1.0, inner, outer))


def basis_derivative(kind: str, num_knots: int, u: Tensor) -> Tensor:
    """d basis / du, [...] -> [...,K]; rows sum to zero. At a corner of `linear` the piece to the right is
    meant (the last piece at u = 1). Raises as `basis` does."""
    _check(kind, num_knots, u)
    pieces = num_knots - 1
    if kind == "bezier":
        lower = torch.nn.functional.pad(_bernstein(pieces - 1, u), (1, 1))  # [...,K+1]
        return pieces * (lower[..., :-1] - lower[..., 1:])
    if kind == "linear":
        piece = (u * pieces).floor().clamp(max=pieces - 1).long()[..., None]
        rows = torch.zeros(*u.shape, num_knots, dtype=u.dtype, device=u.device)
        slope = torch.full_like(piece, pieces, dtype=u.dtype)
        return rows.scatter(-1, piece, -slope).scatter(-1, piece + 1, slope)
    offset = _offsets(num_knots, u, padding=1)
    distance = offset.abs()
    inner = offset * (1.5 * distance - 2.0)
    outer = -0.5 * offset.sign() * (2.0 - distance).clamp(min=0.0).square()
    return pieces * _fold_phantoms(torch.where(distance < 1.0, inner, outer))


def _check(kind: str, num_knots: int, u: Tensor) -> None:
    if kind not in get_args(SplineKind):
        raise ValueError(f"kind must be one of {', '.join(get_args(SplineKind))}, got {kind!r}")
    if num_knots < 2:
        raise ValueError(f"a {kind} spline needs at least 2 knots, got {num_knots}")
    # Values on a GPU are not looked at: it would have to be waited for.
    if u.device.type == "cpu" and not bool(((u >= 0) & (u <= 1)).all()):
        raise ValueError("u must lie in [0, 1], the start and end of the exposure")


def _offsets(num_knots: int, u: Tensor, padding: int) -> Tensor:
    """Signed distance of u to the knots in units of their spacing, [...,K + 2 padding]."""
    knot_idx = torch.arange(-padding, num_knots + padding, dtype=u.dtype, device=u.device)
    return u[..., None] * (num_knots - 1) - knot_idx


def _fold_phantoms(extended: Tensor) -> Tensor:
    """Hand the weights of both phantom knots to the knots they are extrapolated from, [...,K+2] -> [...,K].

    phantom = 2 * end - neighbour, so the end gains twice the phantom's weight and its neighbour loses it
    once.
    """
    rows = extended[..., 1:-1]
    first, last = extended[..., :1], extended[..., -1:]
    zeros = torch.zeros_like(rows[..., 2:])
    from_first = torch.cat([2.0 * first, -first, zeros], dim=-1)
    from_last = torch.cat([zeros, -last, 2.0 * last], dim=-1)
    return rows + from_first + from_last


def _bernstein(degree: int, u: Tensor) -> Tensor:
    """B_k(u) = C(n,k) u^k (1-u)^(n-k), [...] -> [...,n+1]."""
    k = torch.arange(degree + 1, dtype=u.dtype, device=u.device)
    # C(n,k) = C(n,k-1) (n-k+1) / k; numbers from the host would make a GPU wait.
    binomial = torch.cat([k.new_ones(1), ((degree + 1 - k[1:]) / k[1:]).cumprod(0)]).round()
    return binomial * u[..., None].pow(k) * (1.0 - u[..., None]).pow(degree - k)
