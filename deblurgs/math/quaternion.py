"""Unit quaternions in wxyz order (Hamilton product, right-handed, active rotation of column vectors).

pycolmap, roma and scipy use xyzw; the two converters at the end are the only place where the order changes.
"""

import torch
from torch import Tensor


def normalize(wxyz: Tensor) -> Tensor:
    """[...,4] -> unit length. A zero quaternion becomes the identity with zero gradient instead of NaN."""
    squared = (wxyz * wxyz).sum(-1, keepdim=True)
    is_zero = squared == 0
    # Double where: the square root must not see zero in the branch that is thrown away, or its infinite slope
    # multiplied by the zero of the outer where gives a NaN gradient.
    unit = wxyz / torch.where(is_zero, torch.ones_like(squared), squared).sqrt()
    identity = torch.zeros_like(wxyz)
    identity[..., 0] = 1.0
    return torch.where(is_zero, identity, unit)


def to_matrix(wxyz: Tensor) -> Tensor:
    """Rotation matrix of *unit* quaternions, [...,4] -> [...,3,3]."""
    w, x, y, z = wxyz.unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def from_matrix(rotation: Tensor) -> Tensor:
    """Unit quaternion with w >= 0 of a rotation matrix, [...,3,3] -> [...,4].

    Of the four equivalent formulas the one with the largest component is used (Shepperd, 1978), which is
    accurate for every rotation including half turns; the other three see a safe number, so gradients stay
    finite.
    """
    m = rotation
    m00, m11, m22 = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    # Four times the square of w, x, y, z.
    squares = torch.stack(
        [1 + m00 + m11 + m22, 1 + m00 - m11 - m22, 1 - m00 + m11 - m22, 1 - m00 - m11 + m22], dim=-1
    )
    a, b, c = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    d, e, f = m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 2, 1] + m[..., 1, 2]
    # Row i is 4 q_i (w, x, y, z): exact, and long exactly where q_i is large.
    outer = torch.stack(
        [
            torch.stack([squares[..., 0], a, b, c], -1),
            torch.stack([a, squares[..., 1], d, e], -1),
            torch.stack([b, d, squares[..., 2], f], -1),
            torch.stack([c, e, f, squares[..., 3]], -1),
        ],
        dim=-2,
    )  # [...,4,4]
    best = squares.argmax(-1)[..., None, None].expand(*squares.shape[:-1], 1, 4)
    wxyz = normalize(outer.gather(-2, best).squeeze(-2))
    return torch.where(wxyz[..., :1] < 0, -wxyz, wxyz)


def multiply(first: Tensor, second: Tensor) -> Tensor:
    """Hamilton product, [...,4] x [...,4] -> [...,4]; to_matrix(multiply(a, b)) = to_matrix(a) @
    to_matrix(b)."""
    aw, ax, ay, az = first.unbind(-1)
    bw, bx, by, bz = second.unbind(-1)
    return torch.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        dim=-1,
    )


def conjugate(wxyz: Tensor) -> Tensor:
    """Inverse of a unit quaternion, [...,4] -> [...,4]."""
    return torch.cat([wxyz[..., :1], -wxyz[..., 1:]], dim=-1)


def slerp(start: Tensor, end: Tensor, u: Tensor) -> Tensor:
    """Constant-speed interpolation along the shorter arc between unit quaternions.

    start, end [...,4]; u [...] in [0,1]. Returns unit [...,4]. (Shoemake, "Animating rotation with quaternion
    curves", 1985.) Nearly equal ends fall back to normalised linear interpolation, whose error there is of
    third order.
    """
    cosine = (start * end).sum(-1)
    end = torch.where(cosine[..., None] < 0, -end, end)
    # Half the chord gives the angle without the loss of digits that acos has near 1.
    half_chord = 0.5 * (end - start).square().sum(-1)
    near = half_chord < 1e-8
    safe_cosine = torch.where(near, torch.zeros_like(cosine), cosine.abs().clamp(max=1.0 - 1e-9))
    angle = torch.acos(safe_cosine)
    sine = torch.sin(angle)
    weight_start = torch.where(near, 1 - u, torch.sin((1 - u) * angle) / sine)
    weight_end = torch.where(near, u, torch.sin(u * angle) / sine)
    return normalize(weight_start[..., None] * start + weight_end[..., None] * end)


def wxyz_from_xyzw(xyzw: Tensor) -> Tensor:
    """[...,4] scalar-last (pycolmap, roma, scipy) -> scalar-first."""
    return xyzw[..., [3, 0, 1, 2]]


def xyzw_from_wxyz(wxyz: Tensor) -> Tensor:
    """[...,4] scalar-first -> scalar-last (pycolmap, roma, scipy)."""
    return wxyz[..., [1, 2, 3, 0]]
