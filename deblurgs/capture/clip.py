"""A video file -> stored frames: one streaming pass to measure, one to store the chosen frames."""

import hashlib
from pathlib import Path

import numpy as np

from deblurgs.capture import dataset, triage
from deblurgs.capture.dataset import Capture
from deblurgs.capture.detect import Source
from deblurgs.capture.folder import no_motion
from deblurgs.capture.image import write_png
from deblurgs.capture.video import VideoReader, grey_proxy, upright_rgb
from deblurgs.errors import CaptureError
from deblurgs.log import Log
from deblurgs.scene.frame import Frame


def store_video(found: Source, out_dir: Path, max_frames: int, max_pixels: float, log: Log) -> Capture:
    """Choose at most `max_frames` frames of the video and store them below `out_dir` (an empty folder). See
    `ingest`.
    """
    if found.container is None:
        raise ValueError("not a video source")
    reader = VideoReader(found.root, found.container, log, max_pixels=max_pixels)
    indices, times, scores, motion = _measure(reader, log)
    if not indices:
        raise CaptureError(
            f"{found.root}: no frame could be decoded ({reader.stopped or 'the video stream is empty'}); "
            "re-export the video"
        )
    if motion.is_static and len(indices) >= 3:
        raise no_motion(f"all {len(indices)} frames show the same picture", max(scores) == 0.0)
    chosen = triage.choose_frames(motion.positions, scores, max_frames)
    if len(indices) <= 3:
        chosen = list(range(len(indices)))  # Too few to choose from; `ingest` says so if it is not enough.
    kept = {indices[i]: i for i in chosen}
    log.info(
        f"{found.root.name}: {len(indices)} frames looked at, {len(kept)} chosen by coverage and sharpness"
    )

    start = times[0]
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
            "time_s": time - start,
            "sharpness": score,
            "motion": position,
            "kept": index in kept,
        }
        for index, time, score, position in zip(indices, times, scores, motion.positions, strict=True)
    ]
    dataset.write_json(out_dir / dataset.TRIAGE_FILE, {"candidates": rows})
    return Capture("video", frames, dropped=dropped, fps=_fps(reader, indices, times))


def _name(index: int) -> str:
    return f"frame_{index:06d}.png"


def _measure(reader: VideoReader, log: Log) -> tuple[list[int], list[float], list[float], triage.MotionPath]:
    """First pass over all frames: source index, time, sharpness, and the motion path."""
    indices: list[int] = []
    times: list[float] = []
    scores: list[float] = []
    motion = triage.MotionPath()
    interlaced = 0
    with log.progress("reading video", min(reader.claimed or 0, reader.max_decoded)) as bar:
        for picture in reader.pictures():
            grey = grey_proxy(picture.frame, triage.SHARPNESS_SIDE)
            indices.append(picture.index)
            times.append(picture.time_s)
            scores.append(triage.sharpness(grey))
            motion.push(triage.motion_picture(grey))
            interlaced += bool(picture.frame.interlaced_frame)
            bar.update(len(indices))
    name = reader.path.name
    if reader.stopped is not None:
        log.warn(f"{name}: {reader.stopped}; the {len(indices)} frames before that are used")
    if interlaced * 2 > len(indices):
        log.warn(
            f"{name} is interlaced; deinterlace it first for better results (ffmpeg -i IN -vf bwdif OUT.mp4)"
        )
    if reader.is_hdr:
        log.warn(f"{name} is HDR video; it is tone-mapped to sRGB, bright highlights are compressed")
    return indices, times, scores, motion


def _fps(reader: VideoReader, indices: list[int], times: list[float]) -> float | None:
    """Average frame rate from the time stamps of the first and last frame; the container's claim for one
    frame.
    """
    span, count = times[-1] - times[0], indices[-1] - indices[0]
    return count / span if span > 0 and count > 0 and np.isfinite(span) else reader.average_fps
