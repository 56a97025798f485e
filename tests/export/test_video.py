"""The mp4 writer, checked by decoding what it wrote."""

import resource
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray

from deblurgs.errors import ResourceError
from deblurgs.export.video import CODECS, available_codec, write_mp4
from deblurgs.log import Log


def frames(count: int, height: int = 64, width: int = 96) -> Iterator[NDArray[np.uint8]]:
    """Saturated flat quarters, whose colours show a wrong matrix, and a bar that moves with the frames."""
    for index in range(count):
        image = np.zeros((height, width, 3), np.uint8)
        image[: height // 2, : width // 2] = (200, 40, 40)
        image[: height // 2, width // 2 :] = (40, 200, 40)
        image[height // 2 :, : width // 2] = (40, 40, 200)
        image[height // 2 :, width // 2 :] = (230, 230, 230)
        image[-8:, 8 * index : 8 * index + 8] = (255, 0, 255)
        yield image


def decode(path: Path) -> tuple[list[NDArray[np.uint8]], list[Fraction]]:
    with av.open(str(path)) as container:
        decoded = list(container.decode(video=0))
    images = [frame.to_ndarray(format="rgb24") for frame in decoded]
    return images, [frame.pts * frame.time_base for frame in decoded]  # type: ignore[operator]


def test_frames_and_colours_come_back(tmp_path: Path) -> None:
    assert write_mp4(tmp_path / "a.mp4", frames(6), Fraction(30000, 1001)) == 6
    images, times = decode(tmp_path / "a.mp4")
    assert times == [i * Fraction(1001, 30000) for i in range(6)]
    for image, original in zip(images, frames(6), strict=True):
        # The flat inner parts: chroma is stored at half resolution, so edges may differ.
        for box in (np.s_[4:28, 4:40], np.s_[4:28, 56:90], np.s_[36:52, 4:40], np.s_[36:52, 56:90]):
            difference = image[box].astype(int) - original[box]
            assert np.abs(difference.mean((0, 1))).max() <= 4 and np.abs(difference).max() <= 12


def test_the_stream_is_h264_420_tagged_bt709_and_starts_fast(tmp_path: Path) -> None:
    write_mp4(tmp_path / "a.mp4", frames(3), 25)
    with av.open(str(tmp_path / "a.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert context.name == "h264" and context.pix_fmt == "yuv420p"
        assert context.colorspace == Colorspace.ITU709 and context.color_range == ColorRange.MPEG
        assert (context.color_primaries, context.color_trc) == (1, 1)
        assert container.streams.video[0].average_rate == 25
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize(("height", "width"), [(63, 97), (1, 1), (64, 33)])
def test_odd_sizes_are_padded_to_even_by_repeating_the_edge(tmp_path: Path, height: int, width: int) -> None:
    image = np.full((height, width, 3), 180, np.uint8)
    write_mp4(tmp_path / "a.mp4", [image, image], 10)
    images, _ = decode(tmp_path / "a.mp4")
    assert images[0].shape == (height + height % 2, width + width % 2, 3)
    assert images[0].min() > 170


def test_variable_frame_rate_keeps_the_given_times(tmp_path: Path) -> None:
    times_s = [5.0, 5.04, 5.1, 5.5]
    write_mp4(tmp_path / "a.mp4", frames(4), Fraction(25), times_s=times_s)
    _, times = decode(tmp_path / "a.mp4")
    np.testing.assert_allclose([float(t) for t in times], np.subtract(times_s, 5.0), atol=1e-4)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: [], "no frames"),
        (lambda: [np.zeros((4, 4), np.uint8)], "uint8"),
        (lambda: [np.zeros((4, 4, 3), np.float32)], "uint8"),
        (lambda: [np.zeros((4, 4, 3), np.uint8), np.zeros((4, 6, 3), np.uint8)], "one size"),
    ],
)
def test_unusable_frames_leave_no_file(tmp_path: Path, make: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        write_mp4(tmp_path / "a.mp4", make(), 10)  # type: ignore[operator]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("times_s", [[0.0, 0.1, 0.1], [0.0, -1.0, 1.0], [0.0, 1.0]])
def test_times_must_increase_and_suffice(tmp_path: Path, times_s: list[float]) -> None:
    with pytest.raises(ValueError, match="times"):
        write_mp4(tmp_path / "a.mp4", frames(3), 10, times_s=times_s)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("render failed")])
def test_an_interrupted_export_keeps_the_old_file_only(tmp_path: Path, error: BaseException) -> None:
    write_mp4(tmp_path / "a.mp4", frames(2), 10)
    before = (tmp_path / "a.mp4").read_bytes()

    def broken() -> Iterator[NDArray[np.uint8]]:
        yield from frames(5)
        raise error

    with pytest.raises(type(error)):
        write_mp4(tmp_path / "a.mp4", broken(), 10)
    assert (tmp_path / "a.mp4").read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["a.mp4"]


def test_a_full_disk_is_a_resource_error(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), dtype=np.uint8)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(ResourceError, match=r"a\.mp4"):
            write_mp4(tmp_path / "a.mp4", [noise] * 20, 10)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


def test_without_h264_another_encoder_is_used_and_said(tmp_path: Path) -> None:
    log = Log(quiet=True)
    write_mp4(tmp_path / "a.mp4", frames(3), 10, log=log, codecs=("no_such_codec", "mpeg4"))
    images, _ = decode(tmp_path / "a.mp4")
    assert len(images) == 3
    assert len(log.warnings) == 1 and "mpeg4" in log.warnings[0]


def test_without_any_encoder_the_error_names_them(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="no_such_codec"):
        write_mp4(tmp_path / "a.mp4", frames(3), 10, codecs=("no_such_codec",))
    assert not list(tmp_path.iterdir())


def test_the_usual_encoder_is_there_and_silent(tmp_path: Path) -> None:
    assert available_codec() == CODECS[0]
    log = Log(quiet=True)
    write_mp4(tmp_path / "a.mp4", frames(2), 10, log=log)
    assert log.warnings == []
