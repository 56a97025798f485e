"""Reading video with PyAV: streaming, bounded, upright, with true time stamps. The only file of this room
with `av`.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.sidedata.sidedata import SideData
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Disposition
from av.video.reformatter import Colorspace, ColorTrc, Interpolation
from av.video.stream import VideoStream
from numpy.typing import NDArray

from deblurgs.capture.hdr import Curve, srgb_from_hdr
from deblurgs.capture.image import Pixels
from deblurgs.errors import CaptureError
from deblurgs.log import Log

MAX_DECODED = 5000
"""More frames than this are not decoded; of longer videos only key frames are looked at."""
_MAX_PACKETS = 4_000_000
_CURVES: dict[int, Curve] = {int(ColorTrc.SMPTE2084): "pq", int(ColorTrc.ARIB_STD_B67): "hlg"}


@dataclass(frozen=True)
class Picture:
    """One decoded frame. index: its number in presentation order; time_s: from its pts, the first frame is
    not 0.
    """

    index: int
    time_s: float
    frame: av.VideoFrame


class VideoReader:
    """Streams the frames of one video file, as often as wanted. Nothing but the current frame is held.

    container: the FFmpeg demuxer to use ("mov", "matroska", ...). It is chosen from the file's first bytes,
    never probed by FFmpeg: a playlist renamed .mp4 could otherwise make it open other files or addresses.
    """

    def __init__(
        self,
        path: Path,
        container: str,
        log: Log,
        *,
        max_pixels: float = 200e6,
        max_decoded: int = MAX_DECODED,
    ) -> None:
        self.path, self.container, self.log = path, container, log
        self.max_pixels, self.max_decoded = max_pixels, max_decoded
        self.stopped: str | None = None
        self._keys: dict[int, int] | None = None
        with self._opened() as (_, stream):
            width, height = stream.codec_context.width, stream.codec_context.height
            if width < 1 or height < 1:
                raise CaptureError(f"{path}: the video stream has no picture size; the file is damaged")
            if width * height > max_pixels:
                raise CaptureError(
                    f"{path}: frames of {width}x{height} exceed the limit of {max_pixels / 1e6:.0f} million pixels "
                    "(--max-pixels)"
                )
            self.claimed = _claimed_frames(stream)
            self.average_fps = float(stream.average_rate) if stream.average_rate else None
            self.pixel_aspect = _pixel_aspect(stream)
            self.transfer = int(stream.codec_context.color_trc)
        if self.claimed is None or self.claimed > max_decoded:
            self._plan_long_video()

    @property
    def is_hdr(self) -> bool:
        return self.transfer in _CURVES

    @property
    def only_key_frames(self) -> bool:
        return self._keys is not None

    def pictures(self, last: int | None = None) -> Iterator[Picture]:
        """Decode in presentation order up to frame `last`. Damage ends the stream; `stopped` then says where
        and why.

        Frames that FFmpeg itself marks as corrupt are left out. Raises CaptureError when the file cannot be
        opened.
        """
        self.stopped = None
        index = -1
        with self._opened() as (container, stream):
            try:
                for frame in self._decoded(container, stream):
                    index = index + 1 if self._keys is None else self._keys.get(_pts(frame), -1)
                    if index < 0:
                        continue
                    if last is not None and index > last:
                        return
                    if self._keys is None and index >= self.max_decoded:
                        self.stopped = f"only the first {index} frames were looked at"
                        return
                    if not frame.is_corrupt:
                        yield Picture(index, self._time_s(frame, stream, index), frame)
            except FFmpegError as error:
                total = f" of about {self.claimed}" if self.claimed else ""
                self.stopped = f"decoding stopped at frame {max(index, 0) + 1}{total}: {_plain(error)}"
                return
        seen = index + 1
        if last is None and self.claimed and self._keys is None and seen < 0.9 * self.claimed - 2:
            self.stopped = f"decoding stopped at frame {seen} of about {self.claimed}: the file ends early"

    def _decoded(self, container: InputContainer, stream: VideoStream) -> Iterator[av.VideoFrame]:
        if self._keys is None:
            yield from container.decode(stream)
            return
        stream.codec_context.skip_frame = "NONKEY"
        for packet in container.demux(stream):
            if packet.size == 0 or (packet.is_keyframe and packet.pts in self._keys):
                yield from packet.decode()  # pyright: ignore[reportReturnType]

    def _plan_long_video(self) -> None:
        """Read the packets of a long video without decoding: number the frames, keep at most the allowed key
        frames.
        """
        stamps: list[int] = []
        keys: list[int] = []
        with self._opened() as (container, stream):
            try:
                for packet in container.demux(stream):
                    if packet.pts is None or packet.size == 0:
                        continue
                    stamps.append(packet.pts)
                    if packet.is_keyframe:
                        keys.append(packet.pts)
                    if len(stamps) >= _MAX_PACKETS:
                        break
            except FFmpegError:
                pass  # Decoding will meet the same damage and report it.
        self.claimed = len(stamps) or self.claimed
        if len(stamps) <= self.max_decoded:
            return
        if len(keys) < 12:
            self.log.warn(
                f"{self.path.name}: {len(stamps)} frames with hardly any key frames; "
                f"only the first {self.max_decoded} frames are looked at"
            )
            return
        keys.sort()
        step = -(-len(keys) // self.max_decoded)
        kept = set(keys[::step])
        self._keys = {pts: index for index, pts in enumerate(sorted(stamps)) if pts in kept}
        self.log.warn(
            f"{self.path.name}: long video ({len(stamps)} frames); only {len(self._keys)} key frames are looked at. "
            "Cut it to the part you want for a better choice of frames"
        )

    def _time_s(self, frame: av.VideoFrame, stream: VideoStream, index: int) -> float:
        stamp = frame.pts if frame.pts is not None else frame.dts
        base = frame.time_base or stream.time_base
        if stamp is None or base is None:
            self.log.warn(f"{self.path.name}: frames without time stamps; the average frame rate is assumed")
            return index / (self.average_fps or 30.0)
        return float(stamp * base)

    @contextmanager
    def _opened(self) -> Iterator[tuple[InputContainer, VideoStream]]:
        # A Python file object keeps FFmpeg from reading the name as a protocol (`concat:`, `http:`).
        try:
            file = self.path.open("rb")
        except OSError as error:
            raise CaptureError(f"cannot open the video {self.path}: {error.strerror}") from error
        with file:
            try:
                # Titles and the like are not always UTF-8, and nobody asks for them here.
                container = av.open(file, mode="r", format=self.container, metadata_errors="replace")
            except FFmpegError as error:
                raise CaptureError(
                    f"cannot read the video {self.path}: {_plain(error)}. The file is damaged or incomplete (a "
                    "recording that was cut off lacks its index); copy it again or re-export it, for example with "
                    "`ffmpeg -i IN -c copy OUT.mp4`"
                ) from error
            with container:
                stream = _video_stream(container, self.path, self.log)
                stream.thread_type = "AUTO"
                yield container, stream


def decode_still(path: Path) -> Pixels:
    """A PNG or TIFF at its full depth: uint16 [H,W,3] or [H,W,4] with alpha. Raises OSError when it cannot be
    read.
    """
    try:
        with path.open("rb") as file:
            demuxer = "png_pipe" if file.read(4) == b"\x89PNG" else "tiff_pipe"
            file.seek(0)
            with av.open(file, mode="r", format=demuxer, metadata_errors="replace") as container:
                frame = next(container.decode(video=0), None)
                if frame is None:
                    raise OSError(f"no picture in {path}")
                has_alpha = "a" in frame.format.name.replace("gray", "").replace("pal", "")
                return frame.to_ndarray(format="rgba64le" if has_alpha else "rgb48le")  # pyright: ignore[reportReturnType]
    except FFmpegError as error:
        raise OSError(f"{path}: {_plain(error)}") from error


def upright_rgb(frame: av.VideoFrame, pixel_aspect: float = 1.0) -> NDArray[np.uint8]:
    """The frame as people see it: sRGB uint8 [H,W,3], square pixels, display matrix applied, HDR tone-mapped.

    pixel_aspect: width of a stored pixel over its height.
    """
    width, height = round(frame.width * pixel_aspect), frame.height
    curve = _CURVES.get(int(frame.color_trc))
    if curve is not None:
        planes = cast(
            NDArray[np.uint16], frame.reformat(width=width, height=height, format="yuv444p16le").to_ndarray()
        )
        pixels = srgb_from_hdr(planes, curve, limited_range=int(frame.color_range) != 2)
    else:
        pixels = frame.reformat(
            width=width, height=height, format="rgb24", src_colorspace=_matrix(frame),
            interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT,
        ).to_ndarray()  # fmt: skip
    return apply_display_matrix(pixels, display_matrix(frame))


def grey_proxy(frame: av.VideoFrame, longer_side: int) -> NDArray[np.float32]:
    """A small grey picture [h,w] in [0,1], area-averaged, as stored (not rotated): for sharpness and motion."""
    scale = min(1.0, longer_side / max(frame.width, frame.height))
    width, height = max(round(frame.width * scale), 1), max(round(frame.height * scale), 1)
    small = frame.reformat(width=width, height=height, format="gray", interpolation=Interpolation.AREA)
    return small.to_ndarray().astype(np.float32) / 255.0


def display_matrix(frame: av.VideoFrame) -> NDArray[np.int64]:
    """The display transform as [[a,b],[c,d]] of -1, 0, 1 (ISO/IEC 14496-12, tkhd matrix), identity when
    absent.

    (x, y) of the stored picture, y down, is shown at (a x + c y, b x + d y) up to a shift. PyAV does not
    apply it.
    """
    # PyAV declares the side data a mapping over names, but iterating yields the entries.
    entries = cast(Iterable[SideData], frame.side_data)
    data = next((bytes(entry) for entry in entries if entry.type == SideDataType.DISPLAYMATRIX), None)
    if data is None or len(data) < 36:
        quarter = round((frame.rotation or 0) / 90) % 4  # counterclockwise
        return np.array(
            [[[1, 0], [0, 1]], [[0, -1], [1, 0]], [[-1, 0], [0, -1]], [[0, 1], [-1, 0]]][quarter], np.int64
        )
    a, b, _, c, d = np.frombuffer(data, np.int32)[:5].astype(np.float64)
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return np.array([[-1 if a < 0 else 1, 0], [0, -1 if d < 0 else 1]], np.int64)
    return np.array([[0, -1 if b < 0 else 1], [-1 if c < 0 else 1, 0]], np.int64)


def apply_display_matrix(pixels: NDArray[Any], matrix: NDArray[np.int64]) -> NDArray[Any]:
    """Apply `display_matrix` to [H,W,3]."""
    (a, b), (c, d) = matrix
    if a == 0:
        pixels = pixels.swapaxes(0, 1)
        x_flip, y_flip = c < 0, b < 0
    else:
        x_flip, y_flip = a < 0, d < 0
    if x_flip:
        pixels = pixels[:, ::-1]
    if y_flip:
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _video_stream(container: InputContainer, path: Path, log: Log) -> VideoStream:
    """The moving picture: cover art and thumbnails are video streams to FFmpeg, but of one picture."""
    still = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
    streams = [
        s for s in container.streams.video if not (s.disposition & still) and s.codec_context is not None
    ]
    if not streams:
        raise CaptureError(
            f"{path}: no video stream (audio or cover picture only); give a video or a folder of images"
        )
    if len(streams) > 1:
        log.warn(f"{path.name}: {len(streams)} video streams; the largest is used")
    return max(streams, key=lambda s: (bool(s.disposition & Disposition.default), s.width * s.height))


def _claimed_frames(stream: VideoStream) -> int | None:
    """What the container says; only ever used for limits and messages."""
    if stream.frames > 0:
        return stream.frames
    rate = stream.average_rate or stream.guessed_rate
    seconds = None
    if stream.duration is not None and stream.time_base is not None:
        seconds = float(stream.duration * stream.time_base)
    elif stream.container.duration is not None:  # pyright: ignore[reportAttributeAccessIssue]
        seconds = stream.container.duration / av.time_base  # pyright: ignore[reportAttributeAccessIssue]
    return round(seconds * float(rate)) if rate and seconds and seconds > 0 else None


def _matrix(frame: av.VideoFrame) -> int:
    """The YCbCr matrix; untagged video follows the custom that HD is BT.709 and smaller is BT.601."""
    tagged = int(frame.colorspace)
    known = {1: Colorspace.ITU709, 4: Colorspace.FCC, 5: Colorspace.ITU601, 6: Colorspace.ITU601,
             7: Colorspace.SMPTE240M, 9: Colorspace.BT2020}  # fmt: skip
    default = Colorspace.ITU709 if max(frame.width, frame.height) >= 1280 else Colorspace.ITU601
    return int(known.get(tagged, default))


def _pixel_aspect(stream: VideoStream) -> float:
    """Width of a pixel over its height: not 1 for DV and anamorphic video."""
    aspect = stream.sample_aspect_ratio
    return float(aspect) if aspect is not None and 0.25 < aspect < 4 else 1.0


def _pts(frame: av.VideoFrame) -> int:
    return frame.pts if frame.pts is not None else -1


def _plain(error: FFmpegError) -> str:
    text = error.strerror or str(error)
    return "invalid data" if "Invalid data" in text else text.strip()
