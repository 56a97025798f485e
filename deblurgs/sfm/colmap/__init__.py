"""The only folder that touches pycolmap: features, matching, mapping, models. Everything here runs in the SfM child
process.

`zlib` must be loaded before pycolmap: its wheel (4.1.0 to 4.2.1) carries zlib symbols of another build, and if it
comes first, saving a PNG or a compressed npz corrupts the heap. This file is loaded before all others of the folder; a
test keeps the order.
"""

import zlib  # noqa: F401  (must come before pycolmap, see above)

from deblurgs.sfm.colmap.features import CAMERA_MODEL, extract, keypoint_counts
from deblurgs.sfm.colmap.mapping import (
    absolute_pose,
    map_images,
    matches_to_points,
    pipeline_options,
    resume_mapping,
    triangulate,
)
from deblurgs.sfm.colmap.matching import (
    PairStats,
    explained_pairs,
    join_databases,
    match,
    matched_keypoints,
    matched_pairs,
    verified_keypoints,
    verified_pairs,
)
from deblurgs.sfm.colmap.model import (
    Lens,
    Model,
    as_matrix,
    as_rigid,
    ensure_errors,
    in_own_frame,
    lens,
    num_parameters,
    poses,
    read_model,
    reading,
    renamed,
    restricted,
    simplified,
    squared_error,
    without_images,
)
from deblurgs.sfm.colmap.repeatable import SEED
from deblurgs.sfm.colmap.sightings import read_tracks, with_cameras

__all__ = [
    "CAMERA_MODEL",
    "SEED",
    "Lens",
    "Model",
    "PairStats",
    "absolute_pose",
    "as_matrix",
    "as_rigid",
    "ensure_errors",
    "explained_pairs",
    "extract",
    "in_own_frame",
    "join_databases",
    "keypoint_counts",
    "lens",
    "map_images",
    "match",
    "matched_keypoints",
    "matched_pairs",
    "matches_to_points",
    "num_parameters",
    "pipeline_options",
    "poses",
    "read_model",
    "read_tracks",
    "reading",
    "renamed",
    "restricted",
    "resume_mapping",
    "simplified",
    "squared_error",
    "triangulate",
    "verified_keypoints",
    "verified_pairs",
    "with_cameras",
    "without_images",
]
