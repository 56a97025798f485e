"""Finding features: pycolmap writes them into a database."""

import os
from collections.abc import Sequence
from pathlib import Path

import pycolmap

from deblurgs.sfm.colmap.repeatable import SEED
from deblurgs.sfm.staging import FrameFile, Settings, mask_folder

CAMERA_MODEL = "SIMPLE_RADIAL"


def extract(database: Path, image_dir: Path, frames: Sequence[FrameFile], settings: Settings) -> None:
    """SIFT features of all frames, none on masked pixels; frames of equal size and equal device share one camera
    with unknown focal length."""
    options = pycolmap.FeatureExtractionOptions()
    options.num_threads = os.cpu_count() or 1
    options.max_image_size = settings.max_image_size
    options.use_gpu = False
    for key, value in settings.sift.items():
        setattr(options.sift, key, value)
    reader = pycolmap.ImageReaderOptions()
    reader.camera_model = CAMERA_MODEL
    if mask_folder(image_dir).is_dir():
        reader.mask_path = mask_folder(image_dir)
    with pycolmap.Database.open(database) as db:
        known = {i.name for i in db.read_all_images()}
    for lens_ in dict.fromkeys((f.width, f.height, f.camera) for f in frames):
        names = [f.staged for f in frames if (f.width, f.height, f.camera) == lens_]
        # Extraction alone numbers the images in the order in which its threads finish, and mapping depends on the
        # numbers: entering the images first makes runs repeatable.
        fresh = [n for n in names if n not in known]
        if fresh:
            pycolmap.import_images(database, image_dir, pycolmap.CameraMode.SINGLE, fresh, reader)
        pycolmap.set_random_seed(SEED)
        pycolmap.extract_features(
            database,
            image_dir,
            image_names=names,
            camera_mode=pycolmap.CameraMode.SINGLE,
            reader_options=reader,
            extraction_options=options,
            device=pycolmap.Device.cpu,
        )


def keypoint_counts(database: Path) -> dict[str, int]:
    """Number of keypoints of each staged name. Images that COLMAP could not read are missing."""
    with pycolmap.Database.open(database) as db:
        return {i.name: db.num_keypoints_for_image(i.image_id) for i in db.read_all_images()}
