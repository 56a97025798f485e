"""The frames as the SfM child sees them: under our own file names in one folder, and the settings of one attempt."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

DEFAULT_FEATURE_SIDE = 1000


@dataclass(frozen=True)
class FrameFile:
    """One frame as the child sees it: our own staged file name, the user's name, its size in pixels, and where there
    is one the mask of its opaque pixels (8-bit image of the same size, 0 = not part of the photo). camera: what took
    it, where that is known; frames of another camera have another lens though their size be the same. path_px: about
    how long its blur is, where triage told."""

    staged: str
    name: str
    path: Path
    width: int
    height: int
    time_s: float | None = None
    mask: Path | None = None
    camera: str | None = None
    path_px: float | None = None


@dataclass(frozen=True)
class Settings:
    """What an attempt changes against COLMAP's defaults: options of features, matching, mapping and its triangulation
    by their name.

    features: key of the feature database; attempts with equal `sift`, `matching` and `restored` share one.
    parts: attempts whose features and matches are taken together; held-out images are registered with those of the
    first, whose `sift` is repeated here.
    mapping: image by image, or all at once from the graph of image pairs. restored: features are found on restored
    copies of the frames. max_image_size: longer side in pixels at which features are found.
    """

    name: str
    sift: Mapping[str, Any] = field(default_factory=dict)
    matching: Mapping[str, Any] = field(default_factory=dict)
    mapper: Mapping[str, Any] = field(default_factory=dict)
    triangulation: Mapping[str, Any] = field(default_factory=dict)
    mapping: Literal["incremental", "global"] = "incremental"
    features: str = "features"
    restored: bool = False
    parts: tuple["Settings", ...] = ()
    max_image_size: int = DEFAULT_FEATURE_SIDE


def stage_images(frames: Sequence[FrameFile], folder: Path) -> None:
    """Put the frames under our own names into one folder (links, or copies where links are not allowed), and their
    masks into another, see `mask_folder`.

    COLMAP's pair lists are separated by blanks, so the user's file names must not reach them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    masks = mask_folder(folder)
    shutil.rmtree(masks, ignore_errors=True)
    for frame in frames:
        _link(frame.path, folder / frame.staged)
        if frame.mask is not None:
            masks.mkdir(exist_ok=True)
            _link(frame.mask, masks / f"{frame.staged}.png")


def mask_folder(images: Path) -> Path:
    """Where COLMAP finds the masks of staged images: one PNG per masked image, named after it. May not exist."""
    return images.with_name(f"{images.name}_masks")


def _link(source: Path, target: Path) -> None:
    if target.is_symlink() or target.exists():
        target.unlink()
    try:
        target.symlink_to(source.resolve())
    except OSError:
        shutil.copyfile(source, target)
