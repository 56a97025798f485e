"""Video input: what is accepted, what is refused and with which words, which way is up, and when frames were shown."""

import os
import shlex
import weakref
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from capture_media import (
    marked,
    moving,
    patch_display_matrix,
    red_corners,
    world,
    write_audio,
    write_video,
)

from deblurgs.capture import clip, video
from deblurgs.capture.detect import detect_source
from deblurgs.capture.hdr import srgb_from_hdr
from deblurgs.capture.image import read_pixels, read_rgb
from deblurgs.capture.source import ingest, load_capture
from deblurgs.errors import CaptureError, SfmError
from deblurgs.log import Log


def first_frame(path: Path, out: Path, log: Log) -> np.ndarray:
    return read_pixels(ingest(path, out, log=log).frames[0].path)


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [
        (".mp4", "libx264"),
        (".mov", "libx264"),
        (".mkv", "libx264"),
        (".webm", "libvpx-vp9"),
        (".avi", "mpeg4"),
    ],
)
def test_containers_are_read(tmp_path: Path, log: Log, suffix: str, codec: str) -> None:
    pix_fmt = "yuv420p" if codec == "mpeg4" else "yuv444p"
    options = {"b": "4000000"} if codec == "mpeg4" else None
    path = write_video(tmp_path / f"clip{suffix}", moving(20), codec=codec, pix_fmt=pix_fmt, options=options)
    capture = ingest(path, tmp_path / "out", log=log)
    assert capture.kind == "video"
    assert 12 <= len(capture.frames) <= 20
    assert capture.fps == pytest.approx(30.0, rel=0.01)
    assert all((f.width, f.height) == (128, 96) for f in capture.frames)
    assert capture == load_capture(tmp_path / "out")


def test_pixels_and_names_belong_to_the_source_frame(tmp_path: Path, log: Log) -> None:
    pictures = moving(20)
    capture = ingest(write_video(tmp_path / "a.mp4", pictures), tmp_path / "out", max_frames=6, log=log)
    assert 3 <= len(capture.frames) <= 6
    for frame in capture.frames:
        index = int(frame.name.removeprefix("frame_").removesuffix(".png"))
        assert frame.time_s == pytest.approx(index / 30.0, abs=1e-4)
        error = np.abs(read_pixels(frame.path).astype(int) - pictures[index]).mean()
        others = np.abs(read_pixels(frame.path).astype(int) - pictures[index - 1]).mean()
        assert error < 6 < others


# Reliability case 1, 2, 3, 5.
def test_empty_file(tmp_path: Path, log: Log) -> None:
    (tmp_path / "a.mp4").touch()
    with pytest.raises(CaptureError, match=r"a\.mp4 is not a video \(0 bytes\)"):
        ingest(tmp_path / "a.mp4", tmp_path / "out", log=log)


def test_text_renamed(tmp_path: Path, log: Log) -> None:
    (tmp_path / "a.mp4").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n")
    with pytest.raises(CaptureError, match="invalid data: its content is text"):
        ingest(tmp_path / "a.mp4", tmp_path / "out", log=log)


def test_truncated_without_index(tmp_path: Path, log: Log) -> None:
    path = write_video(tmp_path / "a.mp4", moving(20))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CaptureError, match="re-export"):
        ingest(path, tmp_path / "out", log=log)
    assert not (tmp_path / "out" / "frames.json").exists()


def test_audio_only(tmp_path: Path, log: Log) -> None:
    with pytest.raises(CaptureError, match="no video stream"):
        ingest(write_audio(tmp_path / "a.mp4"), tmp_path / "out", log=log)


def test_random_bytes_and_archive(tmp_path: Path, log: Log) -> None:
    (tmp_path / "a.mp4").write_bytes(bytes(range(256)) * 40)
    with pytest.raises(CaptureError, match="no known video format"):
        ingest(tmp_path / "a.mp4", tmp_path / "out", log=log)
    (tmp_path / "b.zip").write_bytes(b"PK\3\4" + bytes(100))
    with pytest.raises(CaptureError, match="archive"):
        ingest(tmp_path / "b.zip", tmp_path / "out", log=log)


# Case 4.
def test_damage_in_the_middle_keeps_what_was_decoded(tmp_path: Path, log: Log) -> None:
    options = {"crf": "6", "bf": "0", "g": "1"}
    pictures = moving(40)
    path = write_video(tmp_path / "a.mkv", pictures, options=options)
    data = path.read_bytes()
    cut = int(len(data) * 0.6)
    path.write_bytes(data[:cut] + bytes(len(data) - cut))
    capture = ingest(path, tmp_path / "out", log=log)
    assert len(capture.frames) >= 12
    assert any("decoding stopped at frame" in text for text in capture.warnings)
    for frame in capture.frames:
        index = int(frame.name[6:12])
        assert np.abs(read_pixels(frame.path).astype(int) - pictures[index]).mean() < 6


def test_file_that_ends_early(tmp_path: Path, log: Log) -> None:
    path = write_video(
        tmp_path / "a.mp4", moving(30), options={"crf": "6", "bf": "0", "g": "1"},
        container_options={"movflags": "faststart"},
    )  # fmt: skip
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.7)])  # the index lies in front, the pictures end early
    capture = ingest(path, tmp_path / "out", log=log)
    assert len(capture.frames) >= 12
    assert any("decoding stopped at frame" in text for text in capture.warnings)


def test_damage_near_the_start_is_an_error(tmp_path: Path, log: Log) -> None:
    path = write_video(
        tmp_path / "a.mp4", moving(30), options={"crf": "6", "bf": "0", "g": "1"},
        container_options={"movflags": "faststart"},
    )  # fmt: skip
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    data[start:] = bytes(len(data) - start)
    path.write_bytes(bytes(data))
    with pytest.raises(CaptureError):
        ingest(path, tmp_path / "out", log=log)


# Case 6. PyAV writes the matrix; degrees count counterclockwise there.
@pytest.mark.parametrize(
    ("rotation", "corner", "shape"),
    [
        (None, "top left", (64, 96)),
        (90, "bottom left", (96, 64)),
        (180, "bottom right", (64, 96)),
        (270, "top right", (96, 64)),
    ],
)
def test_rotation_metadata(tmp_path: Path, log: Log, rotation: int | None, corner: str, shape: tuple) -> None:
    path = write_video(tmp_path / "a.mp4", shifting_marks(), rotation=rotation)
    pixels = first_frame(path, tmp_path / "out", log)
    assert pixels.shape[:2] == shape
    assert red_corners(pixels) == {corner}


# The same with matrices written by hand, as phones do, mirrored ones included: independent of PyAV's convention.
@pytest.mark.parametrize(
    ("matrix", "corner", "shape"),
    [
        ((0, 1, -1, 0), "top right", (96, 64)),  # portrait phone: a quarter turn clockwise
        ((-1, 0, 0, -1), "bottom right", (64, 96)),
        ((0, -1, 1, 0), "bottom left", (96, 64)),
        ((-1, 0, 0, 1), "top right", (64, 96)),  # mirrored selfie
        ((0, 1, 1, 0), "top left", (96, 64)),  # transposed
    ],
)
def test_phone_matrices(tmp_path: Path, log: Log, matrix: tuple, corner: str, shape: tuple) -> None:
    path = write_video(tmp_path / "a.mp4", shifting_marks())
    patch_display_matrix(path, matrix)
    pixels = first_frame(path, tmp_path / "out", log)
    assert pixels.shape[:2] == shape
    assert red_corners(pixels) == {corner}


def shifting_marks() -> list[np.ndarray]:
    """Marked pictures over a moving ground: a still video would be refused."""
    pictures = []
    for window in moving(14, size=(64, 96)):
        picture = (window // 4 + 80).astype(np.uint8)
        picture[:16, :16] = marked()[:16, :16]
        pictures.append(picture)
    return pictures


# Case 7.
def test_variable_frame_rate(tmp_path: Path, log: Log) -> None:
    pts = [0, 1000, 2000, 7000, 8000, 9000, 10000, 30000, 31000, 32000, 33000, 34000, 35000, 60000]
    path = write_video(tmp_path / "a.mp4", moving(14, step=12), pts=pts)
    capture = ingest(path, tmp_path / "out", log=log)
    assert len(capture.frames) >= 12
    for frame in capture.frames:
        assert frame.time_s == pytest.approx((pts[int(frame.name[6:12])] - pts[0]) / 30000, abs=1e-3)
    assert capture.fps == pytest.approx(13 / 2.0, rel=0.01)


# Case 8.
@pytest.mark.parametrize(("curve", "trc"), [("pq", 16), ("hlg", 18)])
def test_hdr_is_tone_mapped_not_dark(tmp_path: Path, log: Log, curve: str, trc: int) -> None:
    # Diffuse white of 203 cd/m2 is 58 % in PQ and 75 % in HLG (Report ITU-R BT.2408, table 1).
    white = 0.58 if curve == "pq" else 0.75
    pictures = []
    for window in moving(14, size=(64, 96)):
        luma = window[..., 0] / 255.0 * 0.35
        luma[:, 48:] = white
        codes = np.zeros((64, 96, 3), np.uint16)
        codes[..., 0] = (64 + 876 * luma).astype(np.uint16) << 6
        codes[..., 1:] = 512 << 6
        pictures.append(codes)
    path = write_video(
        tmp_path / "a.mkv", pictures, codec="libx265", pix_fmt="yuv444p10le", source_format="yuv444p16le",
        options={"crf": "4", "x265-params": "log-level=none"},
        colour={"color_trc": trc, "color_primaries": 9, "colorspace": 9, "color_range": 1},
    )  # fmt: skip
    capture = ingest(path, tmp_path / "out", log=log)
    pixels = read_pixels(capture.frames[0].path)
    assert any("HDR" in text for text in capture.warnings)
    bright, dark = pixels[:, 60:90].mean(), pixels[:, 4:40].mean()
    assert 215 < bright < 254
    assert 5 < dark < 0.6 * bright


def test_hdr_curves_against_known_points() -> None:
    def grey(level: float, curve: str) -> int:
        codes = np.array([[[round((16 + 219 * level) * 256), 128 * 256, 128 * 256]]], np.uint16)
        return int(srgb_from_hdr(codes, curve, True)[0, 0, 0])  # pyright: ignore[reportArgumentType]

    # BT.2408: 18 % grey lies at 38 % of PQ (26 cd/m2) and 38 % of HLG: 26/203 in sRGB is 0.395.
    assert grey(0.38, "pq") == pytest.approx(101, abs=5)
    assert grey(0.38, "hlg") == pytest.approx(101, abs=5)
    assert grey(0.0, "pq") <= 1 and grey(0.0, "hlg") <= 1
    assert grey(1.0, "pq") >= 254 and grey(1.0, "hlg") >= 254
    for curve in ("pq", "hlg"):
        levels = [grey(i / 40, curve) for i in range(41)]
        assert levels == sorted(levels)


@pytest.mark.parametrize("matrix", [1, 5])
@pytest.mark.parametrize("color_range", [1, 2])
def test_colours_follow_the_tags(tmp_path: Path, log: Log, matrix: int, color_range: int) -> None:
    """BT.709 and BT.601, limited and full range: the wrong matrix shifts saturated colours by over 10 levels."""
    colours = np.array([[200, 30, 30], [30, 200, 30], [30, 30, 200], [128, 128, 128]], np.uint8)
    rgb = np.repeat(np.repeat(colours[None], 64, 0), 32, 1).astype(np.float64) / 255
    kr, kb = (0.2126, 0.0722) if matrix == 1 else (0.299, 0.114)
    y = kr * rgb[..., 0] + (1 - kr - kb) * rgb[..., 1] + kb * rgb[..., 2]
    cb, cr = (rgb[..., 2] - y) / (2 - 2 * kb), (rgb[..., 0] - y) / (2 - 2 * kr)
    scale = (219, 16, 224) if color_range == 1 else (255, 0, 255)
    planes = np.stack([y * scale[0] + scale[1], cb * scale[2] + 128, cr * scale[2] + 128])
    codes = np.clip(np.round(planes), 0, 255).astype(np.uint8)
    path = write_video(
        tmp_path / "a.mkv", [codes] * 2, source_format="yuv444p", options={"crf": "1", "bf": "0"},
        colour={"colorspace": matrix, "color_range": color_range},
    )  # fmt: skip
    reader = video.VideoReader(path, "matroska", log)
    pixels = video.upright_rgb(next(reader.pictures()).frame)
    seen = pixels[32, 16::32].astype(int)
    assert np.abs(seen - colours).max() <= 4


# Case 9.
def test_interlaced_is_warned(tmp_path: Path, log: Log) -> None:
    options = {"crf": "6", "x264-params": "interlaced=1:log-level=none", "flags": "+ildct+ilme"}
    path = write_video(tmp_path / "a.mp4", moving(14), options=options)
    with av.open(str(path)) as container:
        if not next(container.decode(video=0)).interlaced_frame:
            pytest.skip("this FFmpeg build does not mark interlaced frames")
    capture = ingest(path, tmp_path / "out", log=log)
    assert any("interlaced" in text for text in capture.warnings)


# Case 10.
def test_odd_sizes(tmp_path: Path, log: Log) -> None:
    path = write_video(tmp_path / "a.mp4", moving(14, size=(101, 133)))
    capture = ingest(path, tmp_path / "out", log=log)
    assert {read_rgb(f.path).shape for f in capture.frames} == {(101, 133, 3)}


# Cases 11 and 12.
@pytest.mark.parametrize("count", [1, 2])
def test_too_few_frames(tmp_path: Path, log: Log, count: int) -> None:
    path = write_video(tmp_path / "a.mp4", moving(count))
    with pytest.raises(CaptureError, match=rf"only {count} frames? .*3-D needs several frames"):
        ingest(path, tmp_path / "out", log=log)


def test_three_frames_are_enough(tmp_path: Path, log: Log) -> None:
    assert len(ingest(write_video(tmp_path / "a.mp4", moving(3)), tmp_path / "out", log=log).frames) == 3


# Case 13: the same code with a small limit.
def test_long_video_looks_at_key_frames_only(tmp_path: Path, log: Log) -> None:
    pictures = moving(120, step=3)
    path = write_video(tmp_path / "a.mp4", pictures, options={"crf": "6", "bf": "2", "g": "5"})
    reader = video.VideoReader(path, "mov", log, max_decoded=60)
    seen = [(p.index, p.time_s) for p in reader.pictures()]
    assert 12 <= len(seen) <= 60
    assert reader.only_key_frames and any("120 frames" in text for text in log.warnings)
    assert [index for index, _ in seen] == sorted(index for index, _ in seen)
    for picture in reader.pictures(last=50):
        assert picture.time_s == pytest.approx(picture.index / 30, abs=1e-3)
        pixels = video.upright_rgb(picture.frame).astype(int)
        assert np.abs(pixels - pictures[picture.index]).mean() < 6


def test_no_more_than_a_few_frames_are_held_at_a_time(
    tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 80 frames, all of which are looked at and 30 stored."""
    alive: dict[str, set[int]] = {"decoded": set(), "upright": set()}
    most = dict.fromkeys(alive, 0)

    def watched(kind: str, thing: object) -> None:
        alive[kind].add(id(thing))
        weakref.finalize(thing, alive[kind].discard, id(thing))
        most[kind] = max(most[kind], len(alive[kind]))

    def picture(index: int, time_s: float, frame: av.VideoFrame) -> video.Picture:
        made = video_picture(index, time_s, frame)
        watched("decoded", made)
        return made

    def upright(*arguments: Any) -> np.ndarray:
        pixels = upright_rgb(*arguments)
        watched("upright", pixels)
        return pixels

    video_picture, upright_rgb = video.Picture, clip.upright_rgb
    monkeypatch.setattr(video, "Picture", picture)
    monkeypatch.setattr(clip, "upright_rgb", upright)
    path = write_video(tmp_path / "a.mp4", moving(80, step=4))
    assert len(ingest(path, tmp_path / "out", max_frames=30, log=log).frames) > 20
    assert 1 <= most["decoded"] <= 3 and 1 <= most["upright"] <= 3, most


def test_long_video_without_key_frames_is_cut(tmp_path: Path, log: Log) -> None:
    path = write_video(tmp_path / "a.mp4", moving(60), options={"crf": "6", "bf": "0", "g": "1000"})
    reader = video.VideoReader(path, "mov", log, max_decoded=20)
    assert [p.index for p in reader.pictures()] == list(range(20))
    assert any("first 20 frames" in text for text in log.warnings)


def test_frames_over_the_pixel_limit_are_refused(tmp_path: Path, log: Log) -> None:
    path = write_video(tmp_path / "a.mp4", moving(3))
    with pytest.raises(CaptureError, match=r"128x96 exceed .*--max-pixels"):
        ingest(path, tmp_path / "out", max_pixels=10_000, log=log)


# Case 14.
def test_cover_picture_is_not_the_video(tmp_path: Path, log: Log) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 512, 512, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        stream = container.add_stream("libx264", rate=30, options={"crf": "6", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv444p"
        picture = av.VideoFrame.from_ndarray(world(512, 512), format="rgb24")
        picture.pts = 0
        container.mux(cover.encode(picture))
        for index, window in enumerate(moving(14)):
            frame = av.VideoFrame.from_ndarray(window, format="rgb24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    capture = ingest(path, tmp_path / "out", log=log)
    assert {(f.width, f.height) for f in capture.frames} == {(128, 96)}
    assert len(capture.frames) >= 12


def test_sound_beside_the_picture_does_not_matter(tmp_path: Path, log: Log) -> None:
    path = write_audio(tmp_path / "a.mp4", moving(14))
    assert len(ingest(path, tmp_path / "out", log=log).frames) >= 12


def test_a_title_in_another_encoding_does_not_matter(tmp_path: Path, log: Log) -> None:
    path = write_video(tmp_path / "clip.mp4", moving(14), title="plain letters")
    path.write_bytes(path.read_bytes().replace(b"plain letters", b"pl\xe4in \xffetters"))
    assert len(ingest(path, tmp_path / "out", log=log).frames) >= 12


# Case 15.
@pytest.mark.parametrize(
    "name",
    ["with space.mp4", "quote'\".mp4", "$(touch canary).mp4", "new\nline.mp4", "ünïcödé 動画.mp4", "-leading.mp4",
     "concat:a.mp4", "b'\\xff.mp4"],
)  # fmt: skip
def test_odd_file_names(tmp_path: Path, log: Log, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "plain.mp4", moving(14)).rename(tmp_path / name)
    capture = ingest(Path(name), Path("out"), log=log)
    assert len(capture.frames) >= 12
    assert not Path("canary").exists(), shlex.quote(name)


# Case 16.
def test_file_that_disappears_between_the_passes(
    tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "a.mp4", moving(14))
    from deblurgs.capture import triage

    choose = triage.choose_frames

    def vanish(*args: object) -> list[int]:
        path.unlink()
        return choose(*args)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(triage, "choose_frames", vanish)
    with pytest.raises(CaptureError, match=r"a\.mp4"):
        ingest(path, tmp_path / "out", log=log)
    assert not (tmp_path / "out" / "frames.json").exists()


def test_missing_file(tmp_path: Path, log: Log) -> None:
    with pytest.raises(CaptureError, match=r"nothing\.mp4.*No such file"):
        ingest(tmp_path / "nothing.mp4", tmp_path / "out", log=log)


# Case 17. Opening a FIFO would wait for ever, so this test ends only if it is refused before.
def test_fifo_and_device_are_refused_unopened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(CaptureError, match="not a regular file"):
        detect_source(tmp_path / "a.mp4")
    with pytest.raises(CaptureError, match="not a regular file"):
        detect_source(Path(os.devnull))


def test_single_image_is_refused_with_reason(tmp_path: Path, log: Log) -> None:
    from PIL import Image

    Image.fromarray(world()).save(tmp_path / "a.jpg")
    with pytest.raises(CaptureError, match="3-D needs several frames"):
        ingest(tmp_path / "a.jpg", tmp_path / "out", log=log)


# Case 32 for video: noise of the sensor must not count as motion.
def test_tripod_video_has_no_parallax(tmp_path: Path, log: Log) -> None:
    rng = np.random.default_rng(3)
    still = moving(1)[0].astype(int)
    pictures = [np.clip(still + rng.normal(0, 4, still.shape), 0, 255).astype(np.uint8) for _ in range(30)]
    with pytest.raises(SfmError, match="no parallax: camera did not move"):
        ingest(write_video(tmp_path / "a.mp4", pictures), tmp_path / "out", log=log)


def test_static_stretch_gives_few_frames(tmp_path: Path, log: Log) -> None:
    windows = moving(30, step=4)
    pictures = [*windows[:15], *([windows[15]] * 60), *windows[15:]]
    path = write_video(tmp_path / "a.mp4", pictures)
    capture = ingest(path, tmp_path / "out", max_frames=20, log=log)
    indices = [int(f.name[6:12]) for f in capture.frames]
    assert sum(16 <= i < 75 for i in indices) <= 2
    assert min(indices) <= 1 and max(indices) >= len(pictures) - 2


def test_real_phone_video(tmp_path: Path, log: Log, shared_data: Path) -> None:
    path = shared_data / "bic_video" / "bic.mov"
    if not path.is_file():
        pytest.skip("bic.mov is absent")
    capture = ingest(path, tmp_path / "out", max_frames=24, log=log)
    assert 18 <= len(capture.frames) <= 24
    assert capture.fps == pytest.approx(29.98, abs=0.02)
    indices = [int(f.name[6:12]) for f in capture.frames]
    assert indices[0] <= 12 and indices[-1] >= 268
    assert max(np.diff(indices)) < 40
    import json

    rows = json.loads((tmp_path / "out" / "triage.json").read_text())["candidates"]
    assert len(rows) == 281
    chosen = [f.sharpness for f in capture.frames]
    assert np.mean(chosen) > np.mean([row["sharpness"] for row in rows]) + 0.02
