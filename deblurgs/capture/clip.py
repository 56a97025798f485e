"""A video file -> stored frames: one streaming pass to measure, one to store the chosen frames."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deblurgs.capture import dataset, triage
from deblurgs.capture.dataset import Capture
from deblurgs.capture.detect import Source
from deblurgs.capture.folder import no_motion
from deblurgs.capture.image import Pixels, write_png
from deblurgs.capture.video import VideoReader, grey_proxy, upright_rgb
from deblurgs.errors import CaptureError
from deblurgs.log import Log
from deblurgs.math.patches import fine_detail
from deblurgs.scene.frame import Frame


@dataclass(frozen=True)
class _Measured:
    """All frames that could be decoded: number in the video, time, sharpness, fine detail, and the motion path."""

    indices: list[int]
    times_s: list[float]
    sharpness: list[float]
    detail: list[float]
    motion: triage.MotionPath

    def chosen(self, max_frames: int) -> dict[int, int]:
        """Video frame number -> place in these lists, of the frames to use."""
        places = triage.choose_frames(self.motion.positions, self.detail, max_frames)
        if len(self.indices) <= 3:
            places = list(range(len(self.indices)))  # Too few to choose from.
        return {self.indices[i]: i for i in places}


def store_video(found: Source, out_dir: Path, max_frames: int, max_pixels: float, log: Log) -> Capture:
    """Choose at most `max_frames` frames of the video and store them below `out_dir` (an empty folder). See
    `ingest`.
    """
    reader = _reader(found, max_pixels, log)
    measured = _measure(reader, log)
    indices, scores = measured.indices, measured.sharpness
    if measured.motion.is_static and len(indices) >= 3:
        raise no_motion(f"all {len(indices)} frames show the same picture", max(scores) == 0.0)
    kept = measured.chosen(max_frames)
    log.info(
        f"{found.root.name}: {len(indices)} frames looked at, {len(kept)} chosen by coverage and sharpness"
    )

    start = measured.times_s[0]
    frames: list[Frame] = []
    dropped: list[tuple[str, str]] = []
    seen: dict[str, str] = {}
    (out_dir / "frames").mkdir()
    with log.progress("storing frames", len(kept)) as bar:
        for picture in reader.pictures(last=max(kept)):
            if picture.index not in kept:
                continue
            pixels = upright_rgb(picture.frame, reader.pixel_aspect)
            name = _name(picture.index)
            digest = hashlib.sha256(pixels.tobytes()).hexdigest()
            if digest in seen:
                dropped.append((name, f"duplicate of {seen[digest]}"))
                continue
            seen[digest] = name
            path = out_dir / "frames" / name
            write_png(path, pixels)
            height, width = pixels.shape[:2]
            frames.append(
                Frame(name, path, width, height, picture.time_s - start, scores[kept[picture.index]])
            )
            bar.update(len(frames))
    if len(kept) >= 3 and len(frames) == 1:
        raise no_motion(f"all {len(indices)} frames show the same picture", max(scores) == 0.0)
    rows = [
        {
            # Only what was chosen has a file, and so a name.
            **({"name": _name(index)} if index in kept else {}),
            "index": index,
            "time_s": measured.times_s[i] - start,
            "sharpness": scores[i],
            "detail": measured.detail[i],
            "motion": measured.motion.positions[i],
            "kept": index in kept,
        }
        for i, index in enumerate(indices)
    ]
    dataset.write_json(out_dir / dataset.TRIAGE_FILE, {"candidates": rows})
    return Capture("video", frames, dropped=dropped, fps=_fps(reader, measured))


def video_stills(found: Source, max_frames: int, max_pixels: float, log: Log) -> Iterator[tuple[str, Pixels]]:
    """Name and upright pixels of the frames that stand for a video from which no scene can follow.

    All frames of a video that is too short, and the sharpest of each stretch of time of one whose camera stood still;
    equal frames once. Raises CaptureError when none can be decoded.
    """
    reader = _reader(found, max_pixels, log)
    kept = _measure(reader, log).chosen(max_frames)
    seen: set[str] = set()
    for picture in reader.pictures(last=max(kept)):
        if picture.index not in kept:
            continue
        pixels = upright_rgb(picture.frame, reader.pixel_aspect)
        digest = hashlib.sha256(pixels.tobytes()).hexdigest()
        if digest not in seen:
            seen.add(digest)
            yield _name(picture.index), pixels


def _reader(found: Source, max_pixels: float, log: Log) -> VideoReader:
    if found.container is None:
        raise ValueError("not a video source")
    return VideoReader(found.root, found.container, log, max_pixels=max_pixels)


def _name(index: int) -> str:
    return f"frame_{index:06d}.png"


def _measure(reader: VideoReader, log: Log) -> _Measured:
    """First pass over all frames. Raises CaptureError when there is none."""
    indices: list[int] = []
    times: list[float] = []
    scores: list[float] = []
    details: list[float] = []
    motion = triage.MotionPath()
    interlaced = 0
    with log.progress("reading video", min(reader.claimed or 0, reader.max_decoded)) as bar:
        for picture in reader.pictures():
            grey = grey_proxy(picture.frame, triage.SHARPNESS_SIDE)
            indices.append(picture.index)
            times.append(picture.time_s)
            scores.append(triage.sharpness(grey))
            details.append(fine_detail(grey))
            motion.push(triage.motion_picture(grey))
            interlaced += bool(picture.frame.interlaced_frame)
            bar.update(len(indices))
    if not indices:
        raise CaptureError(
            f"{reader.path}: no frame could be decoded ({reader.stopped or 'the video stream is empty'}); "
            "re-export the video"
        )
    name = reader.path.name
    if reader.stopped is not None:
        log.warn(f"{name}: {reader.stopped}; the {len(indices)} frames before that are used")
    if interlaced * 2 > len(indices):
        log.warn(
            f"{name} is interlaced; deinterlace it first for better results (ffmpeg -i IN -vf bwdif OUT.mp4)"
        )
    if reader.is_hdr:
        log.warn(f"{name} is HDR video; it is tone-mapped to sRGB, bright highlights are compressed")
    return _Measured(indices, times, scores, details, motion)


def _fps(reader: VideoReader, measured: _Measured) -> float | None:
    """Average frame rate from the time stamps of the first and last frame; the container's claim for one
    frame.
    """
    times, indices = measured.times_s, measured.indices
    span, count = times[-1] - times[0], indices[-1] - indices[0]
    return count / span if span > 0 and count > 0 and np.isfinite(span) else reader.average_fps
