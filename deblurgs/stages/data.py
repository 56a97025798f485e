"""The SfM result as training wants it."""

from typing import TYPE_CHECKING

from deblurgs.config import TrainConfig

if TYPE_CHECKING:
    from torch import Tensor

    from deblurgs.capture.dataset import Capture
    from deblurgs.sfm.model import SparseModel
    from deblurgs.train.data import TrainingSet


def training_set(
    model: "SparseModel", capture: "Capture", config: TrainConfig | None = None
) -> "TrainingSet":
    """The SfM result as training wants it: pixels in memory, poses and points in the scene frame.

    With `config` images are reduced to training size as they are read, so that 300 large photos fit into memory.
    """
    import numpy as np
    import torch

    from deblurgs.capture.image import read_rgb
    from deblurgs.scene.alignment import picture_grid
    from deblurgs.train.data import (
        TrainingSet,
        as_tensor,
        landmarks,
        normalised,
        pyramid_level,
        training_camera,
        without_masked,
    )

    times_s = {frame.name: frame.time_s for frame in capture.frames}
    exposures = {frame.name: frame.exposure_s for frame in capture.frames}
    # As shares of the picture's width: undistorted and reduced pictures have other pixels.
    blurs = {
        f.name: f.blur.path_px / f.width for f in capture.frames if f.blur and f.blur.path_px is not None
    }
    cameras = [training_camera(c, config) if config else c for c in model.cameras]
    images, masks = [], []
    for name, path, camera in zip(model.names, model.image_paths, cameras, strict=True):
        mask = frame_mask(model, name)
        image = without_masked(as_tensor(read_rgb(path)), mask)
        level = pyramid_level([image], [camera], [mask])
        images += level.images
        masks += level.masks
    observations = list(model.observations)
    similarity, depths = normalised(model.camera_from_world, model.points, observations)
    extents = np.array([(0.5 * c.width / c.fx, 0.5 * c.height / c.fy) for c in cameras])
    grid = picture_grid(model.camera_from_world, depths / similarity.scale, extents)
    return TrainingSet(
        names=list(model.names),
        images=images,
        cameras=cameras,
        camera_from_world=as_tensor(similarity.apply_camera_from_world(model.camera_from_world)),
        points=as_tensor(similarity.apply_points(model.points)),
        colors=torch.from_numpy(model.colors).float() / 255.0,
        depths=as_tensor(depths),
        scene_from_sfm=similarity,
        times_s=[times_s.get(name) for name in model.names],
        masks=masks,
        exposures_s=[exposures.get(name) for name in model.names],
        blurs_px=[
            blurs[name] * camera.width if name in blurs else None
            for name, camera in zip(model.names, cameras, strict=True)
        ],
        readout=model.readout,
        landmarks=as_tensor(
            similarity.apply_points(landmarks(model.camera_from_world, model.points, observations, grid))
        ),
    )


def frame_mask(model: "SparseModel", name: str) -> "Tensor | None":
    """[H,W], 1 where a frame's photo is opaque and 0 elsewhere; None for photos without transparency."""
    from deblurgs.capture.image import read_rgb
    from deblurgs.train.data import as_tensor

    path = model.masks.get(name)
    return None if path is None else (as_tensor(read_rgb(path)[..., 0]) > 0.5).float()
