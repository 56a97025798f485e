"""Folders of photos -> stored frames, held-out views, sharp twins, masks and the camera model that came
along.
"""

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deblurgs.capture import dataset, triage
from deblurgs.capture.dataset import Capture
from deblurgs.capture.detect import Source
from deblurgs.capture.given import views_json
from deblurgs.capture.greys import grey_picture
from deblurgs.capture.image import write_png
from deblurgs.capture.llff import read_poses_bounds
from deblurgs.capture.mask import MaskMismatchError, masked
from deblurgs.capture.names import FrameNames
from deblurgs.capture.photo import Photo, UnusablePhoto, decode_photo
from deblurgs.errors import CaptureError, SfmError
from deblurgs.log import Log
from deblurgs.math.patches import fine_detail
from deblurgs.scene.frame import Frame, Split

_MODEL_PARTS = ("cameras", "images", "points3D", "rigs", "frames")
_MODEL_FILES = frozenset(part + suffix for part in _MODEL_PARTS for suffix in (".bin", ".txt"))


@dataclass(frozen=True)
class _Candidate:
    """A photo that can be used, known after one decoding; the pixels are not kept."""

    source: str
    path: Path
    digest: str
    sharpness: float
    detail: float
    position: float


def store_photos(found: Source, out_dir: Path, max_frames: int, max_pixels: float, log: Log) -> Capture:
    """Decode, check and store a folder source below `out_dir` (an empty staging folder). See `ingest`."""
    store = _Store(found, out_dir, max_pixels, log)
    for name, reason in found.ignored:
        store.drop(name, reason)
    candidates, motion = store.examine()
    unique = store.without_duplicates(candidates, motion)
    chosen = _choose(unique, max_frames, store)
    store.write_triage(candidates, chosen)
    frames = [store.frame(c.source, c.path, "frames", "train", c.sharpness) for c in chosen]
    tests = [store.frame(name, path, "test", "test", None) for name, path in found.tests.items()]
    capture = Capture(
        found.kind, [f for f in frames if f], [f for f in tests if f], store.dropped,
        twins=store.twins, masks=store.masks, source_names=store.sources,
        given_model=store.copy_model(), truth=store.copy_truth(),
    )  # fmt: skip
    return Capture(
        **{**vars(capture), "given_poses": store.write_views(capture) or store.convert_llff(capture)}
    )


def _choose(candidates: list[_Candidate], max_frames: int, store: "_Store") -> list[_Candidate]:
    if len(candidates) <= max_frames:
        return candidates
    picked = set(
        triage.choose_frames(
            [c.position for c in candidates], [c.detail for c in candidates], max_frames, 1e-4
        )
    )
    for index, candidate in enumerate(candidates):
        if index not in picked:
            store.drop(candidate.source, "not needed: more than --max-frames photos")
    store.log.info(f"{len(picked)} of {len(candidates)} photos chosen (--max-frames)")
    return [c for index, c in enumerate(candidates) if index in picked]


class _Store:
    """The state of one ingestion: names given so far, what was dropped and why."""

    def __init__(self, found: Source, out_dir: Path, max_pixels: float, log: Log) -> None:
        self.found, self.out_dir, self.max_pixels, self.log = found, out_dir, max_pixels, log
        self.names = FrameNames()
        self.dropped: list[tuple[str, str]] = []
        self.sources: dict[str, str] = {}
        self.twins: dict[str, Path] = {}
        self.masks: dict[str, Path] = {}

    def drop(self, name: str, reason: str) -> None:
        self.dropped.append((name, reason))

    def decode(self, path: Path) -> Photo:
        # COLMAP ignores EXIF orientation, so photos of an existing model stay as COLMAP saw them.
        posed = self.found.given_model is not None or bool(self.found.views)
        photo = decode_photo(path, self.max_pixels, apply_orientation=not posed)
        if photo.orientation != 1 and posed:
            self.log.warn(
                "photos carry an EXIF rotation that COLMAP ignores; it is not applied, so that the given model fits"
            )
        return photo

    def examine(self) -> tuple[list[_Candidate], triage.MotionPath]:
        """First pass: decode every photo once. Raises CaptureError when most of them are unusable."""
        candidates: list[_Candidate] = []
        motion = triage.MotionPath()
        damaged = 0
        total = len(self.found.photos)
        with self.log.progress("reading photos", total) as bar:
            for done, (name, path) in enumerate(self.found.photos.items()):
                try:
                    photo = self.decode(path)
                except UnusablePhoto as error:
                    damaged += 1
                    self.drop(name, str(error))
                    self.log.warn(f"{_shown(name)} is left out: {error}")
                    continue
                finally:
                    bar.update(done + 1)
                for note in photo.notes:
                    self.log.warn(f"{_shown(name)}: {note}")
                small = grey_picture(name, photo.pixels, triage.SHARPNESS_SIDE).grey
                candidates.append(
                    _Candidate(
                        name, path, _digest(photo.pixels), triage.sharpness(small), fine_detail(small),
                        motion.push(triage.motion_picture(small)),
                    )
                )  # fmt: skip
        if damaged * 2 > total:
            first = "; ".join(f"{_shown(name)}: {reason}" for name, reason in self.dropped[:3])
            raise CaptureError(
                f"{self.found.root}: {damaged} of {total} images cannot be used ({first}). Copy them again or "
                "remove the damaged ones"
            )
        return candidates, motion

    def without_duplicates(self, candidates: list[_Candidate], motion: triage.MotionPath) -> list[_Candidate]:
        """Keep one of each set of equal photos, none that equals a held-out view. Raises SfmError if none
        moved.
        """
        held = {}
        for name, path in self.found.tests.items():
            try:
                held[_digest(self.decode(path).pixels)] = name
            except UnusablePhoto:
                continue  # `frame` decodes it again and reports it.
        first: dict[str, str] = {}
        unique: list[_Candidate] = []
        for candidate in candidates:
            if candidate.digest in held:
                self.drop(candidate.source, f"duplicate of the held-out view {held[candidate.digest]}")
                self.log.warn(f"{_shown(candidate.source)} is left out: it equals a held-out view")
            elif candidate.digest in first:
                self.drop(candidate.source, f"duplicate of {first[candidate.digest]}")
            else:
                first[candidate.digest] = candidate.source
                unique.append(candidate)
        count = len(candidates)
        if len(unique) < count:
            self.log.warn(f"{count - len(unique)} of {count} photos are duplicates and left out")
        if count >= 3 and (len(unique) == 1 or (len(unique) >= 3 and motion.is_static)):
            raise no_motion(f"all {count} photos show the same picture", unique[0].sharpness == 0.0)
        return unique

    def frame(self, source: str, path: Path, folder: str, split: Split, score: float | None) -> Frame | None:
        """Second pass: store one photo with its mask and twin. None when the file became unusable meanwhile."""
        try:
            photo = self.decode(path)
            if split == "train" and source in self.found.masks:
                photo = self._masked(photo, source)
        except UnusablePhoto as error:
            self.drop(source, str(error))
            self.log.warn(f"{_shown(source)} is left out: {error}")
            return None
        name = self.names.add(source)
        place = self.out_dir / folder
        place.mkdir(exist_ok=True)
        stored = place / f"{len(self.sources):06d}.png"
        write_png(stored, photo.pixels)
        self.sources[name] = source
        height, width = photo.pixels.shape[:2]
        if photo.mask is not None and split == "train":
            (self.out_dir / "masks").mkdir(exist_ok=True)
            self.masks[name] = self.out_dir / "masks" / stored.name
            write_png(self.masks[name], photo.mask.astype(np.uint8) * np.uint8(255))
        if split == "train" and source in self.found.sharp:
            self._store_twin(name, self.found.sharp[source], stored.name, (height, width))
        return Frame(name, stored, width, height, None, score, split, photo.exposure_s, photo.camera)

    def _masked(self, photo: Photo, source: str) -> Photo:
        """The photo with the mask that lies beside it. Raises UnusablePhoto when nothing would be left."""
        try:
            return masked(photo, self.found.masks[source], self.max_pixels)
        except MaskMismatchError as error:
            self.log.warn(f"the mask of {_shown(source)} is not used: {error}")
            return photo

    def _store_twin(self, name: str, path: Path, stored: str, shape: tuple[int, int]) -> None:
        try:
            twin = self.decode(path)
        except UnusablePhoto as error:
            self.log.warn(f"the sharp twin {_shown(path.name)} is left out: {error}")
            return
        if twin.pixels.shape[:2] != shape:
            self.log.warn(
                f"the sharp twin {_shown(path.name)} has another size than its photo and is left out"
            )
            return
        (self.out_dir / "sharp").mkdir(exist_ok=True)
        self.twins[name] = self.out_dir / "sharp" / stored
        write_png(self.twins[name], twin.pixels)

    def write_triage(self, candidates: list[_Candidate], chosen: list[_Candidate]) -> None:
        kept = {c.source for c in chosen}
        rows = [
            {
                "name": c.source, "sharpness": c.sharpness, "detail": c.detail, "motion": c.position,
                "kept": c.source in kept,
            }
            for c in candidates
        ]  # fmt: skip
        dataset.write_json(self.out_dir / dataset.TRIAGE_FILE, {"candidates": rows})

    def copy_model(self) -> Path | None:
        if self.found.given_model is None:
            return None
        target = self.out_dir / "given_sparse"
        target.mkdir()
        for file in sorted(self.found.given_model.iterdir()):
            if file.name in _MODEL_FILES and file.is_file():
                shutil.copyfile(file, target / file.name)
        return target

    def copy_truth(self) -> Path | None:
        if self.found.truth is None:
            return None
        target = self.out_dir / "truth" / "cameras.json"
        target.parent.mkdir()
        shutil.copyfile(self.found.truth, target)
        return target

    def write_views(self, capture: Capture) -> Path | None:
        """Lenses and poses of a transforms.json or Polycam folder, by our frame names."""
        if not self.found.views:
            return None
        frames = [*capture.frames, *capture.test_frames]
        named = {f.name: self.found.views[capture.source_names[f.name]] for f in frames}
        path = self.out_dir / dataset.GIVEN_POSES_FILE
        dataset.write_json(path, views_json(named, {f.name: (f.width, f.height) for f in frames}))
        return path

    def convert_llff(self, capture: Capture) -> Path | None:
        """LLFF poses are used only without a COLMAP model, which knows more (distortion, points)."""
        if self.found.poses_bounds is None or self.found.given_model is not None:
            return None
        frames = [*capture.frames, *capture.test_frames]
        sizes = {(f.width, f.height) for f in frames}
        if len(sizes) != 1:
            self.log.warn(
                "poses_bounds.npy is not used: the images have different sizes, or none could be read"
            )
            return None
        width, height = sizes.pop()
        poses = read_poses_bounds(self.found.poses_bounds, self.found.llff_names, width, height)
        by_source = {source: name for name, source in capture.source_names.items()}
        named = {by_source[s]: matrix for s, matrix in poses.frames.items() if s in by_source}
        path = self.out_dir / dataset.GIVEN_POSES_FILE
        dataset.write_json(path, {**poses.as_json(), "frames": {n: m.tolist() for n, m in named.items()}})
        return path


def no_motion(what: str, blank: bool) -> SfmError:
    """The error for captures from which no depth can follow."""
    if blank:
        return SfmError(f"no features: {what}, and it is blank. Film something with texture")
    return SfmError(
        f"no parallax: camera did not move ({what}). Depth needs photos from different places: walk around the subject"
    )


def _digest(pixels: NDArray[np.generic]) -> str:
    head = f"{pixels.shape} {pixels.dtype} ".encode()
    return hashlib.sha256(head + np.ascontiguousarray(pixels).tobytes()).hexdigest()


def _shown(name: str) -> str:
    """A file name without characters that could steer a terminal."""
    return "".join(c if c.isprintable() else "?" for c in name)[:120]
