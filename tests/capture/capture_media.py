"""Small photos and videos for the tests: windows that move over one textured world."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

MARKER = (250, 20, 20)


def world(height: int = 300, width: int = 700, seed: int = 0) -> np.ndarray:
    """uint8 [H,W,3] with texture on several scales, so that motion and blur can be measured."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), np.float32)
    for cell, weight in ((40, 1.0), (12, 0.8), (4, 0.8), (2, 0.5)):
        coarse = rng.random((height // cell + 2, width // cell + 2, 3)).astype(np.float32)
        total += weight * np.repeat(np.repeat(coarse, cell, 0), cell, 1)[:height, :width]
    total -= total.min()
    return (total / total.max() * 255).astype(np.uint8)


def moving(
    count: int, step: float = 4.0, size: tuple[int, int] = (96, 128), seed: int = 0
) -> list[np.ndarray]:
    """`count` windows [H,W,3] of the world, each `step` pixels further right."""
    picture = world(seed=seed)
    return [picture[50 : 50 + size[0], int(i * step) : int(i * step) + size[1]].copy() for i in range(count)]


def marked(height: int = 64, width: int = 96) -> np.ndarray:
    """Grey with a red top-left corner."""
    picture = np.full((height, width, 3), 110, np.uint8)
    picture[:16, :16] = MARKER
    return picture


def red_corners(pixels: np.ndarray) -> set[str]:
    """Which corners are red."""
    corners = {"top left": (4, 4), "top right": (4, -5), "bottom left": (-5, 4), "bottom right": (-5, -5)}
    values = {name: pixels[y, x].astype(int) for name, (y, x) in corners.items()}
    return {name for name, (r, g, b) in values.items() if r > 180 and g < 90 and b < 90}


def save_photos(folder: Path, pictures: list[np.ndarray], name: str = "img{}.png") -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name.format(i + 1) for i in range(len(pictures))]
    for path, picture in zip(paths, pictures, strict=True):
        Image.fromarray(picture).save(path)
    return paths


def write_video(
    path: Path,
    pictures: list[np.ndarray],
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv444p",
    fps: int = 30,
    pts: list[int] | None = None,
    rotation: int | None = None,
    options: dict[str, str] | None = None,
    colour: dict[str, int] | None = None,
    source_format: str = "rgb24",
    container_options: dict[str, str] | None = None,
    title: str | None = None,
) -> Path:
    """Encode pictures; pts in units of 1/(1000 fps) s; rotation in degrees counterclockwise as display matrix."""
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=fps, options=options or {"crf": "6", "bf": "0"})
        if pictures[0].shape[2] == 3:
            stream.height, stream.width = pictures[0].shape[:2]
        else:
            stream.height, stream.width = pictures[0].shape[1:]
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = Fraction(1, 1000 * fps)
        for key, value in (colour or {}).items():
            setattr(stream.codec_context, key, value)
        if title is not None:
            container.metadata["title"] = title
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format=source_format)
            if source_format not in ("rgb24", pix_fmt):
                frame = frame.reformat(format=pix_fmt)
            for key, value in (colour or {}).items():
                setattr(frame, key, value)
            frame.pts = pts[index] if pts is not None else index * 1000
            frame.time_base = Fraction(1, 1000 * fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_audio(path: Path, pictures: list[np.ndarray] | None = None) -> Path:
    """A tone, with moving pictures beside it when given."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        video = None
        if pictures:
            video = container.add_stream("libx264", rate=30, options={"crf": "6", "bf": "0"})
            video.height, video.width = pictures[0].shape[:2]
            video.pix_fmt = "yuv444p"
        _write_tone(container, stream)
        for index, picture in enumerate(pictures or []):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = index
            assert video is not None
            container.mux(video.encode(frame))
        if video is not None:
            container.mux(video.encode())
    return path


def _write_tone(container: av.container.OutputContainer, stream: av.AudioStream) -> None:
    for index in range(8):
        samples = np.sin(np.arange(1024) * 0.1).astype(np.float32)[None]
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16000, index * 1024
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def patch_display_matrix(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Overwrite a, b, c, d of the track header's matrix (ISO/IEC 14496-12, 8.3.2) in an mp4 file, 16.16 fixed point."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4
    # Version 0: flags 4, times 8, id 4, reserved 4, duration 4, reserved 8, layer/group/volume/reserved 8.
    assert data[start] == 0
    place = start + 40
    a, b, c, d = (value << 16 for value in matrix)
    data[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(bytes(data))
