"""From matches to models: mapping, triangulation and single poses."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pycolmap
from numpy.typing import NDArray

from deblurgs.sfm.colmap.model import Lens, as_matrix, as_rigid
from deblurgs.sfm.colmap.repeatable import SEED, adjustment_threads
from deblurgs.sfm.staging import Settings


def pipeline_options(settings: Settings, image_dir: Path) -> pycolmap.IncrementalPipelineOptions:
    """Mapping options with every seed fixed."""
    options = pycolmap.IncrementalPipelineOptions()
    options.num_threads = adjustment_threads(sum(1 for _ in image_dir.iterdir()))
    options.random_seed = SEED
    options.mapper.random_seed = SEED
    options.triangulation.random_seed = SEED
    # The default of 10 throws away whole models of short bursts.
    options.min_model_size = 3
    for key, value in settings.mapper.items():
        setattr(options.mapper, key, value)
    for key, value in settings.triangulation.items():
        setattr(options.triangulation, key, value)
    return options


def map_images(
    database: Path, image_dir: Path, output: Path, settings: Settings
) -> list[pycolmap.Reconstruction]:
    """All models of one mapping, the one with most registered images first (it need not be COLMAP's first)."""
    output.mkdir(parents=True, exist_ok=True)
    pycolmap.set_random_seed(SEED)
    if settings.mapping == "global":
        models = pycolmap.global_mapping(database, image_dir, output, _global_options(image_dir))
    else:
        models = pycolmap.incremental_mapping(
            database, image_dir, output, pipeline_options(settings, image_dir)
        )
    return sorted(models.values(), key=lambda m: (-m.num_reg_images(), -m.num_points3D()))


def _global_options(image_dir: Path) -> pycolmap.GlobalPipelineOptions:
    options = pycolmap.GlobalPipelineOptions()
    options.num_threads = adjustment_threads(sum(1 for _ in image_dir.iterdir()))
    for part in (
        options,
        options.mapper,
        options.mapper.rotation_averaging,
        options.mapper.global_positioning,
        options.mapper.retriangulation,
    ):
        part.random_seed = SEED
    options.mapper.num_threads = options.num_threads
    options.mapper.global_positioning.use_gpu = False
    options.mapper.bundle_adjustment.ceres.use_gpu = False
    return options


def resume_mapping(
    start: pycolmap.Reconstruction, database: Path, image_dir: Path, output: Path, settings: Settings
) -> pycolmap.Reconstruction:
    """Try to register the missing images of a model with other mapper settings. Returns `start` if none
    is added."""
    begin = output / "start"
    begin.mkdir(parents=True, exist_ok=True)
    start.write(begin)
    pycolmap.set_random_seed(SEED)
    models = pycolmap.incremental_mapping(
        database, image_dir, output, pipeline_options(settings, image_dir), input_path=begin
    )
    best = max(models.values(), key=lambda m: m.num_reg_images(), default=start)
    return best if best.num_reg_images() > start.num_reg_images() else start


def triangulate(
    database: Path,
    image_dir: Path,
    output: Path,
    views: Mapping[str, tuple[Lens, NDArray[np.float64]]],
) -> pycolmap.Reconstruction:
    """Points for images with known lens and camera_from_world [4, 4], by staged name; images that share a camera of the
    database share their lens. Poses are not refined."""
    model = pycolmap.Reconstruction()
    with pycolmap.Database.open(database) as db:
        images = {i.name: i for i in db.read_all_images() if i.name in views}
        for camera_id in sorted({i.camera_id for i in images.values()}):
            lens_ = next(views[n][0] for n, i in images.items() if i.camera_id == camera_id)
            camera = pycolmap.Camera.create_from_model_name(
                camera_id, lens_.model, 1.0, lens_.width, lens_.height
            )
            camera.params = list(lens_.params)
            camera.has_prior_focal_length = True
            db.update_camera(camera)
            model.add_camera_with_trivial_rig(camera)
        for name, image in images.items():
            keypoints = db.read_keypoints(image.image_id)[:, :2].astype(np.float64)
            bare = pycolmap.Image(name, keypoints, image.camera_id, image.image_id)
            model.add_image_with_trivial_frame(bare, as_rigid(views[name][1]))
    output.mkdir(parents=True, exist_ok=True)
    options = pipeline_options(Settings("triangulate"), image_dir)
    pycolmap.set_random_seed(SEED)
    return pycolmap.triangulate_points(model, database, image_dir, output, True, options, False)


def absolute_pose(
    pixels: NDArray[np.float64], points: NDArray[np.float64], lens_: Lens, max_error_px: float
) -> tuple[NDArray[np.float64], int] | None:
    """camera_from_world [4, 4] from pixels [n, 2] and points [n, 3] by RANSAC and refinement, and the
    inliers."""
    estimation = pycolmap.AbsolutePoseEstimationOptions()
    estimation.ransac.max_error = max_error_px
    estimation.ransac.random_seed = SEED
    result = pycolmap.estimate_and_refine_absolute_pose(
        pixels, points, lens_._camera(), estimation, pycolmap.AbsolutePoseRefinementOptions()
    )
    if result is None:
        return None
    return as_matrix(result["cam_from_world"]), int(result["num_inliers"])


def matches_to_points(
    database: Path, model: pycolmap.Reconstruction, name: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pixels [n, 2] of one image (staged name) and the model's points [n, 3] they match, through verified pairs.

    The model's image ids and keypoint order must be those of the database.
    """
    with pycolmap.Database.open(database) as db:
        own = db.read_image_with_name(name)
        if own is None:
            return np.zeros((0, 2)), np.zeros((0, 3))
        keypoints = db.read_keypoints(own.image_id)[:, :2].astype(np.float64)
        found: set[tuple[int, int]] = set()
        for image_id in model.reg_image_ids():
            if not db.exists_two_view_geometry(own.image_id, image_id):
                continue
            points2d = model.image(image_id).points2D
            inliers = db.read_two_view_geometry(own.image_id, image_id).inlier_matches
            for mine, theirs in np.asarray(inliers).reshape(-1, 2):
                point = points2d[int(theirs)]
                if point.has_point3D():
                    found.add((int(mine), int(point.point3D_id)))
    pairs = sorted(found)
    return (
        keypoints[[a for a, _ in pairs]].reshape(-1, 2),
        np.array([model.point3D(b).xyz for _, b in pairs], dtype=np.float64).reshape(-1, 3),
    )
