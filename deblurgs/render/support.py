"""Which detail of a frame the exposures of a capture have seen.

A surface point draws a short curve in every photo that sees it while the shutter is open. Detail with wave vector
k (cycles per pixel, direction n) reaches that photo attenuated by the curve's transfer function. With the curve's
covariance C (pixel^2) its power is

    gain(k n) = exp(-4 pi^2 k^2 n' C n),

which equals the familiar sinc^2(k l) of a straight path of length l to second order (C = l^2/12 along the path) and has
the same 0.05 where the sinc first vanishes. The revivals of the sinc beyond its zero are left out on purpose: to
profit from them one would have to know the path to a fraction of a wave length. The photo's own pixel adds the
covariance of a box, so that photos from farther away count less. Summed over the photos, the power is the evidence for
that detail; photos blurred in different directions complement each other, and the direction seen worst decides.
Evidence becomes the share of the detail that is recovered as in a Wiener filter: S / (S + noise-to-signal).
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from deblurgs.scene.camera import Camera

WAVELENGTHS_PX = (4.0, 8.0)
"""The detail that is asked for, in pixels of the training images: the finest that splats reproduce well, and twice."""
NUM_DIRECTIONS = 8
NOISE_TO_SIGNAL = 0.1
"""Power of sensor noise and model error over the power of fine texture; one clear view then recovers 91 %."""
DEPTH_TOLERANCE = 0.05
"""A photo sees a point when its own depth there agrees to this share; more than the depth noise of splats."""
MAX_VIEWS = 40
"""Other photos looked at per frame; of more, those that hold the most evidence on a coarse grid."""
_BOX_VARIANCE = 1.0 / 12.0


@dataclass(frozen=True)
class Exposures:
    """The paths of all frames and what each sees from the middle of its own.

    cameras: F cameras whose pixels are the unit of everything here. poses [F,U,4,4]: camera_from_world along each
    exposure in order of u, U odd, so that the one in the middle is mid-exposure; equal shares of light. depths: F maps
    [h,w] of camera z seen from mid-exposure. agreements: F maps [h,w] in [0,1], how well the model explains the photo
    there. A map may have any size: it covers its camera's picture.
    """

    cameras: list[Camera]
    poses: Tensor
    depths: list[Tensor]
    agreements: list[Tensor]

    @property
    def num_frames(self) -> int:
        return len(self.cameras)


@dataclass(frozen=True)
class Support:
    """What the exposures know about each pixel of one frame, maps [h,w].

    own, total: share in [0,1] of the fine detail that this frame's exposure alone, and all exposures together, have
    recorded. sharper: number of other photos that show the point less blurred. agreement: that of the frame's own
    photo, which alone knows whether its own path is right, times the mean of the others that show the point, weighted
    by how well they show it. A mean of shares, so that one photo with a wrong pose does not condemn all others.
    """

    own: Tensor
    total: Tensor
    sharper: Tensor
    agreement: Tensor


@torch.no_grad()
def frame_support(exposures: Exposures, frame: int) -> Support:
    """Trace every pixel of one frame through the exposures of the others (at most MAX_VIEWS of them)."""
    height, width = exposures.depths[frame].shape
    points = _points(exposures, frame, height, width)
    own_blur = _blur(exposures, frame, frame, points)
    own = _gain(own_blur)  # [L,D,P]
    own_spread = _spread(own_blur)
    total, sharper = own.clone(), own.new_zeros(height * width)
    weight = torch.full_like(sharper, 1e-6)  # no other photo shows it: nobody disagrees
    others_agree = weight.clone()
    for other in _most_telling(exposures, frame):
        seen, agrees = _look(exposures, other, points.world)
        blur = _blur(exposures, frame, other, points)
        gain = _gain(blur) * seen
        total += gain
        sharper += seen * (_spread(blur) < own_spread)
        clear = gain.mean((0, 1))
        weight += clear
        others_agree += clear * agrees
    agreement = exposures.agreements[frame].flatten() * others_agree / weight
    maps = (_recovered(own), _recovered(total), sharper, agreement)
    return Support(*(m.reshape(height, width) for m in maps))


@dataclass(frozen=True)
class _Points:
    """The surface under each pixel, world [P,3], and one pixel to its right and below it at the same depth."""

    world: Tensor
    right: Tensor
    below: Tensor


def _points(exposures: Exposures, frame: int, height: int, width: int) -> _Points:
    camera, depth = exposures.cameras[frame], exposures.depths[frame]
    pose = exposures.poses[frame, exposures.poses.shape[1] // 2]
    y, x = torch.meshgrid(
        (torch.arange(height) + 0.5) * (camera.height / height),
        (torch.arange(width) + 0.5) * (camera.width / width),
        indexing="ij",
    )
    z = F.interpolate(depth[None, None], (height, width))[0, 0] if depth.shape != (height, width) else depth
    z = z.clamp_min(1e-6)
    local = torch.stack([(x - camera.cx) / camera.fx * z, (y - camera.cy) / camera.fy * z, z], -1)
    local = local.reshape(-1, 3)
    step = torch.zeros_like(local)
    step[:, 0] = z.flatten() / camera.fx
    below = torch.zeros_like(local)
    below[:, 1] = z.flatten() / camera.fy

    def world(p: Tensor) -> Tensor:
        return (p - pose[:3, 3]) @ pose[:3, :3]  # R^T (p - t)

    return _Points(world(local), world(local + step), world(local + below))


def _project(pose: Tensor, camera: Camera, world: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels [...,P,2] and camera z [...,P] of world [P,3] from pose [...,4,4]."""
    local = world @ pose[..., :3, :3].transpose(-1, -2) + pose[..., None, :3, 3]
    z = local[..., 2]
    safe = z.clamp_min(1e-6)
    px = torch.stack(
        [camera.fx * local[..., 0] / safe + camera.cx, camera.fy * local[..., 1] / safe + camera.cy], -1
    )
    return px, z


def _look(exposures: Exposures, frame: int, world: Tensor) -> tuple[Tensor, Tensor]:
    """Whether a photo shows the points [P,3] from mid-exposure (inside, at the depth of what it shows) [P]; how
    well the model explains it there [P]."""
    camera = exposures.cameras[frame]
    px, z = _project(exposures.poses[frame, exposures.poses.shape[1] // 2], camera, world)
    unit = px / torch.tensor([camera.width, camera.height]) * 2.0 - 1.0
    maps = torch.stack([exposures.depths[frame], exposures.agreements[frame]])[None]
    depth, agreement = F.grid_sample(maps, unit[None, None], mode="nearest", align_corners=False)[0, :, 0]
    inside = (unit.abs() < 1.0).all(-1) & (z > 0)
    return inside & ((z - depth).abs() <= DEPTH_TOLERANCE * depth), agreement


def _blur(exposures: Exposures, frame: int, other: int, points: _Points) -> Tensor:
    """Covariance (xx, xy, yy) [3,P], in this frame's pixels, of the other photo's blur beyond one of those pixels."""
    camera, poses = exposures.cameras[other], exposures.poses[other]
    px, _ = _project(poses, camera, points.world)  # [U,P,2]
    away = px - px.mean(0)
    xx, xy, yy = ((away[..., a] * away[..., b]).mean(0) for a, b in ((0, 0), (0, 1), (1, 1)))
    xx, yy = xx + _BOX_VARIANCE, yy + _BOX_VARIANCE
    if other == frame:
        return torch.stack([xx - _BOX_VARIANCE, xy, yy - _BOX_VARIANCE])
    middle = poses[poses.shape[0] // 2]
    at = px[poses.shape[0] // 2]
    a, c = (_project(middle, camera, points.right)[0] - at).unbind(
        -1
    )  # J = [[a, b], [c, d]], other from frame
    b, d = (_project(middle, camera, points.below)[0] - at).unbind(-1)
    det = a * d - b * c
    # A mirrored or vanishing footprint means that the surface is seen from its edge or from behind.
    inverse = torch.where(det > 1e-4, 1.0 / det.clamp_min(1e-4), torch.full_like(det, 1e4))
    return torch.stack([
        (d * d * xx - 2 * b * d * xy + b * b * yy) * inverse**2 - _BOX_VARIANCE,
        (-c * d * xx + (a * d + b * c) * xy - a * b * yy) * inverse**2,
        (c * c * xx - 2 * a * c * xy + a * a * yy) * inverse**2 - _BOX_VARIANCE,
    ])  # fmt: skip


def _gain(blur: Tensor) -> Tensor:
    """Power that survives a blur (xx, xy, yy) [3,P]: [wavelengths, directions, P], at most 1."""
    angle = torch.arange(NUM_DIRECTIONS) * (math.pi / NUM_DIRECTIONS)
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]
    along = (cos * cos * blur[0] + 2 * cos * sin * blur[1] + sin * sin * blur[2]).clamp_min(0.0)  # [D,P]
    return torch.stack([torch.exp(-4 * math.pi**2 / length**2 * along) for length in WAVELENGTHS_PX])


def _spread(blur: Tensor) -> Tensor:
    """The larger variance (px^2) of a blur (xx, xy, yy) [3,P], over all directions."""
    half, difference = 0.5 * (blur[0] + blur[2]), 0.5 * (blur[0] - blur[2])
    return half + torch.sqrt(difference.square() + blur[1].square())


def _recovered(evidence: Tensor) -> Tensor:
    """Evidence [L,D,P] -> share [P]: the direction seen worst decides, the wavelengths count alike."""
    worst = evidence.amin(1)
    return (worst / (worst + NOISE_TO_SIGNAL)).mean(0)


def _most_telling(exposures: Exposures, frame: int) -> list[int]:
    """The other frames worth looking at, in order of index; everyone unless there are more than MAX_VIEWS."""
    others = [g for g in range(exposures.num_frames) if g != frame]
    if len(others) <= MAX_VIEWS:
        return others
    points = _points(exposures, frame, 6, 8)
    score = {
        g: float((_gain(_blur(exposures, frame, g, points)) * _look(exposures, g, points.world)[0]).sum())
        for g in others
    }
    return sorted(sorted(others, key=lambda g: -score[g])[:MAX_VIEWS])
