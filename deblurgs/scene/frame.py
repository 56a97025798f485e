"""One observed photo of a capture and what is known about it before optimisation."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Split = Literal["train", "test"]

EXTENT_SHARE = 0.55
"""The blur's length as triage estimates it over the true one: median over known camera paths (docs/triage.md)."""


@dataclass(frozen=True)
class FrameBlur:
    """What triage tells of one frame within its sequence.

    percentile: 0 for the sharpest frame, 1 for the most blurred. extent_px: estimated length of the blur in pixels of
    the frame, rough and too small (`EXTENT_SHARE`); None for a blank frame.
    """

    percentile: float
    extent_px: float | None

    @property
    def path_px(self) -> float | None:
        """Estimated length in pixels of the camera's path during the exposure."""
        return None if self.extent_px is None else self.extent_px / EXTENT_SHARE


@dataclass(frozen=True)
class Frame:
    """One upright RGB image of a capture. No pixels are held, only where they lie.

    name: unique, the user's file name or `<video frame number>.png`; outputs are named after its stem.
    path: the upright 8- or 16-bit sRGB image on disk. width, height: its size in pixels.
    time_s: presentation time for video, None for photos. sharpness: higher is sharper, comparable within one
    capture only. split: "test" frames are held out and never reach training. exposure_s: how long the
    shutter was open, as the camera wrote it down (EXIF). camera: what took it, as far as known (EXIF maker, model,
    focal length): frames of one camera and size share their lens. blur: what triage found; None where it did not look.
    """

    name: str
    path: Path
    width: int
    height: int
    time_s: float | None = None
    sharpness: float | None = None
    split: Split = "train"
    exposure_s: float | None = None
    camera: str | None = None
    blur: FrameBlur | None = None

    @property
    def stem(self) -> str:
        return self.name.rsplit(".", 1)[0]
