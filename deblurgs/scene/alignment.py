"""The similarity between two world frames from matched points, camera poses, or what the cameras see."""

import numpy as np
from numpy.typing import NDArray

from deblurgs.scene.transform import Float64, Similarity

# Camera centres count as one point, and leave the scale unknown, when they spread by less than this share of
# their distance from the origin: only rounding is left.
_COINCIDENT = 1e-9
_ALIGN_STEPS = 30
_SLIDE_STEPS = 10
_UNIFORM_VARIANCE = 1.0 / 12.0


def umeyama(
    src: NDArray[np.floating], dst: NDArray[np.floating], weights: NDArray | None = None
) -> Similarity:
    """dst_from_src, the least-squares similarity between matched points [P,3]; optional weights [P] >= 0.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns", 1991, eq.
    39-43. Collinear points leave the turn about their line undetermined (some proper rotation is returned).
    Raises ValueError for mismatched shapes, no points, non-finite numbers, or sources that all coincide.
    """
    src, dst, weights = _checked(src, dst, weights)
    src_centre, dst_centre, src_local, dst_local = _centred(src, dst, weights)
    spread = float((weights * (src_local**2).sum(-1)).sum())
    if spread <= (_COINCIDENT * np.abs(src).max()) ** 2:
        raise ValueError("all source points coincide, so the scale of the similarity is undetermined")
    covariance = (weights[:, None] * dst_local).T @ src_local
    rotation = _nearest_rotation(covariance)
    scale = float(np.trace(rotation.T @ covariance)) / spread
    if scale <= 0:
        raise ValueError("no similarity with positive scale relates the points (targets coincide?)")
    return Similarity(scale, rotation, dst_centre - scale * rotation @ src_centre)


def align_poses(
    camera_from_world_src: NDArray[np.floating], camera_from_world_dst: NDArray[np.floating]
) -> Similarity:
    """dst_from_src between the worlds of matched camera poses [F,4,4] (numpy, or torch on the CPU).

    The rotation is the one that best maps both the camera centres (in units of their spread) and the cameras'
    axes, one Procrustes problem: centres on a line or in a point, where `umeyama` is blind, are then settled
    by the axes. Scale and translation come from the centres by least squares; coincident centres give scale
    1. Raises ValueError for mismatched shapes, no poses or non-finite numbers.
    """
    src_poses = np.asarray(camera_from_world_src, dtype=np.float64)
    dst_poses = np.asarray(camera_from_world_dst, dtype=np.float64)
    if src_poses.ndim != 3 or src_poses.shape[1:] != (4, 4) or src_poses.shape != dst_poses.shape:
        raise ValueError(f"two pose lists [F,4,4] expected, got {src_poses.shape} and {dst_poses.shape}")
    src_axes, dst_axes = src_poses[:, :3, :3], dst_poses[:, :3, :3]  # rows: camera axes in the world
    src, dst, weights = _checked(_centres(src_poses), _centres(dst_poses), None)
    src_centre, dst_centre, src_local, dst_local = _centred(src, dst, weights)
    src_spread = np.sqrt((weights * (src_local**2).sum(-1)).sum())
    dst_spread = np.sqrt((weights * (dst_local**2).sum(-1)).sum())
    # Mean over the cameras of R_dst^T R_src, which is dst_from_src for each of them if the poses agree
    # exactly.
    votes = np.einsum("f,fij,fik->jk", weights, dst_axes, src_axes)
    coincident = (
        src_spread <= _COINCIDENT * (1e-300 + np.abs(src).max())
        or dst_spread <= _COINCIDENT * (1e-300 + np.abs(dst).max())
    )  # fmt: skip
    if coincident:
        rotation, scale = _nearest_rotation(votes), 1.0
    else:
        covariance = (weights[:, None] * dst_local).T @ src_local
        rotation = _nearest_rotation(votes + covariance / (src_spread * dst_spread))
        scale = float(np.trace(rotation.T @ covariance)) / float(src_spread) ** 2
        if scale <= 0:
            # The centres contradict the axes; the ratio of the spreads is then the only sane estimate.
            scale = float(dst_spread / src_spread)
    return Similarity(scale, rotation, dst_centre - scale * rotation @ src_centre)


def align_views(
    camera_from_world_src: NDArray[np.floating],
    camera_from_world_dst: NDArray[np.floating],
    depths_src: NDArray[np.floating],
    half_extents: NDArray[np.floating],
    noise: NDArray[np.floating] | None = None,
    start: Similarity | None = None,
) -> Similarity:
    """dst_from_src between the worlds of matched camera poses [F,4,4], such that the cameras see the same picture.

    What counts is where image points land, not where camera centres are: when all cameras look the same way, a noisy
    centre turns the world by degrees although the pictures fix it to a hundredth of that. Points on a grid over each
    source picture, at half, once and twice `depths_src` [F] (world units of the source), are carried by the similarity
    and seen by the destination camera; their displacements, in units of the focal length, are minimised by
    Gauss-Newton with Cauchy weights, so that single lost cameras do not count. `half_extents` [F,2]: half the width
    and height of each picture over its focal length. `noise` [F] > 0: how far off each camera's picture is expected to
    be, in any common unit; all alike without it. Without `start` it begins with `align_poses`, whose errors it raises
    too.
    """
    start = start or align_poses(camera_from_world_src, camera_from_world_dst)
    src = np.asarray(camera_from_world_src, np.float64)
    dst = np.asarray(camera_from_world_dst, np.float64)
    expected = (np.ones(len(src)) if noise is None else np.asarray(noise, np.float64))[:, None]
    seen = _grid_points(np.asarray(depths_src, np.float64), np.asarray(half_extents, np.float64))  # [F,G,3]
    world = np.einsum("fji,fgj->fgi", src[:, :3, :3], seen - src[:, None, :3, 3])
    target = seen[..., :2] / seen[..., 2:]
    found = start
    for _ in range(_ALIGN_STEPS):
        moved = found.apply_points(world)
        local = np.einsum("fij,fgj->fgi", dst[:, :3, :3], moved) + dst[:, None, :3, 3]
        # A point behind the camera has no picture; it comes back when the others have pulled the similarity there.
        usable = local[..., 2] > 1e-3 * seen[..., 2]
        if not usable.any():
            return start
        depth = np.where(usable, local[..., 2], 1.0)
        residual = np.where(usable[..., None], local[..., :2] / depth[..., None] - target, 0.0)
        size = np.linalg.norm(residual, axis=-1) / expected
        scale = max(float(np.median(size[usable])), 1e-12)
        weight = np.where(usable, 1.0 / (1.0 + (size / scale) ** 2), 0.0) / expected**2
        step = _aligning_step(moved, local, depth, residual, weight, dst[:, :3, :3])
        found = step @ found
        if abs(step.scale - 1.0) + np.abs(step.rotation - np.eye(3)).max() < 1e-10:
            break
    return found


def align_to_paths(
    camera_from_world_src: NDArray[np.floating],
    paths: NDArray[np.floating],
    depths_src: NDArray[np.floating],
    half_extents: NDArray[np.floating],
    noise: NDArray[np.floating],
) -> Similarity:
    """`align_views` where a source camera [F,4,4] was anywhere on a path through the destination world.

    paths [F,V,4,4]: camera_from_world at V even steps from the opening of the shutter to its closing. Structure from
    motion sees a blurred frame from one place on its path, and which one differs from frame to frame by more than it
    errs across the path. `align_views` and the choice of the likeliest place take turns: it is the one with the least
    sum of squares of what the pictures differ by, in units of `noise` [F] (a share of the focal length), and of the
    time from mid-exposure, in units of its standard deviation if all times are equally likely. Where all frames were
    seen near the same end, which chance does not do, a part of that is taken for drift.
    """
    src, paths = np.asarray(camera_from_world_src, np.float64), np.asarray(paths, np.float64)
    noise = np.asarray(noise, np.float64)
    seen = _grid_points(np.asarray(depths_src, np.float64), np.asarray(half_extents, np.float64))
    world = np.einsum("fji,fgj->fgi", src[:, :3, :3], seen - src[:, None, :3, 3])
    target = seen[:, None, :, :2] / seen[:, None, :, 2:]
    times = np.linspace(-0.5, 0.5, paths.shape[1]) if paths.shape[1] > 1 else np.zeros(1)
    frames = np.arange(len(src))
    place = np.full(len(src), paths.shape[1] // 2)
    found = align_views(src, paths[frames, place], depths_src, half_extents, noise)
    for _ in range(_SLIDE_STEPS):
        local = np.einsum("fvij,fgj->fvgi", paths[..., :3, :3], found.apply_points(world))
        local += paths[:, :, None, :3, 3]
        # Points that a camera would not see have no picture; far off is near enough to the truth.
        apart = local[..., :2] / np.maximum(local[..., 2:], 1e-3 * seen[:, None, :, 2:]) - target
        misfit = np.square(apart).sum(-1).mean(-1) / np.square(noise)[:, None]
        before, place = place, (misfit + np.square(times) / _UNIFORM_VARIANCE).argmin(axis=1)
        if (place == before).all():
            break
        found = align_views(src, paths[frames, place], depths_src, half_extents, noise, start=found)
    return found


def _grid_points(depths: Float64, half_extents: Float64) -> Float64:
    """Camera coordinates [F,27,3] of a 3x3 grid over each picture at three depths."""
    at = np.array([-0.8, 0.0, 0.8])
    x, y, z = np.meshgrid(at, at, np.array([0.5, 1.0, 2.0]), indexing="ij")
    rays = np.stack([x.ravel(), y.ravel(), np.ones(x.size)], axis=-1)  # [27,3]
    extents = np.concatenate([half_extents, np.ones((len(half_extents), 1))], axis=1)
    return rays * extents[:, None] * z.ravel()[:, None] * depths[:, None, None]


def _aligning_step(
    moved: Float64,
    local: Float64,
    depth: Float64,
    residual: Float64,
    weight: Float64,
    rotations: Float64,
) -> Similarity:
    """new_from_old of the destination world by one Gauss-Newton step over scale, turn, shift; moved, local [F,G,3]."""
    # The shift is counted at the points' mean, which keeps the seven unknowns apart.
    centre = moved.reshape(-1, 3).mean(axis=0)
    arm = moved - centre
    unit = max(float(np.sqrt((arm**2).sum(-1).mean())), 1e-12)
    zero = np.zeros_like(arm[..., 0])
    turn = np.stack(
        [
            np.stack([zero, arm[..., 2], -arm[..., 1]], axis=-1),
            np.stack([-arm[..., 2], zero, arm[..., 0]], axis=-1),
            np.stack([arm[..., 1], -arm[..., 0], zero], axis=-1),
        ],
        axis=-2,
    )  # d(omega x arm)/d(omega), [F,G,3,3]
    shift = np.broadcast_to(unit * np.eye(3), turn.shape)
    by_world = np.concatenate([arm[..., None], turn, shift], axis=-1)  # [F,G,3,7]
    by_local = np.einsum("fij,fgjk->fgik", rotations, by_world)
    jacobian = (
        by_local[..., :2, :] - (local[..., :2] / depth[..., None])[..., None] * by_local[..., 2:, :]
    ) / depth[..., None, None]
    normal = np.einsum("fg,fgik,fgil->kl", weight, jacobian, jacobian)
    right = -np.einsum("fg,fgik,fgi->k", weight, jacobian, residual)
    damping = 1e-9 * np.trace(normal) * np.eye(7)
    step = np.linalg.lstsq(normal + damping, right, rcond=None)[0]
    step[:4] = np.clip(step[:4], -0.3, 0.3)
    growth, rotation = float(np.exp(step[0])), _rotation(step[1:4])
    return Similarity(growth, rotation, centre + unit * step[4:] - growth * rotation @ centre)


def _rotation(omega: Float64) -> Float64:
    """exp of a rotation vector [3]."""
    angle = float(np.linalg.norm(omega))
    x, y, z = omega
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return (
        np.eye(3) + np.sinc(angle / np.pi) * cross + 0.5 * np.sinc(angle / (2 * np.pi)) ** 2 * (cross @ cross)
    )


def _centres(camera_from_world: Float64) -> Float64:
    """Camera centres in the world, [F,4,4] -> [F,3]: -R^T t."""
    return -np.einsum("fij,fi->fj", camera_from_world[:, :3, :3], camera_from_world[:, :3, 3])


def _checked(src: NDArray, dst: NDArray, weights: NDArray | None) -> tuple[Float64, Float64, Float64]:
    """Points as float64 [P,3] and weights [P] that sum to one."""
    src, dst = np.asarray(src, dtype=np.float64), np.asarray(dst, dtype=np.float64)
    weights = np.ones(len(src)) if weights is None else np.asarray(weights, dtype=np.float64)
    if src.ndim != 2 or src.shape[1] != 3 or dst.shape != src.shape or weights.shape != src.shape[:1]:
        raise ValueError(
            f"matched [P,3] and weights [P] expected, got {src.shape}, {dst.shape}, {weights.shape}"
        )
    if not all(np.isfinite(values).all() for values in (src, dst, weights)):
        raise ValueError("points, poses and weights must be finite")
    if (weights < 0).any() or weights.sum() <= 0:
        raise ValueError("at least one point or pose of positive weight is needed, and no negative weight")
    return src, dst, weights / weights.sum()


def _centred(src: Float64, dst: Float64, weights: Float64) -> tuple[Float64, Float64, Float64, Float64]:
    src_centre, dst_centre = weights @ src, weights @ dst
    return src_centre, dst_centre, src - src_centre, dst - dst_centre


def _nearest_rotation(matrix: Float64) -> Float64:
    """The proper rotation R that maximises trace(R^T matrix) (orthogonal Procrustes with positive
    determinant)."""
    u, _, vt = np.linalg.svd(matrix)
    sign = np.ones(3)
    sign[2] = np.sign(np.linalg.det(u @ vt))
    return (u * sign) @ vt
