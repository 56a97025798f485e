"""Reading, changing and measuring models; poses as matrices."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap
from numpy.typing import NDArray

from deblurgs.errors import SfmError
from deblurgs.scene.camera import Camera
from deblurgs.sfm.colmap.repeatable import adjustment_threads
from deblurgs.sfm.diagnose import Reading
from deblurgs.sfm.staging import FrameFile

Model = pycolmap.Reconstruction


def as_matrix(pose: pycolmap.Rigid3d) -> NDArray[np.float64]:
    """A pycolmap pose as a [4, 4] float64 matrix."""
    return np.vstack([np.asarray(pose.matrix(), dtype=np.float64), [0.0, 0.0, 0.0, 1.0]])


def as_rigid(matrix: NDArray[np.float64]) -> pycolmap.Rigid3d:
    """The inverse of `as_matrix`."""
    return pycolmap.Rigid3d(pycolmap.Rotation3d(matrix[:3, :3]), matrix[:3, 3])


def poses(model: pycolmap.Reconstruction) -> dict[str, NDArray[np.float64]]:
    """camera_from_world [4, 4] of each registered image, by its name in the model."""
    return {
        model.image(i).name: as_matrix(model.image(i).cam_from_world())  # pyright: ignore[reportArgumentType]
        for i in model.reg_image_ids()
    }


def read_model(folder: Path) -> pycolmap.Reconstruction:
    """Read a COLMAP model, binary or text, old or new (rigs and frames) layout.

    Raises SfmError naming what is missing or why COLMAP refuses it.
    """
    if not folder.is_dir():
        raise SfmError(f"The COLMAP model {folder} is not a folder. Give the folder that holds cameras.bin.")
    for suffix in ("bin", "txt"):
        missing = [n for n in ("cameras", "images", "points3D") if not (folder / f"{n}.{suffix}").is_file()]
        if not missing:
            break
    else:
        raise SfmError(
            f"The folder {folder} holds no COLMAP model: cameras, images and points3D (.bin or .txt) must be "
            "in it. Usually that is the folder sparse/0."
        )
    try:
        model = pycolmap.Reconstruction()
        (model.read_binary if suffix == "bin" else model.read_text)(folder)
    except Exception as error:  # pycolmap raises several kinds, all with COLMAP's own text
        raise SfmError(
            f"COLMAP cannot read the model in {folder} ({str(error).strip().splitlines()[-1][:300]}). "
            "Convert it with `colmap model_converter`, or leave it out to let deblurgs find the cameras "
            "itself."
        ) from error
    return model


def simplified(model: pycolmap.Reconstruction) -> pycolmap.Reconstruction:
    """The same model refined again without lens distortion (SIMPLE_PINHOLE inside SIMPLE_RADIAL, k = 0)."""
    result = pycolmap.Reconstruction(model)
    for camera_id in list(result.cameras):
        camera = result.camera(camera_id)
        camera.params = [*camera.params[:3], 0.0]
    options = pycolmap.BundleAdjustmentOptions()
    options.refine_extra_params = False
    options.print_summary = False
    options.ceres.solver_options.num_threads = adjustment_threads(result.num_reg_images())
    pycolmap.bundle_adjustment(result, options)
    result.update_point_3d_errors()
    return result


def squared_error(model: pycolmap.Reconstruction) -> tuple[float, int]:
    """(sum of squared reprojection errors in px^2, number of observations)."""
    total, count = 0.0, 0
    for image_id in model.reg_image_ids():
        image = model.image(image_id)
        seen = [image.points2D[k] for k in image.get_observation_point2D_idxs()]
        if not seen:
            continue
        pose = as_matrix(image.cam_from_world())  # pyright: ignore[reportArgumentType]
        points = np.array([model.point3D(p.point3D_id).xyz for p in seen]) @ pose[:3, :3].T + pose[:3, 3]
        found = model.camera(image.camera_id).img_from_cam(points)
        errors = ((np.asarray(found) - np.array([p.xy for p in seen])) ** 2).sum(axis=1)
        total += float(errors[np.isfinite(errors)].sum())
        count += len(seen)
    return total, count


def reading(model: pycolmap.Reconstruction, frames: Sequence[FrameFile]) -> Reading:
    """What the sanity check looks at. `frames` in capture order; images are found by their staged names."""
    ids = {model.image(i).name: i for i in model.reg_image_ids()}
    point_idx = {p: k for k, p in enumerate(sorted(model.points3D))}
    centers, times, tracks = [], [], []
    for frame in frames:
        if frame.staged not in ids:
            continue
        image = model.image(ids[frame.staged])
        for k in image.get_observation_point2D_idxs():
            tracks.append((len(centers), point_idx[image.points2D[k].point3D_id]))
        centers.append(image.projection_center())
        times.append(np.nan if frame.time_s is None else frame.time_s)
    cameras = [model.camera(i) for i in {model.image(j).camera_id for j in ids.values()}]
    return Reading(
        centers=np.array(centers, dtype=np.float64).reshape(-1, 3),
        times_s=np.array(times, dtype=np.float64),
        points=np.array([model.point3D(p).xyz for p in point_idx], dtype=np.float64).reshape(-1, 3),
        tracks=np.array(tracks, dtype=np.int64).reshape(-1, 2),
        error_px=float(model.compute_mean_reprojection_error()),
        focal_ratios=tuple(float(c.mean_focal_length()) / max(c.width, c.height) for c in cameras),
        longer_side=max((max(c.width, c.height) for c in cameras), default=0),
    )


@dataclass(frozen=True)
class Lens:
    """A COLMAP camera of any model, detached from its reconstruction. Sizes and parameters in pixels."""

    model: str
    width: int
    height: int
    params: tuple[float, ...]

    def _camera(self) -> pycolmap.Camera:
        camera = pycolmap.Camera.create_from_model_name(1, self.model, 1.0, self.width, self.height)
        camera.params = list(self.params)
        return camera

    @property
    def pinhole(self) -> Camera:
        """Focal lengths and principal point without the distortion."""
        c = self._camera()
        return Camera(
            self.width,
            self.height,
            float(c.focal_length_x),
            float(c.focal_length_y),
            float(c.principal_point_x),
            float(c.principal_point_y),
        )

    def resized(self, width: int, height: int) -> "Lens":
        camera = self._camera()
        camera.rescale(width, height)
        return Lens(self.model, width, height, tuple(float(v) for v in camera.params))

    def img_from_cam(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Pixels [n, 2] of points [n, 3] in the camera frame, distortion included; NaN where it is
        undefined."""
        return np.asarray(self._camera().img_from_cam(points), dtype=np.float64)


def num_parameters(model: str) -> int:
    """How many parameters a camera model of COLMAP has. Raises ValueError for an unknown one."""
    if model not in pycolmap.CameraModelId.__members__ or model == "INVALID":
        raise ValueError(f"unknown camera model {model!r}")
    return len(pycolmap.Camera.create_from_model_name(1, model, 1.0, 10, 10).params)


def lens(model: pycolmap.Reconstruction, camera_id: int) -> Lens:
    """One camera of a model."""
    camera = model.camera(camera_id)
    return Lens(
        camera.model_name, int(camera.width), int(camera.height), tuple(float(v) for v in camera.params)
    )


def renamed(model: pycolmap.Reconstruction, names: Mapping[int, str]) -> pycolmap.Reconstruction:
    """A copy with other image names. Key points stay as they are, so indices still fit the database."""
    result = pycolmap.Reconstruction(model)
    for image_id, name in names.items():
        result.image(image_id).name = name
    return result


def in_own_frame(model: pycolmap.Reconstruction, frames: Sequence[FrameFile]) -> pycolmap.Reconstruction:
    """The model in a world of our choice, so that equal runs give equal numbers: axes of the first registered
    frame, origin at the mean camera centre, root mean square distance of the cameras from it 1.
    """
    ids = {model.image(i).name: i for i in model.reg_image_ids()}
    order = [ids[f.staged] for f in frames if f.staged in ids]
    centers = np.stack([model.image(i).projection_center() for i in order])
    middle = centers.mean(axis=0)
    radius = float(np.sqrt(((centers - middle) ** 2).sum(axis=1).mean()))
    if radius <= 0:
        return model
    rotation = as_matrix(model.image(order[0]).cam_from_world())[:3, :3]  # pyright: ignore[reportArgumentType]
    result = pycolmap.Reconstruction(model)
    result.transform(pycolmap.Sim3d(1.0 / radius, pycolmap.Rotation3d(rotation), -rotation @ middle / radius))
    return result


def ensure_errors(model: pycolmap.Reconstruction) -> None:
    """Compute the points' mean reprojection errors, which foreign models may lack."""
    model.update_point_3d_errors()


def restricted(model: pycolmap.Reconstruction, image_ids: Sequence[int]) -> pycolmap.Reconstruction:
    """A copy with only these images; points that none of them sees are left out. Rigs become single
    cameras."""
    result = pycolmap.Reconstruction()
    for camera_id in sorted({model.image(i).camera_id for i in image_ids}):
        result.add_camera_with_trivial_rig(copy.copy(model.camera(camera_id)))
    tracks: dict[int, pycolmap.Track] = {}
    for image_id in image_ids:
        image = model.image(image_id)
        keypoints = np.array([p.xy for p in image.points2D], dtype=np.float64).reshape(-1, 2)
        bare = pycolmap.Image(image.name, keypoints, image.camera_id, image_id)
        pose = image.cam_from_world()
        result.add_image_with_trivial_frame(bare, pose)  # pyright: ignore[reportCallIssue, reportArgumentType]
        for k in image.get_observation_point2D_idxs():
            tracks.setdefault(image.points2D[k].point3D_id, pycolmap.Track()).add_element(image_id, k)
    for point_id, track in tracks.items():
        point = model.point3D(point_id)
        result.add_point3D_with_id(
            point_id, pycolmap.Point3D(xyz=point.xyz, color=point.color, error=point.error, track=track)
        )
    return result


def without_images(model: pycolmap.Reconstruction, names: Sequence[str]) -> pycolmap.Reconstruction:
    """The model without some of its images, and adjusted again, since they have pulled at the others."""
    kept = [i for i in model.reg_image_ids() if model.image(i).name not in names]
    result = restricted(model, kept)
    for point_id in [p for p, point in result.points3D.items() if point.track.length() < 2]:
        result.delete_point3D(point_id)
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    options.ceres.solver_options.num_threads = adjustment_threads(result.num_reg_images())
    pycolmap.bundle_adjustment(result, options)
    result.update_point_3d_errors()
    return result
