"""What training needs to know, independent of where it came from: images, cameras, starting poses and points."""

import dataclasses
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from deblurgs.config import TrainConfig
from deblurgs.errors import UsageError
from deblurgs.math.color import area_weights, downscale_linear
from deblurgs.scene.camera import Camera
from deblurgs.scene.photometry import clip_limit
from deblurgs.scene.times import video_times
from deblurgs.scene.transform import Similarity

LANDMARKS = 64
"""Points per frame by which the trained scene is aligned with structure from motion."""
FEW_LANDMARKS = 12
"""A frame that sees fewer points than this was not placed by them."""


@dataclass(frozen=True)
class TrainingSet:
    """Blurred training frames at full input size, in the *scene* frame (median depth 1, see `normalised`).

    images: F arrays [H,W,3] float32 encoded sRGB. cameras: one per frame. camera_from_world [F,4,4] float32: SfM.
    points [P,3], colors [P,3] in [0,1]. depths [F]: median depth of the points each frame sees. landmarks [F,G,3]: some
    of those points, where they are known (see `landmarks`).
    scene_from_sfm: the similarity applied to the SfM model; inverted at export. times_s: when the frames were taken.
    exposures_s: how long each shutter was open, where it is known.
    blurs_px: about how long each frame's blur is, in pixels of its camera, where something is known of it.
    masks: per frame None, or [H,W] float32 in {0, 1} of its image's size: 0 where the photo shows nothing.
    readout: of a rolling shutter in frame intervals, as SfM found it; None where it was not asked.
    Held-out images are never part of it.
    """

    names: list[str]
    images: list[Tensor]
    cameras: list[Camera]
    camera_from_world: Tensor
    points: Tensor
    colors: Tensor
    depths: Tensor
    scene_from_sfm: Similarity
    times_s: list[float | None] | None = None
    masks: list[Tensor | None] | None = None
    exposures_s: list[float | None] | None = None
    blurs_px: list[float | None] | None = None
    readout: float | None = None
    landmarks: Tensor | None = None

    @property
    def num_frames(self) -> int:
        return len(self.names)

    def to(self, device: torch.device) -> "TrainingSet":
        """The same with all pixels, poses and points on a device."""
        return dataclasses.replace(
            self,
            images=[image.to(device) for image in self.images],
            camera_from_world=self.camera_from_world.to(device),
            points=self.points.to(device),
            colors=self.colors.to(device),
            depths=self.depths.to(device),
            masks=self.masks and [None if mask is None else mask.to(device) for mask in self.masks],
        )


@dataclass
class Pyramid:
    """The training images at one working scale; smaller versions are averaged in linear light, as a sensor would.

    limits: where each image is clipped, see `clip_limit`. masks: as in `TrainingSet`, at these sizes.
    """

    images: list[Tensor]
    cameras: list[Camera]
    limits: list[Tensor | None] = field(default_factory=list)
    masks: list[Tensor | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.limits = [clip_limit(image) for image in self.images]
        self.masks = self.masks or [None] * len(self.images)


def training_camera(camera: Camera, config: TrainConfig) -> Camera:
    """The camera at training size: reduced by `downscale`, then until its longer side fits `max_side`."""
    factor = min(1.0 / config.downscale, config.max_side / max(camera.width, camera.height), 1.0)
    return scaled(camera, factor)


def scaled(camera: Camera, factor: float) -> Camera:
    return camera.resized(max(1, round(camera.width * factor)), max(1, round(camera.height * factor)))


def pyramid_level(
    images: list[Tensor], cameras: list[Camera], masks: list[Tensor | None] | None = None
) -> Pyramid:
    """The images and masks at the sizes of `cameras`. Sizes are compared as numbers of pixels, never as rounded
    factors.
    """
    reduced: list[Tensor] = []
    small: list[Tensor | None] = []
    for image, camera, mask in zip(images, cameras, masks or [None] * len(images), strict=True):
        same = (camera.width, camera.height) == (image.shape[1], image.shape[0])
        reduced.append(image if same else downscale_linear(image, camera.width, camera.height).contiguous())
        small.append(mask if same or mask is None else reduced_mask(mask, camera.width, camera.height))
    return Pyramid(reduced, cameras, masks=small)


def without_masked(image: Tensor, mask: Tensor | None) -> Tensor:
    """The image [H,W,3] with mid-grey where mask [H,W] is 0: what is stored there must not matter to anything."""
    return image if mask is None else torch.where(mask[..., None] > 0, image, image.new_full((), 0.5))


def reduced_mask(mask: Tensor, width: int, height: int) -> Tensor:
    """[H,W] -> [height,width]: 1 only where no masked pixel has a share in the reduced pixel."""
    rows = area_weights(mask.shape[0], height, dtype=torch.float32, device=mask.device) > 0
    columns = area_weights(mask.shape[1], width, dtype=torch.float32, device=mask.device) > 0
    hidden = rows.float() @ (1.0 - mask) @ columns.float().T
    return (hidden == 0).float()


def normalised(
    camera_from_world: np.ndarray,
    points: np.ndarray,
    observations: list[np.ndarray],
) -> tuple[Similarity, np.ndarray]:
    """The similarity scene_from_sfm that puts the median point at the origin and the median depth at 1, and depths [F].

    One unit then means the same change in the picture for translation and rotation, so one learning rate serves both.
    """
    depths = np.empty(len(camera_from_world))
    for f, pose in enumerate(camera_from_world):
        seen = points[observations[f]] if len(observations[f]) else points
        z = seen @ pose[2, :3] + pose[2, 3]
        z = z[z > 0]
        depths[f] = np.median(z) if len(z) else np.nan
    depths = np.where(np.isfinite(depths), depths, np.nanmedian(depths))
    scale = 1.0 / float(np.median(depths))
    centre = np.median(points, axis=0)
    return Similarity(scale, np.eye(3), -scale * centre), depths * scale


def landmarks(
    camera_from_world: np.ndarray, points: np.ndarray, observations: list[np.ndarray], grid: np.ndarray
) -> np.ndarray:
    """[F,LANDMARKS,3]: points spread evenly over those that each frame sees, in front of it; of a frame that sees
    hardly any, those of `grid` [F,G,3]. Where there are fewer than LANDMARKS they come again."""
    chosen = np.empty((len(camera_from_world), LANDMARKS, 3))
    for f, pose in enumerate(camera_from_world):
        seen = points[observations[f]]
        seen = seen[seen @ pose[2, :3] + pose[2, 3] > 0]
        if len(seen) < FEW_LANDMARKS:
            seen = grid[f]
        chosen[f] = seen[np.linspace(0, len(seen) - 1, LANDMARKS).round().astype(int)]
    return chosen


def as_tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def has_times(data: TrainingSet) -> bool:
    """Whether it is known when every frame was taken."""
    return data.times_s is not None and None not in data.times_s


def frame_times(data: TrainingSet) -> Tensor:
    """Times of the frames, [F] float64 (scene/times.py). Raises UsageError unless they increase from frame to frame."""
    try:
        return torch.from_numpy(video_times(data.names, data.times_s))
    except ValueError as error:
        raise UsageError(
            f"a continuous trajectory needs the frames of one video in order, and {error}. Use another "
            "--train.trajectory.kind."
        ) from error


def relative_exposures(data: TrainingSet) -> Tensor:
    """[F]: how long each shutter was open, relative to the median of those that are known and bounded to a factor of
    four; 1 where it is not. Under one hand the camera's path during an exposure is about that much longer."""
    known = [e for e in data.exposures_s or [] if e is not None]
    if len(known) < 2:
        return torch.ones(data.num_frames)
    middle = float(np.median(known))
    relative = [1.0 if e is None else e / middle for e in data.exposures_s or []]
    return torch.tensor(relative).clamp(0.25, 4.0)
