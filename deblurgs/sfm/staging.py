"""The frames as the SfM child sees them: under our own file names in one folder, and the settings of one attempt."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


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
    """What a rung of the ladder changes against COLMAP's defaults."""

    name: str
    sift: Mapping[str, Any] = field(default_factory=dict)
    mapper: Mapping[str, Any] = field(default_factory=dict)
    max_image_size: int = 1000


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
