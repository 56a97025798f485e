"""What is SOURCE? A video, a folder of photos, a COLMAP project, a Deblur-NeRF folder or a folder of twins.

Only names and first bytes are looked at here; nothing is decoded.
"""

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from deblurgs.capture import transforms
from deblurgs.capture.given import GivenView
from deblurgs.capture.polycam import polycam_folders, read_polycam
from deblurgs.errors import CaptureError, TooFewFramesError, UsageError
from deblurgs.files import DEBLURRED, MANIFEST, RUNS, UPSCALED, is_run_folder

Kind = Literal["video", "images", "colmap", "deblurnerf", "twins", "transforms", "polycam"]

IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".avif", ".heic", ".heif", ".gif", ".bmp")
)
VIDEO_SUFFIXES = frozenset((".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mts", ".m2ts", ".ts"))
RAW_SUFFIXES = frozenset((".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf"))
MASK_FOLDER = "masks"
_MAX_ENTRIES = 200_000
_MAX_DEPTH = 8


@dataclass(frozen=True)
class Source:
    """Where the parts of a capture lie. Paths are the user's; file names are data.

    photos, tests: image files in natural order (empty for video); names are relative to `root`, with slashes.
    sharp: name -> sharp twin of the photo with the same stem. given_model: folder with a COLMAP model.
    poses_bounds: LLFF file. views: name -> lens and pose. masks: name -> image that is black where the photo is to be
    ignored. llff_names: the file names that its rows belong to. ignored: (name, reason).
    """

    kind: Kind
    root: Path
    container: str | None = None
    photos: dict[str, Path] = field(default_factory=dict)
    tests: dict[str, Path] = field(default_factory=dict)
    sharp: dict[str, Path] = field(default_factory=dict)
    given_model: Path | None = None
    poses_bounds: Path | None = None
    llff_names: list[str] = field(default_factory=list)
    truth: Path | None = None
    ignored: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    views: dict[str, GivenView] = field(default_factory=dict)
    masks: dict[str, Path] = field(default_factory=dict)


def detect_source(source: Path, images: str | None = None, exclude: Path | None = None) -> Source:
    """Recognise SOURCE. images: name of the image folder to use (`images_4`) when there are several.

    exclude: a folder (the output) that is never searched. Raises CaptureError with what was found instead.
    """
    try:
        mode = source.stat().st_mode
    except OSError as error:
        raise CaptureError(f"cannot open {source}: {error.strerror}") from error
    if stat.S_ISDIR(mode):
        return _detect_folder(source, images, exclude)
    if not stat.S_ISREG(mode):
        raise CaptureError(
            f"{source} is not a regular file (a pipe, socket or device); give a video file or a folder"
        )
    if source.suffix.lower() == ".json":
        return _with_views("transforms", source.parent, transforms.read_transforms(source))
    if source.suffix.lower() in RAW_SUFFIXES:
        raise TooFewFramesError(_single_image(source))  # some begin like an mp4, some like nothing else
    return Source("video", source, container=_video_container(source))


def natural_key(name: str) -> tuple[list[tuple[str, int]], str]:
    """Sort key with numbers compared as numbers, case ignored: img2 < img10. The name itself breaks ties."""
    parts = re.split(r"([0-9]+)", name.lower())
    return [(text, int(number[:4000]) if number else 0) for text, number in _pairs(parts)], name


def _pairs(parts: list[str]) -> list[tuple[str, str]]:
    return [(parts[i], parts[i + 1] if i + 1 < len(parts) else "") for i in range(0, len(parts), 2)]


def _video_container(path: Path) -> str:
    """The FFmpeg demuxer for the file's first bytes. Raises CaptureError in plain words for everything else."""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise CaptureError(f"cannot open {path}: {error.strerror}") from error
    if not head:
        raise CaptureError(f"{path} is not a video (0 bytes)")
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"mif1", b"avif", b"msf1", b"avis"):
        raise TooFewFramesError(_single_image(path))
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"):
        return "mov"
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return "matroska"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    if head[:1] == b"\x47" and head[188:189] == b"\x47":
        return "mpegts"
    if head[4:5] == b"\x47" and head[196:197] == b"\x47":
        return "mpegts"
    magics = (b"\xff\xd8\xff", b"\x89PNG", b"II*\0", b"MM\0*", b"GIF8", b"BM")
    if head.startswith(magics) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        raise TooFewFramesError(_single_image(path))
    if head[:2] == b"PK":
        raise CaptureError(f"{path} is an archive; unpack it and give the folder")
    looks_like_text = b"\0" not in head and sum(b < 9 or 13 < b < 32 for b in head) == 0
    what = "its content is text" if looks_like_text else "its content is of no known video format"
    raise CaptureError(
        f"{path} is not a video (invalid data: {what}); mp4, mov, mkv, webm, avi and ts files can be read, "
        "and folders of images"
    )


def _single_image(path: Path) -> str:
    return (
        f"{path} is a single image: 3-D needs several frames; give a video or a folder with at least 3 photos"
    )


def _detect_folder(root: Path, images: str | None, exclude: Path | None) -> Source:
    try:
        names = _names(root)
    except OSError as error:
        raise CaptureError(f"cannot read the folder {root}: {error.strerror}") from error
    folders = {name for name in names if (root / name).is_dir()}
    if (pair := polycam_folders(root)) is not None:
        return _with_views("polycam", root, read_polycam(root, *pair))
    # A COLMAP model knows more: it has points.
    if transforms.FILE_NAME in names and images is None and _colmap_model(root) is None:
        return _with_views("transforms", root, transforms.read_transforms(root / transforms.FILE_NAME))
    image_folder = _image_folder(root, folders, images)
    if image_folder is None:
        ignored: list[tuple[str, str]] = []
        photos, warnings = _list_photos(root, exclude, ignored)
        if not photos:
            raise CaptureError(_nothing_found(root, names, ignored))
        masks = _masks(root / MASK_FOLDER, photos)
        return Source("images", root, photos=photos, ignored=ignored, warnings=warnings, masks=masks)

    ignored, warnings = [], []
    photos, more = _list_photos(root / image_folder, exclude, ignored)
    warnings += more
    if not photos:
        raise CaptureError(_nothing_found(root / image_folder, _names(root / image_folder), ignored))
    tests: dict[str, Path] = {}
    sharp: dict[str, Path] = {}
    model = _colmap_model(root)
    bounds = root / "poses_bounds.npy"
    poses_bounds = bounds if bounds.is_file() else None
    hold = _hold(names)
    truth = root / "cameras.json"
    kind: Kind = "images"
    all_names = list(photos)
    if "sharp" in folders or "test" in folders:
        kind = "twins"
        if "test" in folders:
            tests, more = _list_photos(root / "test", exclude, ignored)
            warnings += more
        if "sharp" in folders:
            twins, _ = _list_photos(root / "sharp", exclude, ignored)
            by_stem = {_stem(name): path for name, path in twins.items()}
            sharp = {name: by_stem[_stem(name)] for name in photos if _stem(name) in by_stem}
        leaked = {_stem(name) for name in tests} & {_stem(name) for name in photos}
        if leaked:
            warnings.append(
                f"{len(leaked)} file names occur in images/ and in test/; they are taken as different views"
            )
    elif poses_bounds is not None or hold is not None:
        kind = "deblurnerf"
        if hold is not None:
            held = set(all_names[::hold])
            tests = {name: photos[name] for name in all_names if name in held}
            photos = {name: photos[name] for name in all_names if name not in held}
    elif model is not None:
        kind = "colmap"
    return Source(
        kind, root, photos=photos, tests=tests, sharp=sharp, given_model=model, poses_bounds=poses_bounds,
        llff_names=sorted(all_names), truth=truth if kind == "twins" and truth.is_file() else None,
        ignored=ignored, warnings=warnings, masks=_masks(root / MASK_FOLDER, photos),
    )  # fmt: skip


def _with_views(kind: Kind, root: Path, found: transforms.Transforms) -> Source:
    """Photos, lenses and poses of a file; photos in natural order."""
    photos = dict(sorted(found.photos.items(), key=lambda item: natural_key(item[0])))
    lost = [f"{len(found.left_out)} frames are left out: {n[:80]}: {r}" for n, r in found.left_out[:1]]
    return Source(
        kind, root, photos=photos, ignored=list(found.left_out), warnings=lost,
        views=found.views, masks=_masks(root / MASK_FOLDER, photos) | found.masks,
    )  # fmt: skip


def _masks(folder: Path, photos: dict[str, Path]) -> dict[str, Path]:
    """Masks by COLMAP's rule, masks/<name of the photo>.png, or with the photo's stem: masks/<stem>.png."""
    found = {}
    for name in photos if folder.is_dir() else ():
        bare = name.removeprefix("images/")
        for candidate in (f"{bare}.png", f"{_stem(bare)}.png"):
            if (folder / candidate).is_file():
                found[name] = folder / candidate
                break
    return found


def _image_folder(root: Path, folders: set[str], wanted: str | None) -> str | None:
    """`images`, else the least reduced `images_k`, when the folder is laid out as a project; None for plain
    photos.
    """
    if wanted is not None:
        if wanted not in folders:
            raise UsageError(f"{root} has no image folder named {wanted}")
        return wanted
    reduced = sorted((int(m[1]), m[0]) for f in folders if (m := re.fullmatch(r"images_([0-9]{1,3})", f)))
    candidates = [f for f in ("images",) if f in folders] + [name for _, name in reduced]
    for name in candidates:
        if any(Path(entry).suffix.lower() in IMAGE_SUFFIXES for entry in _names(root / name)):
            return name
    return None


def _colmap_model(root: Path) -> Path | None:
    for place in ("sparse/0", "sparse", "colmap/sparse/0"):
        folder = root / place
        for suffix in (".bin", ".txt"):
            if all((folder / f"{part}{suffix}").is_file() for part in ("cameras", "images", "points3D")):
                return folder
    return None


def _hold(names: list[str]) -> int | None:
    """k of the marker file `hold=k`: every k-th image, beginning with the first, is a held-out view."""
    for name in names:
        if match := re.fullmatch(r"hold=([0-9]{1,6})", name):
            k = int(match[1])
            if k < 2:
                raise CaptureError(
                    f"marker file {name}: k must be at least 2, otherwise every image is held out"
                )
            return k
    return None


def _list_photos(
    folder: Path, exclude: Path | None, ignored: list[tuple[str, str]]
) -> tuple[dict[str, Path], list[str]]:
    """Image files in natural order. Subfolders are searched only when the folder itself holds no image.

    Links to folders are not followed, so loops end. What is left out is added to `ignored` unless it is
    hidden.
    """
    top = _scan(folder, _names(folder), ignored)
    if top:
        deeper = sum(
            1 for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".") and p.name != MASK_FOLDER
        )
        notes = (
            [f"{_called(folder)}: {deeper} subfolders are not searched, the folder holds images itself"]
            if deeper
            else []
        )
        return top, notes
    found: dict[str, Path] = {}
    ours: list[str] = []
    entries = 0
    barred = exclude.resolve() if exclude is not None else None
    for place, folders, files in os.walk(folder, followlinks=False):
        here = Path(place)
        depth = len(here.relative_to(folder).parts)
        skipped = [here / d for d in folders if _holds_results(here / d)]
        # That the command's own folder is left out goes without saying.
        own = [p for p in skipped if barred is not None and barred.is_relative_to(p.resolve())]
        ours += [p.relative_to(folder).as_posix() for p in skipped if p not in own]
        folders[:] = sorted(
            d for d in folders
            if not d.startswith((".", "__MACOSX")) and d != MASK_FOLDER and depth < _MAX_DEPTH
            and (here / d).resolve() != barred and not _holds_results(here / d)
        )  # fmt: skip
        entries += len(files) + len(folders)
        if entries > _MAX_ENTRIES:
            raise CaptureError(
                f"{folder} holds more than {_MAX_ENTRIES} files; give the folder with the photos"
            )
        if depth > 0:
            relative = here.relative_to(folder)
            found |= _scan(folder, [(relative / f).as_posix() for f in files], ignored)
    notes = [f"{_called(folder)}: earlier results are not searched: {', '.join(sorted(ours)[:8])}"]
    return dict(sorted(found.items(), key=lambda item: natural_key(item[0]))), notes if found and ours else []


def _holds_results(folder: Path) -> bool:
    """Whether deblurgs filled this folder: what it made of a capture must not become part of one."""
    return folder.name in (RUNS, DEBLURRED, UPSCALED) or (
        (folder / MANIFEST).is_file() and ((folder / "renders").is_dir() or is_run_folder(folder))
    )


def _scan(folder: Path, names: list[str], ignored: list[tuple[str, str]]) -> dict[str, Path]:
    found = {}
    for name in sorted(names, key=natural_key):
        path = folder / name
        suffix = path.suffix.lower()
        if path.name.startswith(".") or path.is_dir():
            continue
        if suffix in IMAGE_SUFFIXES or suffix in RAW_SUFFIXES:
            try:
                regular = stat.S_ISREG(path.stat().st_mode)
            except OSError as error:
                ignored.append((name, f"cannot be opened ({error.strerror})"))
                continue
            if regular:
                found[name] = path
            else:
                ignored.append((name, "not a regular file"))
    return found


def _called(folder: Path) -> str:
    """The folder's own name, also of `.` and `..`."""
    return folder.resolve().name or str(folder)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _stem(name: str) -> str:
    return name.rsplit(".", 1)[0]


def _nothing_found(folder: Path, names: list[str], ignored: list[tuple[str, str]]) -> str:
    """What lies there instead of images, so that the user sees the mistake."""
    if not names:
        return f"the folder {folder} is empty: there is neither a photo nor a video in it"
    suffixes: dict[str, int] = {}
    for name in names:
        kind = "folder" if (folder / name).is_dir() else (Path(name).suffix.lower() or "no suffix")
        suffixes[kind] = suffixes.get(kind, 0) + 1
    found = ", ".join(
        f"{count} x {kind}" for kind, count in sorted(suffixes.items(), key=lambda i: -i[1])[:8]
    )
    text = f"{folder} holds no usable images; found: {found}"
    videos = [name for name in names if Path(name).suffix.lower() in VIDEO_SUFFIXES]
    if videos:
        text += f". It holds a video: give the file itself ({folder / videos[0]})"
    if ignored:
        text += f". Left out: {ignored[0][0]} ({ignored[0][1]})"
    return text


def list_photos(folder: Path) -> tuple[dict[str, Path], list[tuple[str, str]]]:
    """Image files of a folder in natural order by relative name, and (name, reason) of what is left out.

    Subfolders are searched only when the folder itself holds no image; links to folders are not followed. Raises
    CaptureError, saying what lies there instead, when there is no image at all.
    """
    ignored: list[tuple[str, str]] = []
    found, notes = _list_photos(folder, None, ignored)
    if not found:
        raise CaptureError(_nothing_found(folder, _names(folder), ignored))
    told = [note.partition(": ") for note in notes]
    return found, ignored + [(name, reason) for name, _, reason in told]
