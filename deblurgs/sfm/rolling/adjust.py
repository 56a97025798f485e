"""Bundle adjustment of a rolling shutter: Levenberg-Marquardt with the points eliminated (Triggs et al., "Bundle
Adjustment - A Modern Synthesis", 2000, sections 6 and 10).

The robust loss is Huber's, by iteratively reweighted least squares. The gauge stays free: damping holds it, and the
caller chooses a world afterwards.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from deblurgs.sfm.rolling.path import Window
from deblurgs.sfm.rolling.problem import SHARED, Estimate, Sightings, linearised, residuals

# Mean and standard deviation of the readout in frame intervals. It counts like one observation of a pixel, so data that
# say anything at all outweigh it.
_READOUT_PRIOR = (0.4, 0.5)
# Damping, relative to the diagonal: at the start, and where a solution is given up.
_FIRST_DAMPING, _MOST_DAMPING, _LEAST_DAMPING = 1e-3, 1e8, 1e-9


@dataclass(frozen=True)
class Problem:
    """huber_px: residuals beyond count linearly. free [3]: which of the shared numbers are estimated."""

    windows: list[Window]
    seen: Sightings
    huber_px: float
    free: tuple[bool, bool, bool] = (True, False, True)

    def cost(self, at: Estimate) -> float:
        """Half the sum of squares, robust, with the prior."""
        length = residuals(at, self.windows, self.seen).norm(dim=1)
        h = self.huber_px
        robust = torch.where(length <= h, 0.5 * length.square(), h * (length - 0.5 * h)).sum()
        mean, deviation = _READOUT_PRIOR
        prior = ((at.readout - mean) / deviation) ** 2
        return float(robust + 0.5 * prior)


@dataclass
class _Normal:
    """Normal equations: cameras [C,C] and [C], points [P,3,3] and [P,3], and what couples them [P,3,C]."""

    cameras: Tensor
    camera_side: Tensor
    points: Tensor
    point_side: Tensor
    coupling: Tensor


def adjusted(problem: Problem, start: Estimate, *, steps: int, tolerance: float) -> tuple[Estimate, float]:
    """The estimate after at most `steps` successful steps, and its cost; ends when one gains less than `tolerance` of
    the cost."""
    at, cost, damping, growth = start, problem.cost(start), _FIRST_DAMPING, 2.0
    for _ in range(steps):
        normal = _normal_equations(problem, at)
        while True:
            trial, expected = _step(problem, normal, at, damping)
            new = problem.cost(trial) if trial is not None else float("inf")
            if trial is not None and new < cost:
                break
            damping, growth = damping * growth, 2 * growth
            if damping > _MOST_DAMPING:
                return at, cost
        # Nielsen's rule: the better the prediction was, the less damping.
        ratio = min((cost - new) / max(expected, 1e-300), 1.0)
        damping = max(damping * max(1 / 3, 1 - (2 * ratio - 1) ** 3), _LEAST_DAMPING)
        growth = 2.0
        gained, at, cost = (cost - new) / max(cost, 1e-300), trial, new
        if gained < tolerance:
            break
    return at, cost


def refit_points(problem: Problem, start: Estimate, *, steps: int = 8) -> Estimate:
    """The same cameras with every point moved to where its own sightings want it."""
    at = start
    zero_frames = torch.zeros(len(at.poses), 6, dtype=torch.float64)
    zero_shared = torch.zeros(SHARED, dtype=torch.float64)
    damping = torch.full((len(at.points),), _FIRST_DAMPING, dtype=torch.float64)
    cost = _point_costs(problem, at)
    for _ in range(steps):
        normal = _normal_equations(problem, at, only_points=True)
        diagonal = normal.points.diagonal(dim1=1, dim2=2)
        damped = normal.points + torch.diag_embed(damping[:, None] * diagonal + 1e-12)
        trial = at.moved(zero_frames, zero_shared, -torch.linalg.solve(damped, normal.point_side))
        new = _point_costs(problem, trial)
        better = new < cost
        at = at.moved(zero_frames, zero_shared, torch.where(better[:, None], trial.points - at.points, 0.0))
        cost = torch.where(better, new, cost)
        damping = torch.where(better, damping / 4, damping * 8)
    return at


def _point_costs(problem: Problem, at: Estimate) -> Tensor:
    length = residuals(at, problem.windows, problem.seen).norm(dim=1)
    h = problem.huber_px
    robust = torch.where(length <= h, 0.5 * length.square(), h * (length - 0.5 * h))
    return torch.zeros(len(at.points), dtype=torch.float64).index_add(0, problem.seen.point, robust)


def _normal_equations(problem: Problem, at: Estimate, *, only_points: bool = False) -> _Normal:
    count, size = len(at.points), 6 * len(at.poses) + SHARED
    zeros = lambda *shape: torch.zeros(*shape, dtype=torch.float64)  # noqa: E731
    normal = _Normal(
        zeros(size, size), zeros(size), zeros(count, 3, 3), zeros(count, 3),
        zeros(0) if only_points else zeros(count, 3, size),
    )  # fmt: skip
    rows = linearised(at, problem.windows, problem.seen)
    length = rows.residual.norm(dim=1)
    root = (problem.huber_px / length.clamp_min(problem.huber_px)).sqrt()[:, None, None]
    residual, by_point = rows.residual[..., None] * root, rows.by_point * root
    normal.points.index_add_(0, problem.seen.point, by_point.mT @ by_point)
    normal.point_side.index_add_(0, problem.seen.point, (by_point.mT @ residual)[..., 0])
    if only_points:
        return normal
    by_frame = rows.by_frame * root
    coupling = by_point.mT @ by_frame
    for frame, columns in enumerate(rows.columns):
        own = problem.seen.of(frame)
        flat = by_frame[own].flatten(0, 1)
        normal.cameras[columns[:, None], columns] += flat.T @ flat
        normal.camera_side[columns] += flat.T @ residual[own].flatten()
        # No frame sees a point twice, so plain indexing adds everything.
        normal.coupling[problem.seen.point[own][:, None, None], torch.arange(3)[:, None], columns] += (
            coupling[own]
        )
    mean, deviation = _READOUT_PRIOR
    normal.cameras[-1, -1] += deviation**-2
    normal.camera_side[-1] += (at.readout - mean) / deviation**2
    return normal


def _step(problem: Problem, normal: _Normal, at: Estimate, damping: float) -> tuple[Estimate | None, float]:
    """The damped step and the decrease that the linearised problem promises; None where it cannot be solved."""
    size = len(normal.camera_side)
    free = torch.cat(
        [torch.arange(size - SHARED), size - SHARED + torch.tensor(problem.free).nonzero()[:, 0]]
    )
    point_diagonal = damping * normal.points.diagonal(dim1=1, dim2=2) + 1e-12
    factor, failed = torch.linalg.cholesky_ex(normal.points + torch.diag_embed(point_diagonal))
    if bool(failed.any()):
        return None, 0.0
    half = torch.linalg.solve_triangular(factor, normal.coupling[..., free], upper=False)  # [P,3,C]
    side = torch.linalg.solve_triangular(factor, normal.point_side[..., None], upper=False)  # [P,3,1]
    flat, flat_side = half.flatten(0, 1), side.flatten()
    cameras = normal.cameras[free[:, None], free]
    camera_diagonal = damping * cameras.diagonal() + 1e-9
    reduced = cameras + torch.diag(camera_diagonal) - flat.T @ flat
    cholesky, failed = torch.linalg.cholesky_ex(reduced)
    if bool(failed):
        return None, 0.0
    camera_side = normal.camera_side[free]
    reduced_side = camera_side - flat.T @ flat_side
    solved = -torch.cholesky_solve(reduced_side[:, None], cholesky)[:, 0]
    move = torch.zeros(size, dtype=torch.float64)
    move[free] = solved
    behind = side + half @ solved[:, None]
    points = -torch.linalg.solve_triangular(factor.mT, behind, upper=True)[..., 0]
    expected = 0.5 * float(
        (solved * (camera_diagonal * solved - camera_side)).sum()
        + (points * (point_diagonal * points - normal.point_side)).sum()
    )
    return at.moved(move[:-SHARED].reshape(-1, 6), move[-SHARED:], points), expected
