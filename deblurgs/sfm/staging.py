"""The frames as the SfM child sees them: under our own file names in one folder, and the settings of one attempt."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

DEFAULT_FEATURE_SIDE = 1000


@dataclass(frozen=True)
class FrameFile:
    """One frame as the child sees it: our own staged file name, the user's name, and its size in pixels."""

    staged: str
    name: str
    path: Path
    width: int
    height: int
    time_s: float | None = None


@dataclass(frozen=True)
class Settings:
    """What an attempt changes against COLMAP's defaults: options of features, matching and mapping by their name.

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
    mapping: Literal["incremental", "global"] = "incremental"
    features: str = "features"
    restored: bool = False
    parts: tuple["Settings", ...] = ()
    max_image_size: int = DEFAULT_FEATURE_SIDE


def stage_images(frames: Sequence[FrameFile], folder: Path) -> None:
    """Put the frames under our own names into one folder (links, or copies where links are not allowed).

    COLMAP's pair lists are separated by blanks, so the user's file names must not reach them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for frame in frames:
        target = folder / frame.staged
        if target.is_symlink() or target.exists():
            target.unlink()
        try:
            target.symlink_to(frame.path.resolve())
        except OSError:
            shutil.copyfile(frame.path, target)
