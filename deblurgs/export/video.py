"""Sharp frames as an mp4 that plays everywhere: h264, yuv420p, BT.709 limited range, index at the front."""

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Literal, cast

import av
import numpy as np
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from av.video.stream import VideoStream
from numpy.typing import NDArray

from deblurgs.errors import ResourceError
from deblurgs.files import atomic_path
from deblurgs.log import Log

CODECS = ("libx264", "h264", "libopenh264", "libx265", "mpeg4")
"""Encoders in order of preference; all but h264 proper play in fewer places, so using one is warned about."""

_H264 = ("libx264", "h264", "libopenh264")
_CRF = 16  # Visually lossless: the frames are a result, not a preview.
_TICKS_PER_S = 90_000  # The usual clock of video containers; fine enough for any frame time.
_MPEG4_BITS_PER_PX = 1.5


def available_codec(candidates: Sequence[str] = CODECS) -> str | None:
    """The first encoder of `candidates` that this build of the video library has, None if it has none."""
    return next((name for name in candidates if _has_codec(name, "w")), None)


def available_decoders(candidates: Sequence[str]) -> list[str]:
    """Those of `candidates` that this build of the video library can read."""
    return [name for name in candidates if _has_codec(name, "r")]


def _has_codec(name: str, mode: Literal["r", "w"]) -> bool:
    try:
        av.Codec(name, mode)
    except ValueError:  # UnknownCodecError
        return False
    return True


def write_mp4(
    path: Path,
    frames: Iterable[NDArray[np.uint8]],
    fps: Fraction | float,
    *,
    times_s: Sequence[float] | None = None,
    log: Log | None = None,
    codecs: Sequence[str] = CODECS,
    overwrite: bool = True,
) -> int:
    """Encode sRGB frames [H,W,3] uint8, all of one size, and return how many there were.

    fps: frames per second. times_s: presentation time of each frame in seconds, strictly increasing, for
    variable frame rates; fps then only says how long the last frame stays. Odd sizes are padded to even ones by
    repeating the last row or column. Nothing is left behind when an error occurs or the user stops.

    Raises ValueError for no frames, frames of another shape or type, or times that do not increase;
    ResourceError when the disk is full or no usable encoder exists.
    """
    codec = available_codec(codecs)
    if codec is None:
        raise ResourceError(
            f"cannot write {path}: this build of PyAV has none of the video encoders {', '.join(codecs)}. "
            "Install the av package from its official wheel; the sharp frames themselves are not affected."
        )
    if codec not in _H264 and log is not None:
        log.warn(
            f"{path.name} is encoded as {codec} because no h264 encoder is available; "
            "not every player shows it"
        )
    iterator = iter(frames)
    first = next(iterator, None)
    if first is None:
        raise ValueError(f"no frames to write into {path}")
    rate = fps if isinstance(fps, Fraction) else Fraction(fps).limit_denominator(1001)
    if rate <= 0:
        raise ValueError(f"{fps} frames per second make no video")
    with atomic_path(path, overwrite=overwrite) as temporary:
        try:
            return _encode(temporary, first, iterator, rate, times_s, codec)
        except FFmpegError as error:
            # PyAV's errors carry the errno of the system but are not all OSErrors.
            if isinstance(error, OSError):
                raise
            raise OSError(error.errno, f"{error.strerror} (while encoding {codec})") from error


def _encode(
    path: Path,
    first: NDArray[np.uint8],
    others: Iterator[NDArray[np.uint8]],
    rate: Fraction,
    times_s: Sequence[float] | None,
    codec: str,
) -> int:
    _check(first, first.shape)
    height, width = first.shape[0] + first.shape[0] % 2, first.shape[1] + first.shape[1] % 2
    time_base = 1 / rate if times_s is None else Fraction(1, _TICKS_PER_S)
    # +faststart puts the index before the pictures, so that a browser plays while it still loads.
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = cast(VideoStream, container.add_stream(codec, rate=rate))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = time_base
        stream.time_base = time_base
        if codec in ("libx264", "libx265"):
            stream.options = {"crf": str(_CRF), "preset": "medium"}
        else:
            stream.bit_rate = int(width * height * float(rate) * _MPEG4_BITS_PER_PX)
        _tag_bt709(stream.codec_context)
        previous = -1
        count = 0
        for count, pixels in enumerate(_chain(first, others), start=1):
            _check(pixels, first.shape)
            if times_s is None:
                tick = count - 1
            elif count > len(times_s):
                raise ValueError(f"{len(times_s)} times for more frames")
            else:
                tick = round((times_s[count - 1] - times_s[0]) * _TICKS_PER_S)
            if tick <= previous:
                raise ValueError(f"frame times must increase, frame {count - 1} does not")
            previous = tick
            frame = _frame_from_pixels(pixels, width, height)
            frame.pts, frame.time_base = tick, time_base
            if times_s is not None:
                frame.duration = max(round(_TICKS_PER_S / rate), 1)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return count


def _chain(first: NDArray[np.uint8], others: Iterator[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    yield first
    yield from others


def _check(pixels: NDArray[np.uint8], shape: tuple[int, ...]) -> None:
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or 0 in pixels.shape:
        raise ValueError(f"a video frame must be uint8 [H,W,3], not {pixels.dtype} {list(pixels.shape)}")
    if pixels.shape != shape:
        raise ValueError(f"a video has frames of one size; got {list(pixels.shape)} after {list(shape)}")


def _frame_from_pixels(pixels: NDArray[np.uint8], width: int, height: int) -> av.VideoFrame:
    padded = np.pad(
        pixels, ((0, height - pixels.shape[0]), (0, width - pixels.shape[1]), (0, 0)), mode="edge"
    )
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(padded), format="rgb24")
    # Without this the converter uses BT.601 weights, and players that trust the tag show shifted colours.
    converted = frame.reformat(
        format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
    )
    converted.colorspace, converted.color_range = Colorspace.ITU709, ColorRange.MPEG
    return converted


def _tag_bt709(context: VideoCodecContext) -> None:
    context.color_range = ColorRange.MPEG
    context.colorspace = Colorspace.ITU709
    context.color_primaries = ColorPrimaries.BT709
    context.color_trc = ColorTrc.BT709
