"""The similarity between two world frames from matched points, camera poses, or what the cameras see."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from deblurgs.scene.transform import Float64, Similarity

# Camera centres count as one point, and leave the scale unknown, when they spread by less than this share of
# their distance from the origin: only rounding is left.
_COINCIDENT = 1e-9
_ALIGN_STEPS = 30
_ALIGNED = 1e-8
"""Of the scale, of an angle, and of an exposure's length."""
_UNIFORM_VARIANCE = 1.0 / 12.0
_LOST = 100.0
"""Times the median of all, in units of what is expected."""


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
    landmarks: NDArray[np.floating],
    noise: NDArray[np.floating] | None = None,
) -> Similarity:
    """dst_from_src between the worlds of matched camera poses [F,4,4], such that the cameras see the same picture.

    What counts is where image points land, not where camera centres are: when all cameras look the same way, a noisy
    centre turns the world by degrees although the pictures fix it to a hundredth of that. `landmarks` [F,G,3], points
    of the source world in front of each source camera, are carried by the similarity and seen by the destination
    camera; their displacements, in units of the focal length, are minimised by Gauss-Newton. Cameras are weighted as a
    whole, since what is wrong with a pose moves its whole picture, and single lost ones hardly count. The points that a
    camera was estimated from are best: errors of it that leave those in place are large, and mean nothing. `noise` [F]
    > 0: how far off each camera's picture is expected to be, in any common unit; all alike without it. Begins with
    `align_poses`, whose errors it raises too.
    """
    paths = np.asarray(camera_from_world_dst, np.float64)[:, None]
    noise = np.ones(len(paths)) if noise is None else noise
    return align_to_paths(camera_from_world_src, paths, landmarks, noise)


def align_to_paths(
    camera_from_world_src: NDArray[np.floating],
    paths: NDArray[np.floating],
    landmarks: NDArray[np.floating],
    noise: NDArray[np.floating],
) -> Similarity:
    """`align_views` where a source camera [F,4,4] was anywhere on a path through the destination world.

    paths [F,V,4,4]: camera_from_world at V even steps from the opening of the shutter to its closing. Structure from
    motion sees a blurred frame from one place on its path, and which one differs from frame to frame by more than it
    errs across the path. Times and similarity are found together: those with the least sum of squares of what the
    pictures differ by, in units of `noise` [F] (a share of the focal length), and of the times from mid-exposure, in
    units of their standard deviation if all times are equally likely. Where all frames were seen near the same end,
    which chance does not do, a part of that is taken for drift. Beyond its ends a path counts as straight.
    """
    src, on_paths = np.asarray(camera_from_world_src, np.float64), np.asarray(paths, np.float64)
    world, expected = np.asarray(landmarks, np.float64), np.asarray(noise, np.float64)
    middle = on_paths[:, on_paths.shape[1] // 2]
    found = _aligned(src, middle[:, None], world, expected, align_poses(src, middle), _by_point)
    kept = ~_lost(src, middle, world, expected, found)
    return _aligned(src[kept], on_paths[kept], world[kept], expected[kept], found, _by_camera)


Weights = Callable[[Float64, NDArray[np.bool_]], Float64]
"""How much residuals count: their sizes [F,G] in units of the noise and whether they exist, to weights [F,G]."""


def _by_point(size: Float64, usable: NDArray[np.bool_]) -> Float64:
    """Cauchy's: what is far off hardly counts, so that the way to the others is found from afar."""
    scale = max(float(np.median(size[usable])), 1e-12)
    return np.where(usable, 1.0 / (1.0 + (size / scale) ** 2), 0.0)


def _by_camera(size: Float64, usable: NDArray[np.bool_]) -> Float64:
    """Huber's, one for each camera: what is wrong with a pose moves its whole picture."""
    count = usable.sum(axis=1)
    whole = np.sqrt(np.where(usable, size**2, 0.0).sum(axis=1) / np.maximum(count, 1))
    scale = max(float(np.median(whole[count > 0])), 1e-12)
    return np.where(usable, 1.0 / np.maximum(whole / scale, 1.0)[:, None], 0.0)


def _lost(src: Float64, dst: Float64, world: Float64, noise: Float64, found: Similarity) -> NDArray[np.bool_]:
    """[F]: the cameras that are so far off that they are no noisy measurement of anything."""
    residual, usable, *_ = _residuals(src, dst, world, found)
    size = np.linalg.norm(residual, axis=-1) / noise[:, None]
    whole = np.array([np.median(s[u]) if u.any() else np.inf for s, u in zip(size, usable, strict=True)])
    return whole > _LOST * max(float(np.median(whole)), 1e-12)


def _residuals(
    src: Float64, poses: Float64, world: Float64, found: Similarity
) -> tuple[Float64, NDArray[np.bool_], Float64, Float64, Float64]:
    """Where points [F,G,3] are seen by the poses [F,4,4] less where they were seen, [F,G,2] in focal lengths; whether
    they are seen at all; their places in the destination world and in each camera, and their depths there.

    A point behind the camera has no picture; it comes back when the others have pulled the similarity there.
    """
    seen = _local(src, world)
    moved = np.asarray(found.apply_points(world), np.float64)
    local = _local(poses, moved)
    usable = local[..., 2] > 1e-3 * seen[..., 2]
    depth = np.where(usable, local[..., 2], 1.0)
    difference = local[..., :2] / depth[..., None] - seen[..., :2] / seen[..., 2:]
    return np.where(usable[..., None], difference, 0.0), usable, moved, local, depth


def _aligned(
    src: Float64, paths: Float64, world: Float64, noise: Float64, start: Similarity, weights: Weights
) -> Similarity:
    """`align_to_paths` by Gauss-Newton from `start` and mid-exposure."""
    found, times = start, np.zeros(len(src))
    for _ in range(_ALIGN_STEPS):
        poses, velocities = _on_paths(paths, times)
        residual, usable, moved, local, depth = _residuals(src, poses, world, found)
        if not usable.any():
            return start
        size = np.linalg.norm(residual, axis=-1) / noise[:, None]
        weight = weights(size, usable) / noise[:, None] ** 2 / world.shape[1]
        step, later = _aligning_step(
            moved, local, depth, residual, weight, poses, _local(velocities, moved), times
        )
        before, found, times = times, step @ found, np.clip(times + later, -0.5, 0.5)
        moved_by = abs(step.scale - 1.0) + np.abs(step.rotation - np.eye(3)).max()
        if moved_by + np.abs(times - before).max() < _ALIGNED:
            break
    return found


def _on_paths(paths: Float64, times: Float64) -> tuple[Float64, Float64]:
    """Poses [F,4,4] of paths [F,V,4,4] at times [F] from mid-exposure in exposures, and what they change by per unit of
    time. Between two places entries are interpolated, which for neighbours is a motion."""
    if paths.shape[1] == 1:
        return paths[:, 0], np.zeros_like(paths[:, 0])
    intervals, frames = paths.shape[1] - 1, np.arange(len(paths))
    at = (times + 0.5) * intervals
    place = np.minimum(at.astype(int), intervals - 1)
    begin, end = paths[frames, place], paths[frames, place + 1]
    return begin + (at - place)[:, None, None] * (end - begin), intervals * (end - begin)


def picture_grid(
    camera_from_world: NDArray[np.floating], depths: NDArray[np.floating], half_extents: NDArray[np.floating]
) -> Float64:
    """World points [F,9,3] on a 3x3 grid over each picture, at `depths` [F]: landmarks where no others are known.

    half_extents [F,2]: half the width and height of each picture over its focal length.
    """
    at = np.array([-0.8, 0.0, 0.8])
    x, y = np.meshgrid(at, at, indexing="ij")
    rays = np.stack([x.ravel(), y.ravel(), np.ones(x.size)], axis=-1)  # [9,3]
    extents = np.concatenate([half_extents, np.ones((len(half_extents), 1))], axis=1)
    seen = rays * extents[:, None] * np.asarray(depths, np.float64)[:, None, None]
    poses = np.asarray(camera_from_world, np.float64)
    return np.einsum("fji,fgj->fgi", poses[:, :3, :3], seen - poses[:, None, :3, 3])


def _local(camera_from_world: Float64, world: Float64) -> Float64:
    return np.einsum("fij,fgj->fgi", camera_from_world[:, :3, :3], world) + camera_from_world[:, None, :3, 3]


def _aligning_step(
    moved: Float64,
    local: Float64,
    depth: Float64,
    residual: Float64,
    weight: Float64,
    poses: Float64,
    velocity: Float64,
    times: Float64,
) -> tuple[Similarity, Float64]:
    """One Gauss-Newton step over scale, turn and shift of the destination world and the time of each frame.

    -> new_from_old, and by how much later each frame was seen [F]. moved, local [F,G,3]: the points in the world and in
    camera coordinates; velocity [F,G,3]: of the latter, per exposure.
    """
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
    by_local = np.einsum("fij,fgjk->fgik", poses[:, :3, :3], by_world)

    def in_picture(change: Float64) -> Float64:
        """What changes of the local coordinates [F,G,3,K] do to the picture [F,G,2,K]."""
        image = local[..., :2] / depth[..., None]
        return (change[..., :2, :] - image[..., None] * change[..., 2:, :]) / depth[..., None, None]

    jacobian, along = in_picture(by_local), in_picture(velocity[..., None])[..., 0]
    normal = np.einsum("fg,fgik,fgil->kl", weight, jacobian, jacobian)
    right = -np.einsum("fg,fgik,fgi->k", weight, jacobian, residual)
    # Each time stands in its own frame's residuals alone, so it is eliminated (Schur complement).
    mixed = np.einsum("fg,fgik,fgi->fk", weight, jacobian, along)
    by_time = np.einsum("fg,fgi,fgi->f", weight, along, along) + 1.0 / _UNIFORM_VARIANCE
    right_time = -np.einsum("fg,fgi,fgi->f", weight, along, residual) - times / _UNIFORM_VARIANCE
    normal -= np.einsum("fk,fl,f->kl", mixed, mixed, 1.0 / by_time)
    right -= np.einsum("fk,f->k", mixed, right_time / by_time)
    damping = 1e-9 * np.trace(normal) * np.eye(7)
    step = np.linalg.lstsq(normal + damping, right, rcond=None)[0]
    step[:4] = np.clip(step[:4], -0.3, 0.3)
    later = (right_time - mixed @ step) / by_time
    growth, rotation = float(np.exp(step[0])), _rotation(step[1:4])
    return Similarity(growth, rotation, centre + unit * step[4:] - growth * rotation @ centre), later


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
