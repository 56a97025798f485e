"""The only file that touches pycolmap. Everything here runs in the SfM child process.

`zlib` must be loaded before pycolmap: its wheel (4.1.0 to 4.2.1) carries zlib symbols of another build, and if it
comes first, saving a PNG or a compressed npz corrupts the heap. A test keeps this order.
"""

import zlib  # noqa: F401, I001  (must come before pycolmap, see above)

import copy
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap
from numpy.typing import NDArray

from deblurgs.errors import SfmError
from deblurgs.scene.camera import Camera
from deblurgs.sfm.diagnose import Reading
from deblurgs.sfm.parallax import MatchedPair
from deblurgs.sfm.staging import FrameFile, Settings, mask_folder
from deblurgs.sfm.support import RayPair

Model = pycolmap.Reconstruction
SEED = 0
CAMERA_MODEL = "SIMPLE_RADIAL"


@dataclass(frozen=True)
class PairStats:
    """One verified image pair: staged names and number of inliers."""

    first: str
    second: str
    num_inliers: int


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


def match(database: Path, pairs: Sequence[tuple[str, str]] | None, settings: Settings | None = None) -> None:
    """Match and verify all pairs, or only the given pairs of staged names."""
    matching = pycolmap.FeatureMatchingOptions()
    matching.num_threads = os.cpu_count() or 1
    matching.use_gpu = False
    for key, value in settings.matching.items() if settings else ():
        setattr(matching, key, value)
    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.random_seed = SEED
    pycolmap.set_random_seed(SEED)
    if pairs is None:
        pycolmap.match_exhaustive(
            database, matching, verification_options=verification, device=pycolmap.Device.cpu
        )
        return
    if not pairs:
        return
    listing = database.with_suffix(".pairs.txt")
    listing.write_text("".join(f"{a} {b}\n" for a, b in pairs), encoding="ascii")
    pairing = pycolmap.ImportedPairingOptions()
    pairing.match_list_path = listing
    pycolmap.match_image_pairs(database, matching, pairing, verification, device=pycolmap.Device.cpu)


def join_databases(sources: Sequence[Path], target: Path) -> None:
    """All keypoints and verified matches of several databases of the same images in one, verified again per pair.

    Image ids, and the indices of the first database's keypoints, stay what they are there. Descriptors are left out:
    those of different settings must not be compared.
    """
    shutil.copyfile(sources[0], target)
    keypoints: dict[str, list[NDArray[np.float32]]] = {}
    matches: dict[tuple[str, str], list[NDArray[np.int64]]] = {}
    counts: dict[str, int] = {}
    for source in sources:
        with pycolmap.Database.open(source) as db:
            start = dict(counts)
            names = {i.image_id: i.name for i in db.read_all_images()}
            for image_id, name in names.items():
                own = db.read_keypoints(image_id)[:, :2].astype(np.float32)
                keypoints.setdefault(name, []).append(own)
                counts[name] = counts.get(name, 0) + len(own)
            ids, geometries = db.read_two_view_geometries()
            for pair_id, geometry in zip(ids, geometries, strict=True):
                a, b = (names[i] for i in pycolmap.pair_id_to_image_pair(pair_id))
                found = np.asarray(geometry.inlier_matches, dtype=np.int64).reshape(-1, 2)
                if len(found):
                    found = found + np.array([start.get(a, 0), start.get(b, 0)])
                    matches.setdefault((a, b) if a < b else (b, a), []).append(
                        found if a < b else found[:, ::-1]
                    )
    with pycolmap.Database.open(target) as db:
        ids_by_name = {i.name: i.image_id for i in db.read_all_images()}
        for clear in (
            db.clear_keypoints,
            db.clear_descriptors,
            db.clear_matches,
            db.clear_two_view_geometries,
        ):
            clear()
        for name, parts in keypoints.items():
            db.write_keypoints(ids_by_name[name], np.concatenate(parts))
        for (a, b), parts in matches.items():
            db.write_matches(ids_by_name[a], ids_by_name[b], np.concatenate(parts).astype(np.uint32))
    listing = target.with_suffix(".pairs.txt")
    listing.write_text("".join(f"{a} {b}\n" for a, b in sorted(matches)), encoding="ascii")
    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.random_seed = SEED
    pycolmap.set_random_seed(SEED)
    pycolmap.verify_matches(target, listing, verification)


def pipeline_options(settings: Settings) -> pycolmap.IncrementalPipelineOptions:
    """Mapping options with every seed fixed."""
    options = pycolmap.IncrementalPipelineOptions()
    options.num_threads = os.cpu_count() or 1
    options.random_seed = SEED
    options.mapper.random_seed = SEED
    options.triangulation.random_seed = SEED
    # The default of 10 throws away whole models of short bursts.
    options.min_model_size = 3
    for key, value in settings.mapper.items():
        setattr(options.mapper, key, value)
    return options


def map_images(
    database: Path, image_dir: Path, output: Path, settings: Settings
) -> list[pycolmap.Reconstruction]:
    """All models of one mapping, the one with most registered images first (it need not be COLMAP's first)."""
    output.mkdir(parents=True, exist_ok=True)
    pycolmap.set_random_seed(SEED)
    if settings.mapping == "global":
        models = pycolmap.global_mapping(database, image_dir, output, _global_options())
    else:
        models = pycolmap.incremental_mapping(database, image_dir, output, pipeline_options(settings))
    return sorted(models.values(), key=lambda m: (-m.num_reg_images(), -m.num_points3D()))


def _global_options() -> pycolmap.GlobalPipelineOptions:
    options = pycolmap.GlobalPipelineOptions()
    options.num_threads = os.cpu_count() or 1
    for part in (
        options,
        options.mapper,
        options.mapper.rotation_averaging,
        options.mapper.global_positioning,
        options.mapper.retriangulation,
    ):
        part.random_seed = SEED
    options.mapper.num_threads = os.cpu_count() or 1
    options.mapper.global_positioning.use_gpu = False
    options.mapper.bundle_adjustment.ceres.use_gpu = False
    return options


def keypoint_counts(database: Path) -> dict[str, int]:
    """Number of keypoints of each staged name. Images that COLMAP could not read are missing."""
    with pycolmap.Database.open(database) as db:
        return {i.name: db.num_keypoints_for_image(i.image_id) for i in db.read_all_images()}


def verified_pairs(database: Path) -> list[PairStats]:
    """All image pairs that survived geometric verification."""
    with pycolmap.Database.open(database) as db:
        names = {i.image_id: i.name for i in db.read_all_images()}
        ids, geometries = db.read_two_view_geometries()
        result = []
        for pair_id, geometry in zip(ids, geometries, strict=True):
            a, b = pycolmap.pair_id_to_image_pair(pair_id)
            if len(geometry.inlier_matches):
                result.append(PairStats(names[a], names[b], len(geometry.inlier_matches)))
        return result


def matched_keypoints(database: Path) -> int:
    """How many keypoints, over all images, take part in a verified match."""
    seen: set[tuple[int, int]] = set()
    with pycolmap.Database.open(database) as db:
        ids, geometries = db.read_two_view_geometries()
        for pair_id, geometry in zip(ids, geometries, strict=True):
            a, b = pycolmap.pair_id_to_image_pair(pair_id)
            for i, j in np.asarray(geometry.inlier_matches).reshape(-1, 2).tolist():
                seen |= {(a, i), (b, j)}
    return len(seen)


def matched_pairs(database: Path, limit: int = 60) -> list[MatchedPair]:
    """The verified matches of up to about `limit` pairs, spread evenly over all of them."""
    result = []
    with pycolmap.Database.open(database) as db:
        cameras = {i.image_id: db.read_camera(i.camera_id) for i in db.read_all_images()}
        ids, geometries = db.read_two_view_geometries()
        pairs = [(i, g) for i, g in zip(ids, geometries, strict=True) if len(g.inlier_matches)]
        for pair_id, geometry in pairs[:: -(-len(pairs) // limit) or 1]:
            sides = []
            for image_id, chosen in zip(
                pycolmap.pair_id_to_image_pair(pair_id), np.asarray(geometry.inlier_matches).T, strict=True
            ):
                camera = cameras[image_id]
                middle = [camera.principal_point_x, camera.principal_point_y]
                # Images of different sizes are brought to the scale of the first.
                scale = max(cameras[pycolmap.pair_id_to_image_pair(pair_id)[0]].width, 1) / camera.width
                sides.append((db.read_keypoints(image_id)[chosen, :2].astype(np.float64) - middle) * scale)
            first = cameras[pycolmap.pair_id_to_image_pair(pair_id)[0]]
            result.append(MatchedPair(sides[0], sides[1], int(max(first.width, first.height))))
    return result


def verified_keypoints(
    database: Path, first: str, second: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pixels [n, 2] of the verified matches of two images (staged names), in the order of the arguments."""
    with pycolmap.Database.open(database) as db:
        images = [db.read_image_with_name(n) for n in (first, second)]
        if any(i is None for i in images):
            return np.zeros((0, 2)), np.zeros((0, 2))
        a, b = (i.image_id for i in images)  # pyright: ignore[reportOptionalMemberAccess]
        if not db.exists_two_view_geometry(a, b):
            return np.zeros((0, 2)), np.zeros((0, 2))
        inliers = np.asarray(db.read_two_view_geometry(a, b).inlier_matches, dtype=np.int64).reshape(-1, 2)
        sides = [
            db.read_keypoints(i)[k, :2].astype(np.float64) for i, k in zip((a, b), inliers.T, strict=True)
        ]
    return sides[0], sides[1]


def explained_pairs(database: Path, model: pycolmap.Reconstruction) -> list[RayPair]:
    """The verified matches of every pair of registered images as viewing rays, with the model's relative pose."""
    images = {model.image(i).name: model.image(i) for i in model.reg_image_ids()}
    result = []
    with pycolmap.Database.open(database) as db:
        names = {i.image_id: i.name for i in db.read_all_images()}
        keypoints = {i: db.read_keypoints(i)[:, :2].astype(np.float64) for i in names if names[i] in images}
        ids, geometries = db.read_two_view_geometries()
        for pair_id, geometry in zip(ids, geometries, strict=True):
            both = pycolmap.pair_id_to_image_pair(pair_id)
            if not len(geometry.inlier_matches) or any(i not in keypoints for i in both):
                continue
            sides, poses_ = [], []
            for image_id, chosen in zip(both, np.asarray(geometry.inlier_matches).T, strict=True):
                image = images[names[image_id]]
                camera = model.camera(image.camera_id)
                sides.append(np.asarray(camera.cam_from_img(keypoints[image_id][chosen]), dtype=np.float64))
                poses_.append(as_matrix(image.cam_from_world()))  # pyright: ignore[reportArgumentType]
            focal = float(model.camera(images[names[both[0]]].camera_id).mean_focal_length())
            result.append(RayPair(sides[0], sides[1], poses_[1] @ np.linalg.inv(poses_[0]), focal))
    return result


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
    options.ceres.solver_options.num_threads = os.cpu_count() or 1
    pycolmap.bundle_adjustment(result, options)
    result.update_point_3d_errors()
    return result


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
        database, image_dir, output, pipeline_options(settings), input_path=begin
    )
    best = max(models.values(), key=lambda m: m.num_reg_images(), default=start)
    return best if best.num_reg_images() > start.num_reg_images() else start


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
    options.ceres.solver_options.num_threads = os.cpu_count() or 1
    pycolmap.bundle_adjustment(result, options)
    result.update_point_3d_errors()
    return result


def num_parameters(model: str) -> int:
    """How many parameters a camera model of COLMAP has. Raises ValueError for an unknown one."""
    if model not in pycolmap.CameraModelId.__members__ or model == "INVALID":
        raise ValueError(f"unknown camera model {model!r}")
    return len(pycolmap.Camera.create_from_model_name(1, model, 1.0, 10, 10).params)


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
    options = pipeline_options(Settings("triangulate"))
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
