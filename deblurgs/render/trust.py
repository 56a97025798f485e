"""Which part of a sharp frame is recovered from photos and which is a guess; one trust value per frame.

trust(pixel) = recovered(pixel) * agreement(pixel), and a frame's trust is the mean over its pixels.

- recovered, from `support.py`: the share of fine detail that some exposure has recorded.
- agreement: how well the model explains the photos that show the point, 1 / (1 + (r / TOLERATED_ERROR)^2) with r the
  root mean squared difference (display values) between a photo and its reblurred rendering there: 1 where they are
  alike, 1/2 where they differ by a clearly visible step. The frame's own photo must agree, and so must the others, as
  `support.py` weighs them.

Both are shares, so trust falls when either does, and is high only when both are: detail that no photo holds is a guess
however well the model fits, and so is a model that contradicts the photos, however sharp they are.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from deblurgs.render.render import reblurred_frame, rendered_view
from deblurgs.render.support import Exposures, Support, frame_support
from deblurgs.scene.camera import Camera
from deblurgs.scene.trajectory import path_length_px
from deblurgs.train.data import pyramid_level, scaled
from deblurgs.train.trained import TrainedScene

WORKING_SIDE_PX = 320
"""Longest side of the pictures that are compared; support is traced on a grid of every second pixel of them."""
PATH_SAMPLES = 9
TOLERATED_ERROR = 0.05
"""Difference in display values (13 of 255) at which agreement is one half."""
RELIABLE_TRUST = 0.5
OUTLIER_RATIO, OUTLIER_RESIDUAL = 3.0, 0.03
"""A frame is an outlier when its residual is above the second and above the first times the median of all frames."""

REASONS = {
    "unseen": "most of its fine detail was recorded sharply by no photo",
    "residual": "the model does not reproduce this photo or the others that show the same",
    "outlier": "the model reproduces this photo far worse than the others",
}


@dataclass(frozen=True)
class FrameTrust:
    """The self-check of one frame. Shares and trust in [0,1].

    trust: mean of the trust map. own, recovered, guessed: the map's shares, sum 1: sharp in the frame itself, recovered
    from other frames, and neither (or contradicted). support: share of fine detail recorded by any exposure, agreement
    aside. residual: rms difference of reblurred and observed frame in display values. path_px: longest path of an image
    point during the exposure, pixels of the input. sharper_views: how many other photos show a pixel less blurred,
    mean. reasons: words of REASONS; none means reliable.
    """

    name: str
    trust: float
    own: float
    recovered: float
    guessed: float
    support: float
    residual: float
    path_px: float
    sharper_views: float
    reasons: tuple[str, ...]

    @property
    def reliable(self) -> bool:
        return not self.reasons


@dataclass(frozen=True)
class TrustMaps:
    """own + recovered = trust, maps [h,w] in [0,1]; grey [H,W]: the sharp frame that they lie upon, encoded."""

    own: Tensor
    recovered: Tensor
    grey: Tensor

    @property
    def trust(self) -> Tensor:
        return self.own + self.recovered


@dataclass(frozen=True)
class TracedScene:
    """What `trace_scene` gathers about all frames before any of them can be judged."""

    exposures: Exposures
    grey: list[Tensor]
    residuals: list[float]
    paths_px: list[float]


@torch.no_grad()
def trace_scene(
    scene: TrainedScene, cameras: Sequence[Camera], observed: Callable[[int], Tensor]
) -> TracedScene:
    """Depth, residual and path of every frame. cameras: of the input; observed(frame) -> its photo [H,W,3], encoded."""
    u = (torch.arange(PATH_SAMPLES) + 0.5) / PATH_SAMPLES
    num_frames = scene.trajectory.num_frames
    poses = scene.trajectory(torch.arange(num_frames), u)
    working = [scaled(c, min(1.0, WORKING_SIDE_PX / max(c.width, c.height))) for c in scene.training_cameras]
    views = scene.num_views(working)
    depths: list[Tensor] = []
    agreements: list[Tensor] = []
    residuals: list[float] = []
    grey: list[Tensor] = []
    for f, camera in enumerate(working):
        rendered = rendered_view(scene, poses[f, PATH_SAMPLES // 2], camera)
        photo = pyramid_level([observed(f)], [camera]).images[0]
        squared = (reblurred_frame(scene, f, camera, views[f]) - photo).square().mean(-1)
        depths.append(filled_depth(_halved(rendered.depth), _halved(rendered.alpha)))
        agreements.append(agreement(_halved(squared)))
        residuals.append(float(squared.mean().sqrt()))
        grey.append(rendered.image.clamp(0.0, 1.0).mean(-1))
    ends = scene.trajectory(torch.arange(num_frames), torch.linspace(0.0, 1.0, PATH_SAMPLES))
    return TracedScene(
        Exposures(scene.training_cameras, poses, depths, agreements),
        grey,
        residuals,
        path_length_px(ends, list(cameras), scene.depths).tolist(),
    )


def agreement(squared: Tensor) -> Tensor:
    """Squared differences in display values, any shape -> shares in (0,1]."""
    return 1.0 / (1.0 + squared / TOLERATED_ERROR**2)


def trust_maps(support: Support, grey: Tensor) -> TrustMaps:
    """Shares that are both recorded and agreed upon."""
    agreed = support.agreement
    return TrustMaps(support.own * agreed, (support.total - support.own) * agreed, grey)


def judge_frame(traced: TracedScene, frame: int, name: str) -> tuple[FrameTrust, TrustMaps]:
    """The verdict on one frame and the maps it rests on."""
    support = frame_support(traced.exposures, frame)
    maps = trust_maps(support, traced.grey[frame])
    own, recovered = float(maps.own.mean()), float(maps.recovered.mean())
    trust, recorded, residual = own + recovered, float(support.total.mean()), traced.residuals[frame]
    reasons: list[str] = []
    if recorded < RELIABLE_TRUST:
        reasons.append("unseen")
    elif trust < RELIABLE_TRUST:
        reasons.append("residual")
    if residual > max(OUTLIER_RATIO * statistics.median(traced.residuals), OUTLIER_RESIDUAL):
        reasons.append("outlier")
    verdict = FrameTrust(
        name, trust, own, recovered, 1.0 - trust, recorded, residual, traced.paths_px[frame],
        float(support.sharper.mean()), tuple(reasons),
    )  # fmt: skip
    return verdict, maps


def filled_depth(depth: Tensor, alpha: Tensor) -> Tensor:
    """Depth [h,w] without holes from sum of weight * z and opacity: what is missing comes from the surroundings.

    A black surface needs no Gaussians before a black background, so transparency alone does not say that nothing is
    there; the nearest opaque neighbourhood tells how far away it most likely is. All empty: depth 1.
    """
    if min(depth.shape) < 2:
        return torch.where(alpha.mean() > 1e-3, depth.mean() / alpha.mean().clamp_min(1e-3), 1.0).expand_as(
            depth
        )
    coarse = filled_depth(_halved(depth), _halved(alpha))
    behind = F.interpolate(coarse[None, None], depth.shape, mode="bilinear", align_corners=False)[0, 0]
    return depth + (1.0 - alpha).clamp_min(0.0) * behind


def _halved(image: Tensor) -> Tensor:
    return F.avg_pool2d(image[None, None], 2, ceil_mode=True, count_include_pad=False)[0, 0]
