"""Any source as a sequence of small grey pictures: what triage looks at. Pixels of one frame at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deblurgs.capture.dataset import Capture
from deblurgs.capture.detect import IMAGE_SUFFIXES, RAW_SUFFIXES, Source, detect_source
from deblurgs.capture.image import Pixels, read_pixels, to_8_bit
from deblurgs.capture.photo import UnusablePhoto, decode_photo
from deblurgs.errors import CaptureError
from deblurgs.log import Log


@dataclass(frozen=True)
class GreyFrame:
    """grey [h,w] float32 in [0,1], upright, longer side at most as asked for; width, height: of the frame itself."""

    name: str
    grey: NDArray[np.float32]
    width: int
    height: int


def grey_picture(name: str, pixels: Pixels, longer_side: int) -> GreyFrame:
    """sRGB [H,W,3] -> luma, area-averaged (never enlarged)."""
    image = Image.fromarray(to_8_bit(pixels)).convert("L")
    scale = min(1.0, longer_side / max(image.size))
    size = (max(round(image.width * scale), 1), max(round(image.height * scale), 1))
    small = image if size == image.size else image.resize(size, Image.Resampling.BOX)
    return GreyFrame(name, np.asarray(small, np.float32) / np.float32(255.0), image.width, image.height)


def stored_greys(capture: Capture, longer_side: int) -> Iterator[GreyFrame]:
    """The training frames of a run folder. Raises CaptureError for a damaged one."""
    for frame in capture.frames:
        yield grey_picture(frame.name, read_pixels(frame.path), longer_side)


def source_greys(
    source: Path, longer_side: int, *, max_frames: int, max_pixels: float, log: Log
) -> Iterator[GreyFrame]:
    """The frames of a picture, a folder or a video, in order; an even choice of at most `max_frames`.

    Unusable photos are reported and left out; damage ends a video with a warning. Raises CaptureError when nothing can
    be read.
    """
    if source.is_file() and source.suffix.lower() in IMAGE_SUFFIXES | RAW_SUFFIXES:
        yield from _photos({source.name: source}, source, longer_side, max_pixels, log)
        return
    found = detect_source(source)
    for text in found.warnings:
        log.warn(text)
    if found.kind == "video":
        yield from _video(found, longer_side, max_frames, max_pixels, log)
        return
    names = list(found.photos)
    if len(names) > max_frames:
        log.warn(f"{source}: {max_frames} of {len(names)} photos are looked at (--max-frames)")
        names = [names[round(i * (len(names) - 1) / max(max_frames - 1, 1))] for i in range(max_frames)]
    yield from _photos({name: found.photos[name] for name in names}, source, longer_side, max_pixels, log)


def _photos(
    photos: dict[str, Path], source: Path, longer_side: int, max_pixels: float, log: Log
) -> Iterator[GreyFrame]:
    used, reason = 0, ""
    for name, path in photos.items():
        try:
            pixels = decode_photo(path, max_pixels).pixels
        except UnusablePhoto as error:
            reason = str(error)
            log.warn(f"{name} is left out: {reason}")
            continue
        used += 1
        yield grey_picture(name, pixels, longer_side)
    if not used:
        raise CaptureError(
            f"{source}: no picture could be read ({reason}); copy it again or give another one"
        )


def _video(
    found: Source, longer_side: int, max_frames: int, max_pixels: float, log: Log
) -> Iterator[GreyFrame]:
    from deblurgs.capture.video import VideoReader, apply_display_matrix, display_matrix, grey_proxy

    if found.container is None:
        raise ValueError("not a video source")
    reader = VideoReader(found.root, found.container, log, max_pixels=max_pixels)
    step = max(-(-min(reader.claimed or 0, reader.max_decoded) // max_frames), 1)
    used = 0
    for picture in reader.pictures():
        if picture.index % step or used >= max_frames:
            continue
        matrix = display_matrix(picture.frame)
        grey = apply_display_matrix(grey_proxy(picture.frame, longer_side), matrix)
        width, height = picture.frame.width, picture.frame.height
        width, height = (height, width) if matrix[0, 0] == 0 else (width, height)
        used += 1
        yield GreyFrame(f"frame_{picture.index:06d}", grey, width, height)
    if reader.stopped is not None:
        log.warn(f"{found.root.name}: {reader.stopped}")
    if not used:
        raise CaptureError(f"{found.root}: no frame could be decoded; copy it again or re-export it")
