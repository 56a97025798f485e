"""A model's observations as arrays, and a model changed by what was made of them."""

from collections.abc import Sequence

import numpy as np
import pycolmap
from numpy.typing import NDArray

from deblurgs.sfm.colmap.model import as_matrix, as_rigid
from deblurgs.sfm.rolling.tracks import Cameras, Refined, Tracks


def read_tracks(
    model: pycolmap.Reconstruction, image_ids: Sequence[int], times: NDArray[np.float64]
) -> tuple[Tracks, Cameras]:
    """What the images saw, in this order, and where they and the points are. times [F]: when they were taken.

    All of them must share one SIMPLE_RADIAL camera; points are numbered in the order of their ids.
    """
    camera = model.camera(model.image(image_ids[0]).camera_id)
    index = {p: k for k, p in enumerate(sorted(model.points3D))}
    frame, point, pixel = [], [], []
    for f, image_id in enumerate(image_ids):
        image = model.image(image_id)
        for k in image.get_observation_point2D_idxs():
            frame.append(f)
            point.append(index[image.points2D[k].point3D_id])
            pixel.append(image.points2D[k].xy)
    focal, x, y, distortion = (float(v) for v in camera.params)
    tracks = Tracks(
        np.array(frame, dtype=np.int64),
        np.array(point, dtype=np.int64),
        np.array(pixel, dtype=np.float64).reshape(-1, 2),
        (int(camera.width), int(camera.height)),
        (x, y),
        times,
    )
    poses = [as_matrix(model.image(i).cam_from_world()) for i in image_ids]  # pyright: ignore[reportArgumentType]
    points = [model.point3D(p).xyz for p in index]
    return tracks, Cameras(np.array(poses), np.array(points, dtype=np.float64), focal, distortion)


def with_cameras(
    model: pycolmap.Reconstruction, image_ids: Sequence[int], refined: Refined, max_error_px: float
) -> pycolmap.Reconstruction:
    """The model with refined poses, points and lens, without the sightings that are off by more than `max_error_px`.

    image_ids: as they were given to `read_tracks`. A point's error is that of its own sightings, each from the pose of
    its row; points that fewer than two frames see then are left out.
    """
    result = pycolmap.Reconstruction(model)
    found = refined.cameras
    camera = result.camera(result.image(image_ids[0]).camera_id)
    camera.params = [found.focal, *camera.params[1:3], found.distortion]
    for image_id, pose in zip(image_ids, found.camera_from_world, strict=True):
        result.frame(result.image(image_id).frame_id).rig_from_world = as_rigid(pose)
    ids = sorted(result.points3D)
    for point_id, place in zip(ids, found.points, strict=True):
        result.point3D(point_id).xyz = place
    total, count = dict.fromkeys(ids, 0.0), dict.fromkeys(ids, 0)
    k, far = 0, []
    for image_id in image_ids:
        image = result.image(image_id)
        for column in image.get_observation_point2D_idxs():
            point_id, error = image.points2D[column].point3D_id, float(refined.errors[k])
            k += 1
            if error <= max_error_px:
                total[point_id] += error
                count[point_id] += 1
            else:
                far.append((image_id, column))
    for image_id, column in far:
        if result.image(image_id).points2D[column].has_point3D():
            result.delete_observation(image_id, column)
    for point_id in ids:
        if result.exists_point3D(point_id) and count[point_id] < 2:
            result.delete_point3D(point_id)
        elif result.exists_point3D(point_id):
            result.point3D(point_id).error = total[point_id] / count[point_id]
    return result
