"""Turns a COLMAP model into what training reads: pinhole cameras, undistorted frames, SparseModel. In
the SfM child."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deblurgs.errors import SfmError
from deblurgs.scene.camera import Camera
from deblurgs.sfm import colmap, undistort
from deblurgs.sfm.model import SparseModel
from deblurgs.sfm.staging import FrameFile


@dataclass
class Lenses:
    """Pinhole cameras and sampling maps, computed once per distinct lens; undistorted frames go to
    `folder`."""

    folder: Path
    cache: dict[tuple[object, ...], tuple[Camera, NDArray[np.float32] | None]] = field(default_factory=dict)
    undistorted: int = 0
    largest_px: float = 0.0

    def view(self, lens: colmap.Lens, frame: FrameFile) -> tuple[Camera, Path]:
        """The pinhole camera of a frame, and the image it describes: the frame itself if the lens moves nothing by
        more than 0.1 px, else its undistorted copy.
        """
        fitted = fit_lens(lens, frame)
        key = (fitted.model, fitted.width, fitted.height, fitted.params)
        if key not in self.cache:
            own = fitted.pinhole
            moved = undistort.max_displacement_px(own, fitted.img_from_cam)
            self.largest_px = max(self.largest_px, moved)
            if moved <= undistort.NEGLIGIBLE_PX:
                self.cache[key] = (own, None)
            else:
                pinhole = undistort.pinhole_without_blanks(own, fitted.img_from_cam)
                self.cache[key] = (pinhole, undistort.sampling_map(pinhole, fitted.img_from_cam))
        camera, places = self.cache[key]
        if places is None:
            return camera, frame.path
        target = self.folder / f"{Path(frame.name).stem}.png"
        undistort.undistort_file(frame.path, target, places)
        self.undistorted += 1
        return camera, target

    def mask(self, lens: colmap.Lens, frame: FrameFile) -> Path | None:
        """The mask of the image that `view` gives for the same frame; None where every pixel is opaque."""
        if frame.mask is None:
            return None
        fitted = fit_lens(lens, frame)
        _, places = self.cache[(fitted.model, fitted.width, fitted.height, fitted.params)]
        if places is None:
            return frame.mask
        target = self.folder / "masks" / f"{Path(frame.name).stem}.png"
        undistort.undistort_mask_file(frame.mask, target, places)
        return target


def fit_lens(lens: colmap.Lens, frame: FrameFile) -> colmap.Lens:
    """The lens scaled to the frame's size. Raises SfmError when the aspect ratios differ."""
    if (lens.width, lens.height) == (frame.width, frame.height):
        return lens
    scale = frame.width / lens.width
    # Image sizes are rounded to whole pixels when a capture is resized, so one and a half pixels are forgiven.
    if (
        abs(lens.height * scale - frame.height) > 1.5
        and abs(lens.width * frame.height / lens.height - frame.width) > 1.5
    ):
        raise SfmError(
            f"The camera of {frame.name} is {lens.width}x{lens.height} px in the given model, but the image "
            f"is {frame.width}x{frame.height} px with another aspect ratio (cropped or turned). Give the "
            "images that the model was made from."
        )
    return lens.resized(frame.width, frame.height)


def sparse_model(
    model: colmap.Model,
    frames: Mapping[int, FrameFile],
    lenses: Lenses,
    failed: Sequence[tuple[str, str]],
) -> SparseModel:
    """The SparseModel of `frames` (image id in the COLMAP model -> frame, in capture order).

    All points of the model are kept, also those that only other images see.
    """
    ids = sorted(model.points3D)
    index = {p: k for k, p in enumerate(ids)}
    cameras, paths, poses, seen = [], [], [], []
    masks: dict[str, Path] = {}
    for image_id, frame in frames.items():
        image = model.image(image_id)
        lens = colmap.lens(model, image.camera_id)
        camera, path = lenses.view(lens, frame)
        if (mask := lenses.mask(lens, frame)) is not None:
            masks[frame.name] = mask
        cameras.append(camera)
        paths.append(path)
        poses.append(colmap.as_matrix(image.cam_from_world()))  # pyright: ignore[reportArgumentType]
        own = {index[image.points2D[k].point3D_id] for k in image.get_observation_point2D_idxs()}
        seen.append(np.array(sorted(own), dtype=np.int64))
    points = [model.point3D(p) for p in ids]
    return SparseModel(
        names=[f.name for f in frames.values()],
        cameras=cameras,
        image_paths=paths,
        camera_from_world=np.array(poses, dtype=np.float64).reshape(-1, 4, 4),
        points=np.array([p.xyz for p in points], dtype=np.float64).reshape(-1, 3),
        colors=np.array([p.color for p in points], dtype=np.uint8).reshape(-1, 3),
        errors=np.array([p.error for p in points], dtype=np.float32),
        observations=seen,
        failed=list(failed),
        masks=masks,
    )


def write_sparse(model: colmap.Model, frames: Mapping[int, FrameFile], work_dir: Path) -> None:
    """Write `work_dir/sparse/0` in COLMAP's binary format with the user's file names, replacing an older
    one whole."""
    renamed = colmap.renamed(model, {i: f.name for i, f in frames.items()})
    temporary, target = work_dir / "sparse" / ".0.tmp", work_dir / "sparse" / "0"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    renamed.write(temporary)
    shutil.rmtree(target, ignore_errors=True)
    temporary.replace(target)
