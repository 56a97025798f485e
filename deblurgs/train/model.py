"""The forward model of one frame: Gaussians and a trajectory in, the light of its exposure out."""

from itertools import pairwise

import torch
from torch import Tensor

from deblurgs.raster.api import Rendered, ScreenStatistics, render_exposure
from deblurgs.scene.camera import Camera
from deblurgs.scene.continuous import ContinuousTrajectory
from deblurgs.scene.gaussians import Gaussians
from deblurgs.scene.shutter import sample_exposure
from deblurgs.scene.trajectory import Trajectory
from deblurgs.train.slices import slice_covariance, spread

AnyTrajectory = Trajectory | ContinuousTrajectory

# A rolling shutter is rendered in at most this many bands of rows, each with the poses of its middle row. Few bands are
# no mere loss of accuracy: with four of them the readout comes out a seventh too short.
NUM_BANDS = 8
# Bands end where the rasterizer's tiles do.
_TILE_ROWS = 16


def exposure_image(
    gaussians: Gaussians,
    viewmats: Tensor,
    weights: Tensor,
    camera: Camera,
    *,
    sh_degree: int | None = None,
    antialiased: bool = False,
    linear_mean: bool = True,
    statistics: ScreenStatistics | None = None,
) -> Rendered:
    """The mean over the virtual views viewmats [V,4,4], in linear light unless told otherwise, rendered where the
    Gaussians are."""
    g = gaussians
    return render_exposure(
        g.means, g.quats, g.scales, g.opacities, g.sh0, g.shN, viewmats.to(g.means.device),
        weights.to(g.means.device), camera,
        sh_degree=sh_degree, linear_mean=linear_mean, antialiased=antialiased, statistics=statistics,
    )  # fmt: skip


def frame_light(
    gaussians: Gaussians,
    trajectory: AnyTrajectory,
    frame: int,
    camera: Camera,
    u: Tensor,
    weights: Tensor,
    *,
    sh_degree: int | None = None,
    antialiased: bool = False,
    linear_mean: bool = True,
    statistics: list[ScreenStatistics] | None = None,
    supersample: int = 1,
) -> Tensor:
    """Mean light of one frame's exposure, [H,W,3] linear: views at u [V] with `weights` [V], row by row where the
    shutter rolls. `statistics` receives one entry for each band of rows, in pixels of what is drawn: with `supersample`
    the camera has that many times as many pixels per side, whose light is then averaged. Without `linear_mean` the
    views' display values are averaged, which no camera does."""
    camera = supersampled(camera, supersample)
    bands = row_bands(camera) if trajectory.rolling else [(0, camera.height)]
    parts = []
    for top, bottom in bands:
        row = 0.5 * (top + bottom) / camera.height
        poses = trajectory.of_frame(frame, u, row)
        band = camera.rows(top, bottom)
        seen = ScreenStatistics() if statistics is not None else None
        parts.append(
            exposure_image(
                gaussians, poses, weights, band,
                sh_degree=sh_degree, antialiased=antialiased, linear_mean=linear_mean, statistics=seen,
            ).image
        )  # fmt: skip
        if statistics is not None and seen is not None:
            statistics.append(seen)
    return gathered(parts[0] if len(parts) == 1 else torch.cat(parts), supersample)


def exposed_light(
    gaussians: Gaussians,
    trajectory: AnyTrajectory,
    frame: int,
    camera: Camera,
    depth: Tensor,
    num_views: int,
    *,
    shift: float = 0.5,
    sh_degree: int | None = None,
    antialiased: bool = False,
    statistics: list[ScreenStatistics] | None = None,
    supersample: int = 1,
) -> Tensor:
    """The light of one frame's whole exposure, [H,W,3] linear: that of `num_views` instants (`frame_light`), each for
    the slice of the exposure around it (`slices`). depth: typical camera z of what the frame shows, a scalar in scene
    units. shift: where in its slice every instant lies.
    """
    u, weights = sample_exposure(num_views, shift=shift, device=trajectory.knots.device)
    light = frame_light(
        gaussians, trajectory, frame, camera, u, weights, sh_degree=sh_degree, antialiased=antialiased,
        statistics=statistics, supersample=supersample,
    )  # fmt: skip
    if trajectory.kind == "static":
        return light
    return spread(light, slice_covariance(trajectory, frame, camera, depth, num_views).to(light.device))


def supersampled(camera: Camera, factor: int) -> Camera:
    """The same camera with `factor` times as many pixels per side."""
    return camera if factor == 1 else camera.resized(factor * camera.width, factor * camera.height)


def gathered(light: Tensor, factor: int) -> Tensor:
    """[factor H, factor W, C] -> [H,W,C]: what pixels `factor` times as wide receive. A sensor averages light."""
    if factor == 1:
        return light
    height, width, channels = light.shape
    return light.reshape(height // factor, factor, width // factor, factor, channels).mean((1, 3))


def row_bands(camera: Camera) -> list[tuple[int, int]]:
    """Rows [top, bottom) of the bands that a rolling shutter is rendered in, as even as rows of tiles allow."""
    tiles = -(-camera.height // _TILE_ROWS)
    bands = min(NUM_BANDS, tiles)
    edges = [min(i * tiles // bands * _TILE_ROWS, camera.height) for i in range(bands + 1)]
    return list(pairwise(edges))
