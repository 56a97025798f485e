"""Matching features, and reading what a database holds of matches."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap
from numpy.typing import NDArray

from deblurgs.sfm.colmap.model import as_matrix
from deblurgs.sfm.colmap.repeatable import SEED
from deblurgs.sfm.parallax import MatchedPair
from deblurgs.sfm.staging import Settings
from deblurgs.sfm.support import RayPair


@dataclass(frozen=True)
class PairStats:
    """One verified image pair: staged names and number of inliers."""

    first: str
    second: str
    num_inliers: int


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
