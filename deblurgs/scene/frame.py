"""One observed photo of a capture and what is known about it before optimisation."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Split = Literal["train", "test"]


@dataclass(frozen=True)
class Frame:
    """One upright RGB image of a capture. No pixels are held, only where they lie.

    name: unique, the user's file name or `<video frame number>.png`; outputs are named after its stem.
    path: the upright 8- or 16-bit sRGB image on disk. width, height: its size in pixels.
    time_s: presentation time for video, None for photos. sharpness: higher is sharper, comparable within one
    capture only. split: "test" frames are held out and never reach training. exposure_s: how long the
    shutter was open, as the camera wrote it down (EXIF). camera: what took it, as far as known (EXIF maker, model,
    focal length): frames of one camera and size share their lens.
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

    @property
    def stem(self) -> str:
        return self.name.rsplit(".", 1)[0]
