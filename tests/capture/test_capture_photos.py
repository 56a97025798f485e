"""Folders of photos: orientation, depth, modes, damage, order, duplicates, and what is refused."""

import io
import json
import os
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from capture_media import marked, moving, red_corners, save_photos
from PIL import Image, ImageCms

from deblurgs.capture.image import read_pixels, read_rgb
from deblurgs.capture.source import ingest, load_capture
from deblurgs.errors import CaptureError, SfmError, UsageError
from deblurgs.log import Log


def reasons(capture) -> dict[str, str]:
    return dict(capture.dropped)


@pytest.mark.parametrize("suffix", ["jpg", "JPEG", "png", "tif", "TIFF", "webp"])
def test_formats(tmp_path: Path, log: Log, suffix: str) -> None:
    pictures = moving(4)
    save_photos(tmp_path / "in", pictures, f"img{{}}.{suffix}")
    capture = ingest(tmp_path / "in", tmp_path / "out", log=log)
    assert capture.kind == "images"
    assert [f.name for f in capture.frames] == [f"img{i}.{suffix}" for i in range(1, 5)]
    for frame, picture in zip(capture.frames, pictures, strict=True):
        assert frame.path.parent == tmp_path / "out" / "frames"
        assert np.abs(read_pixels(frame.path).astype(int) - picture).mean() < 12
    assert capture == load_capture(tmp_path / "out")
    assert capture.fps is None and all(f.time_s is None and f.sharpness for f in capture.frames)


# Case 18.
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, log: Log, orientation: int, suffix: str) -> None:
    """Stored so that a viewer that obeys EXIF 2.32 shows the red corner top left."""
    where = {1: "top left", 2: "top right", 3: "bottom right", 4: "bottom left"}
    where |= {5: "top left", 6: "bottom left", 7: "bottom right", 8: "top right"}
    (tmp_path / "in").mkdir()
    for index in range(3):
        picture = np.full((64, 96, 3), 100 + 10 * index, np.uint8)
        rows = slice(0, 16) if "top" in where[orientation] else slice(-16, None)
        columns = slice(0, 16) if "left" in where[orientation] else slice(-16, None)
        picture[rows, columns] = marked()[0, 0]
        picture[30:34, 20 + 10 * index :] = 200
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(picture).save(tmp_path / "in" / f"{index}.{suffix}", exif=exif, quality=95)
    capture = ingest(tmp_path / "in", tmp_path / "out", log=log)
    size = (96, 64) if orientation <= 4 else (64, 96)
    for frame in capture.frames:
        assert (frame.width, frame.height) == size
        pixels = read_pixels(frame.path)
        assert pixels.shape[:2] == size[::-1]
        assert red_corners(pixels) == {"top left"}
        with Image.open(frame.path) as image:
            assert image.getexif().get(0x0112) is None


def png16(pixels: np.ndarray) -> bytes:
    """An independent 16-bit PNG: uint16 [H,W] or [H,W,C], filter 0."""
    height, width = pixels.shape[:2]
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[1 if pixels.ndim == 2 else pixels.shape[2]]
    rows = pixels.astype(">u2").tobytes()
    stride = len(rows) // height
    data = b"".join(b"\0" + rows[y * stride : (y + 1) * stride] for y in range(height))

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(data))
        + chunk(b"IEND", b"")
    )


# Case 19.
@pytest.mark.parametrize("channels", [0, 2, 3, 4])
def test_16_bit_png_keeps_its_depth(tmp_path: Path, log: Log, channels: int) -> None:
    rng = np.random.default_rng(1)
    (tmp_path / "in").mkdir()
    originals = []
    for index in range(3):
        shape = (40, 50, channels) if channels else (40, 50)
        pixels = rng.integers(0, 65536, shape).astype(np.uint16)
        pixels[0, 0], pixels[0, 1] = 65535, 0
        if channels in (2, 4):
            pixels[..., -1] = 65535
        originals.append(pixels)
        (tmp_path / "in" / f"{index}.png").write_bytes(png16(pixels))
    capture = ingest(tmp_path / "in", tmp_path / "out", log=log)
    assert len(capture.frames) == 3
    for frame, pixels in zip(capture.frames, originals, strict=True):
        colour = pixels[..., : channels - 1] if channels in (2, 4) else pixels
        colour = np.broadcast_to(colour.reshape(40, 50, -1), (40, 50, 3))
        stored = read_pixels(frame.path)
        assert stored.dtype == np.uint16
        np.testing.assert_array_equal(stored, colour)
        assert np.abs(read_rgb(frame.path) - colour / 65535.0).max() < 1e-6


def test_16_bit_tiff(tmp_path: Path, log: Log) -> None:
    """16-bit grey, the case where Pillow's convert("RGB") turns everything white."""
    (tmp_path / "in").mkdir()
    ramps = [np.linspace(0, 65535, 40 * 50).reshape(40, 50).astype(np.uint16) // (i + 1) for i in range(3)]
    for index, ramp in enumerate(ramps):
        Image.fromarray(ramp).save(tmp_path / "in" / f"{index}.tif")
    capture = ingest(tmp_path / "in", tmp_path / "out", log=log)
    for frame, ramp in zip(capture.frames, ramps, strict=True):
        np.testing.assert_array_equal(read_pixels(frame.path)[..., 1], ramp)


def test_16_bit_colour_tiff(tmp_path: Path, log: Log) -> None:
    """Written byte by byte: Pillow cannot save it, and reads it as 8 bits."""
    (tmp_path / "in").mkdir()
    rng = np.random.default_rng(2)
    originals = [rng.integers(0, 65536, (6, 5, 3)).astype("<u2") for _ in range(3)]
    for index, pixels in enumerate(originals):
        entries = [(256, 3, 1, 5), (257, 3, 1, 6), (258, 3, 3, 122), (259, 3, 1, 1), (262, 3, 1, 2),
                   (273, 4, 1, 128), (277, 3, 1, 3), (278, 3, 1, 6), (279, 4, 1, pixels.nbytes)]  # fmt: skip
        ifd = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *e) for e in entries) + bytes(4)
        head = struct.pack("<2sHI", b"II", 42, 8) + ifd
        body = head + struct.pack("<3H", 16, 16, 16)
        assert len(head) == 122 and len(body) == 128
        (tmp_path / "in" / f"{index}.tif").write_bytes(body + pixels.tobytes())
    capture = ingest(tmp_path / "in", tmp_path / "out", log=log)
    for frame, pixels in zip(capture.frames, originals, strict=True):
        np.testing.assert_array_equal(read_pixels(frame.path), pixels)


# Case 20.
def test_alpha_becomes_a_mask_and_transparent_images_are_dropped(tmp_path: Path, log: Log) -> None:
    (tmp_path / "in").mkdir()
    pictures = moving(4)
    for index, picture in enumerate(pictures):
        alpha = np.full((*picture.shape[:2], 1), 255, np.uint8)
        alpha[:10] = 0 if index < 3 else 255
        Image.fromarray(np.concatenate([picture, alpha], 2)).save(tmp_path / "in" / f"{index}.png")
    empty = np.zeros((96, 128, 4), np.uint8)
    Image.fromarray(empty).save(tmp_path / "in" / "9.png")
    capture = ingest(tmp_path / "in", tmp_path / "out", log=log)
    assert [f.name for f in capture.frames] == ["0.png", "1.png", "2.png", "3.png"]
    assert reasons(capture) == {"9.png": "fully transparent"}
    for frame, picture in zip(capture.frames, pictures, strict=True):
        np.testing.assert_array_equal(read_pixels(frame.path), picture)
    assert set(capture.masks) == {"0.png", "1.png", "2.png"}
    mask = np.asarray(Image.open(capture.masks["0.png"]))
    assert (mask[:10] == 0).all() and (mask[10:] == 255).all()
    assert len(list((tmp_path / "out" / "frames").iterdir())) == 4


# Case 21.
@pytest.mark.parametrize("mode", ["P", "CMYK", "L", "LA", "1", "YCbCr"])
def test_modes_become_rgb(tmp_path: Path, log: Log, mode: str) -> None:
    (tmp_path / "in").mkdir()
    suffix = "jpg" if mode in ("CMYK", "YCbCr") else "png"
    for index, picture in enumerate(moving(3)):
        Image.fromarray(picture).convert(mode).save(tmp_path / "in" / f"{index}.{suffix}")
    capture = ingest(tmp_path / "in", tmp_path / "out", log=log)
    for frame, picture in zip(capture.frames, moving(3), strict=True):
        stored = read_pixels(frame.path).astype(int)
        assert stored.shape == (96, 128, 3)
        if mode in ("L", "LA", "1"):
            grey = np.asarray(Image.fromarray(picture).convert("L")).astype(int)
            assert np.ptp(stored, axis=2).max() == 0
            # Dots of black and white are right on average over a neighbourhood only.
            side = 16 if mode == "1" else 1
            means = [
                x.reshape(96 // side, side, 128 // side, side).mean((1, 3)) for x in (stored[..., 1], grey)
            ]
            assert np.abs(means[0] - means[1]).max() < 8
        else:
            assert np.abs(stored - picture).mean((0, 1)).max() < 24, (
                "each channel in its place, nothing inverted"
            )


def test_palette_with_transparency(tmp_path: Path, log: Log) -> None:
    (tmp_path / "in").mkdir()
    for index, picture in enumerate(moving(3)):
        image = Image.fromarray(picture).quantize(16)
        image.save(tmp_path / "in" / f"{index}.png", transparency=0)
    capture = ingest(tmp_path / "in", tmp_path / "out", log=log)
    assert len(capture.frames) == 3 and len(capture.masks) == 3


def test_wide_gamut_profile_is_converted(tmp_path: Path, log: Log) -> None:
    """A linear-light profile made here: 8-bit linear 0.2140 is sRGB 0.5."""
    (tmp_path / "in").mkdir()
    profile = linear_grey_profile()
    for index in range(3):
        picture = np.full((40, 40), 55, np.uint8)
        picture[:, : 10 + index] = 200
        Image.fromarray(picture).save(tmp_path / "in" / f"{index}.png", icc_profile=profile)
    capture = ingest(tmp_path / "in", tmp_path / "out", log=log)
    assert abs(int(read_pixels(capture.frames[0].path)[20, 30, 1]) - 128) <= 3


def test_wide_gamut_colours_are_converted(tmp_path: Path, log: Log) -> None:
    """A profile with the primaries of Display P3, made here: its (200, 80, 80) is (218, 67, 74) in sRGB."""
    (tmp_path / "in").mkdir()
    for index in range(3):
        picture = np.full((40, 40, 3), (200, 80, 80), np.uint8)
        picture[:, : 10 + index] = 128
        Image.fromarray(picture).save(tmp_path / "in" / f"{index}.png", icc_profile=display_p3_profile())
    for frame in ingest(tmp_path / "in", tmp_path / "out", log=log).frames:
        stored = read_pixels(frame.path).astype(int)
        np.testing.assert_allclose(stored[20, 30], srgb_from_p3((200, 80, 80)), atol=2)
        np.testing.assert_allclose(stored[20, 5], 128, atol=2)


# Columns: where the primaries of Display P3 lie in XYZ, adapted to D50 (as ICC wants it); sRGB's likewise.
P3_XYZ = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
SRGB_XYZ = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])


def srgb_from_p3(rgb: tuple[int, int, int]) -> np.ndarray:
    """sRGB values of a pixel in `display_p3_profile`, by the matrices of both standards."""
    linear = np.linalg.solve(SRGB_XYZ, P3_XYZ @ (np.array(rgb) / 255.0) ** 2.2).clip(0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return 255.0 * encoded


def display_p3_profile() -> bytes:
    """A minimal matrix profile: the primaries of Display P3, a power of 2.2 as curve."""

    def point(values: np.ndarray) -> bytes:
        return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(65536 * float(v)) for v in values))

    text = b"desc" + bytes(4) + struct.pack(">I", 5) + b"wide\0" + bytes(4 + 4 + 2 + 1 + 67)
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(2.2 * 256)) + bytes(2)
    parts = [(b"desc", text), (b"wtpt", point(np.array([0.9642, 1.0, 0.8249])))]
    parts += [(name, point(P3_XYZ[:, i])) for i, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))]
    parts += [(name, curve) for name in (b"rTRC", b"gTRC", b"bTRC")]
    return icc_profile(b"RGB ", parts)


def linear_grey_profile() -> bytes:
    """A minimal ICC grey profile (ICC.1:2001-04) with gamma 1.0."""
    curve = b"curv" + bytes(4) + struct.pack(">I", 0)
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    text = b"desc" + bytes(4) + struct.pack(">I", 7) + b"linear\0" + bytes(4 + 4 + 2 + 1 + 67)
    return icc_profile(b"GRAY", [(b"desc", text), (b"wtpt", white), (b"kTRC", curve)])


def icc_profile(space: bytes, parts: list[tuple[bytes, bytes]]) -> bytes:
    tags, body = [], b""
    for name, data in parts:
        data += bytes(-len(data) % 4)
        tags.append(name + struct.pack(">II", 128 + 4 + 12 * len(parts) + len(body), len(data)))
        body += data
    table = struct.pack(">I", len(parts)) + b"".join(tags)
    size = 128 + len(table) + len(body)
    head = struct.pack(">I", size) + bytes(4) + struct.pack(">I", 0x02100000)
    head += b"mntr" + space + b"XYZ " + bytes(12)
    head += b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    profile = head + bytes(128 - len(head)) + table + body
    ImageCms.ImageCmsProfile(io.BytesIO(profile))
    return profile


# Case 22.
def test_heic_names_what_to_install(tmp_path: Path, log: Log, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # not installed
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    (tmp_path / "in").mkdir()
    for index in range(4):
        (tmp_path / "in" / f"{index}.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    with pytest.raises(CaptureError, match=r"pip install deblurgs\[phone\]"):
        ingest(tmp_path / "in", tmp_path / "out", log=log)


# Case 23.
def test_mixed_sizes_are_kept(tmp_path: Path, log: Log) -> None:
    pictures = [*moving(3), *moving(3, size=(128, 96), seed=1)]
    save_photos(tmp_path / "in", pictures)
    capture = ingest(tmp_path / "in", tmp_path / "out", log=log)
    assert [(f.width, f.height) for f in capture.frames] == [(128, 96)] * 3 + [(96, 128)] * 3


# Case 24.
def test_one_corrupt_of_ten(tmp_path: Path, log: Log) -> None:
    paths = save_photos(tmp_path / "in", moving(10), "img{}.jpg")
    paths[4].write_bytes(paths[4].read_bytes()[:900])
    capture = ingest(tmp_path / "in", tmp_path / "out", log=log)
    assert [f.name for f in capture.frames] == [p.name for p in paths if p != paths[4]]
    assert "truncated" in reasons(capture)["img5.jpg"]
    assert any("img5.jpg" in text for text in capture.warnings)


def test_nine_corrupt_of_ten(tmp_path: Path, log: Log) -> None:
    for path in save_photos(tmp_path / "in", moving(10), "img{}.jpg")[1:]:
        path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(CaptureError, match="9 of 10 images cannot be used"):
        ingest(tmp_path / "in", tmp_path / "out", log=log)


# Case 25.
def test_decompression_bomb(tmp_path: Path, log: Log) -> None:
    save_photos(tmp_path / "in", moving(4))

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 20000, 20000, 1, 0, 0, 0, 0)
    data = zlib.compress(bytes(2501 * 20000), 9)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    assert len(bomb) < 60_000
    (tmp_path / "in" / "bomb.png").write_bytes(bomb)
    # Whoever unpacks this one before looking at its header finds it cut off.
    (tmp_path / "in" / "cut.png").write_bytes(bomb[: len(bomb) // 2])
    capture = ingest(tmp_path / "in", tmp_path / "out", log=log)
    assert len(capture.frames) == 4
    for name in ("bomb.png", "cut.png"):
        reason = reasons(capture)[name]
        assert "400 million pixels" in reason and "200 million" in reason and "--max-pixels" in reason


def test_pixel_limit_is_the_users(tmp_path: Path, log: Log) -> None:
    save_photos(tmp_path / "in", moving(4))
    with pytest.raises(CaptureError, match="--max-pixels"):
        ingest(tmp_path / "in", tmp_path / "out", max_pixels=1000, log=log)


# Case 26.
@pytest.mark.slow
def test_photos_of_a_hundred_million_pixels_are_taken_one_at_a_time(tmp_path: Path) -> None:
    """Four of them in memory at once, as bytes alone, would not fit into what is allowed here beyond one."""
    (tmp_path / "in").mkdir()
    rng = np.random.default_rng(0)
    for i in range(4):
        small = rng.integers(0, 255, (168, 240, 3), dtype=np.uint8)
        Image.fromarray(small).resize((12_000, 8_400), Image.Resampling.NEAREST).save(
            tmp_path / "in" / f"{i}.jpg", quality=60
        )
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from deblurgs.capture.source import ingest; from deblurgs.log import Log\n"
        "capture = ingest(Path(sys.argv[1]), Path(sys.argv[2]), log=Log(quiet=True))\n"
        "print(len(capture.frames), capture.frames[0].width, capture.frames[0].height)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "in"), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found, peak_mb = done.stdout.splitlines()
    assert found == "4 12000 8400"
    assert int(peak_mb) < 2500, peak_mb


# Case 27.
def test_junk_and_natural_order(tmp_path: Path, log: Log) -> None:
    folder = tmp_path / "in"
    save_photos(folder, moving(12), "img{}.JPG")
    (folder / "zero.jpg").touch()
    for junk in (".hidden.jpg", "Thumbs.db", "desktop.ini", "notes.txt"):
        (folder / junk).write_bytes(b"junk")
    os.mkfifo(folder / "pipe.jpg")
    (folder / "folder.jpg").mkdir()
    capture = ingest(folder, tmp_path / "out", log=log)
    assert [f.name for f in capture.frames] == [f"img{i}.JPG" for i in range(1, 13)]
    assert reasons(capture) == {"zero.jpg": "empty file (0 bytes)", "pipe.jpg": "not a regular file"}


def test_nested_folders(tmp_path: Path, log: Log) -> None:
    pictures = moving(6)
    save_photos(tmp_path / "in" / "day 1", pictures[:3])
    save_photos(tmp_path / "in" / "day 2" / "more", pictures[3:])
    capture = ingest(tmp_path / "in", tmp_path / "out", log=log)
    names = [f.name for f in capture.frames]
    assert names == [f"day 1__img{i}.png" for i in (1, 2, 3)] + [
        f"day 2__more__img{i}.png" for i in (1, 2, 3)
    ]
    assert capture.source_names[names[3]] == "day 2/more/img1.png"


def test_earlier_results_beside_the_photos_are_no_photos(tmp_path: Path, log: Log) -> None:
    pictures = moving(3)
    save_photos(tmp_path / "in" / "day 1", pictures)
    save_photos(tmp_path / "in" / "deblurgs_runs" / "in-triage", moving(3, seed=1))
    save_photos(tmp_path / "in" / "deblurred", moving(3, seed=2))
    save_photos(tmp_path / "in" / "fast" / "renders" / "sharp", moving(3, seed=3))
    (tmp_path / "in" / "fast" / "manifest.json").write_text('{"format": 1, "stages": {}}')
    capture = ingest(tmp_path / "in", tmp_path / "out", log=log)
    assert [f.name for f in capture.frames] == [f"day 1__img{i}.png" for i in (1, 2, 3)]
    assert any("deblurgs_runs" in text and "fast" in text for text in log.warnings)
    own = Log(quiet=True)
    shutil.rmtree(tmp_path / "in" / "fast")
    shutil.rmtree(tmp_path / "in" / "deblurred")
    ingest(tmp_path / "in", tmp_path / "in" / "deblurgs_runs" / "in", log=own)
    assert own.warnings == []


def test_equal_stems_get_different_frame_stems(tmp_path: Path, log: Log) -> None:
    save_photos(tmp_path / "in", moving(3), "a{}.png")
    save_photos(tmp_path / "in", moving(3, seed=1), "a{}.jpg")
    capture = ingest(tmp_path / "in", tmp_path / "out", log=log)
    assert len({f.stem for f in capture.frames}) == 6


def test_hostile_file_names_are_data(tmp_path: Path, log: Log) -> None:
    names = [
        "<script>.png",
        "$(touch canary).png",
        "new\nline.png",
        "-rf.png",
        "\u202egnp.png",
        "x" * 240 + ".png",
    ]
    folder = tmp_path / "in"
    folder.mkdir()
    for name, picture in zip(names, moving(6), strict=True):
        Image.fromarray(picture).save(folder / "tmp.png")
        (folder / "tmp.png").rename(folder / name)
    raw = os.fsencode(folder) + b"/bad\xff.png"
    Image.fromarray(moving(7)[6]).save(folder / "tmp.png")
    os.rename(folder / "tmp.png", raw)  # noqa: PTH104 - the name is bytes, not text
    capture = ingest(folder, tmp_path / "out", log=log)
    assert len(capture.frames) == 7
    for frame in capture.frames:
        assert frame.path.name.removesuffix(".png").isdigit()
        assert frame.name.isprintable() and not set(frame.name) & set('/<>"\n') and frame.name[0] not in ".-"
        assert len(frame.name) <= 120
    assert set(names) < set(capture.source_names.values())


# Case 28.
def test_duplicates(tmp_path: Path, log: Log) -> None:
    pictures = moving(4)
    save_photos(tmp_path / "in", [pictures[0], pictures[1], pictures[0], pictures[2], pictures[3]])
    capture = ingest(tmp_path / "in", tmp_path / "out", log=log)
    assert [f.name for f in capture.frames] == ["img1.png", "img2.png", "img4.png", "img5.png"]
    assert reasons(capture) == {"img3.png": "duplicate of img1.png"}


# Case 29.
def test_links_that_go_in_circles(tmp_path: Path, log: Log) -> None:
    folder = tmp_path / "in"
    save_photos(folder / "a", moving(3))
    (folder / "a" / "loop").symlink_to(folder)
    (folder / "self.jpg").symlink_to(folder / "self.jpg")
    (folder / "broken.jpg").symlink_to(folder / "nothing")
    capture = ingest(folder, tmp_path / "out", log=log)
    assert len(capture.frames) == 3
    assert set(reasons(capture)) == {"self.jpg", "broken.jpg"}


# Case 30.
@pytest.mark.parametrize("suffix", ["gif", "webp", "tif"])
def test_animations_give_their_first_frame(tmp_path: Path, log: Log, suffix: str) -> None:
    (tmp_path / "in").mkdir()
    pictures = moving(6)
    for index in range(3):
        first, second = Image.fromarray(pictures[index]), Image.fromarray(pictures[index + 3])
        first.save(tmp_path / "in" / f"{index}.{suffix}", save_all=True, append_images=[second])
    capture = ingest(tmp_path / "in", tmp_path / "out", log=log)
    assert len(capture.frames) == 3
    assert any("2 frames or pages, only the first" in text for text in capture.warnings)
    for index, frame in enumerate(capture.frames):
        stored = read_pixels(frame.path).astype(int)
        assert np.abs(stored - pictures[index]).mean() < np.abs(stored - pictures[index + 3]).mean()


# Case 31.
def test_all_blurred_continues(tmp_path: Path, log: Log) -> None:
    from PIL import ImageFilter

    (tmp_path / "in").mkdir()
    for index, picture in enumerate(moving(5, size=(200, 300))):
        image = Image.fromarray(picture).filter(ImageFilter.GaussianBlur(4))
        image.save(tmp_path / "in" / f"{index}.png")
    capture = ingest(tmp_path / "in", tmp_path / "out", log=log)
    assert len(capture.frames) == 5
    assert any("all 5 frames look blurred" in text for text in capture.warnings)
    rows = json.loads((tmp_path / "out" / "triage.json").read_text())["candidates"]
    assert [row["sharpness"] for row in rows] == [f.sharpness for f in capture.frames]


# Case 32 and 34.
def test_identical_photos_have_no_parallax(tmp_path: Path, log: Log) -> None:
    save_photos(tmp_path / "in", moving(1) * 5)
    with pytest.raises(SfmError, match="no parallax: camera did not move"):
        ingest(tmp_path / "in", tmp_path / "out", log=log)


def test_tripod_photos_have_no_parallax(tmp_path: Path, log: Log) -> None:
    rng = np.random.default_rng(0)
    still = moving(1, size=(200, 300))[0].astype(int)
    noisy = [np.clip(still + rng.normal(0, 5, still.shape), 0, 255).astype(np.uint8) for _ in range(5)]
    save_photos(tmp_path / "in", noisy)
    with pytest.raises(SfmError, match="no parallax: camera did not move"):
        ingest(tmp_path / "in", tmp_path / "out", log=log)


def test_identical_blank_photos_have_no_features(tmp_path: Path, log: Log) -> None:
    save_photos(tmp_path / "in", [np.full((60, 80, 3), 128, np.uint8)] * 4)
    with pytest.raises(SfmError, match="no features"):
        ingest(tmp_path / "in", tmp_path / "out", log=log)


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_photos(tmp_path: Path, log: Log, count: int) -> None:
    save_photos(tmp_path / "in", moving(count))
    with pytest.raises(CaptureError, match="3-D needs several frames"):
        ingest(tmp_path / "in", tmp_path / "out", log=log)


def test_two_different_among_duplicates(tmp_path: Path, log: Log) -> None:
    a, b = moving(2)
    save_photos(tmp_path / "in", [a, b, a, b])
    with pytest.raises(CaptureError, match=r"only 2 frames .*duplicate of img1\.png"):
        ingest(tmp_path / "in", tmp_path / "out", log=log)


def test_nothing_useful_lists_what_is_there(tmp_path: Path, log: Log) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    with pytest.raises(CaptureError, match="is empty"):
        ingest(folder, tmp_path / "out", log=log)
    for name in ("a.txt", "b.txt", "c.pdf", "clip.mp4"):
        (folder / name).touch()
    with pytest.raises(CaptureError, match=r"2 x \.txt.*give the file itself .*clip\.mp4"):
        ingest(folder, tmp_path / "out", log=log)


def test_more_photos_than_asked_for(tmp_path: Path, log: Log) -> None:
    pictures = moving(20, step=6, size=(150, 200))
    save_photos(tmp_path / "in", pictures)
    capture = ingest(tmp_path / "in", tmp_path / "out", max_frames=7, log=log)
    assert 5 <= len(capture.frames) <= 7
    numbers = [int(f.name[3:-4]) for f in capture.frames]
    assert numbers == sorted(numbers) and numbers[0] <= 3 and numbers[-1] >= 18
    assert len(capture.dropped) + len(capture.frames) == 20
    assert len(list((tmp_path / "out" / "frames").iterdir())) == len(capture.frames)


def test_max_frames_below_three(tmp_path: Path, log: Log) -> None:
    save_photos(tmp_path / "in", moving(4))
    with pytest.raises(UsageError, match="--max-frames 2"):
        ingest(tmp_path / "in", tmp_path / "out", max_frames=2, log=log)


def test_repeating_replaces_only_our_own(tmp_path: Path, log: Log) -> None:
    save_photos(tmp_path / "in", moving(5))
    out = tmp_path / "out"
    ingest(tmp_path / "in", out, log=log)
    (tmp_path / "in" / "img5.png").unlink()
    assert len(ingest(tmp_path / "in", out, log=log).frames) == 4
    assert len(list((out / "frames").iterdir())) == 4

    foreign = tmp_path / "mine"
    (foreign / "frames").mkdir(parents=True)
    (foreign / "frames" / "precious.txt").write_text("keep")
    with pytest.raises(UsageError, match="did not write"):
        ingest(tmp_path / "in", foreign, log=log)
    assert (foreign / "frames" / "precious.txt").read_text() == "keep"
    with pytest.raises(UsageError, match="inside the output"):
        ingest(out / "frames", out, log=log)
    assert len(list((out / "frames").iterdir())) == 4


def test_failed_ingest_keeps_the_previous_capture(tmp_path: Path, log: Log) -> None:
    save_photos(tmp_path / "in", moving(5))
    out = tmp_path / "out"
    before = ingest(tmp_path / "in", out, log=log)
    save_photos(tmp_path / "bad", moving(2))
    with pytest.raises(CaptureError):
        ingest(tmp_path / "bad", out, log=log)
    assert load_capture(out) == before
    assert not list(out.glob(".capture-*"))


def test_moved_folder_still_loads(tmp_path: Path, log: Log) -> None:
    save_photos(tmp_path / "in", moving(4))
    ingest(tmp_path / "in", tmp_path / "out", log=log)
    (tmp_path / "out").rename(tmp_path / "elsewhere")
    capture = load_capture(tmp_path / "elsewhere")
    assert all(f.path.is_file() for f in capture.frames)
    assert str(tmp_path) not in (tmp_path / "elsewhere" / "frames.json").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r["frames"][0].update(path="../../secret.png"), "leaves the folder"),
        (lambda r: r["frames"][0].update(path="/etc/passwd"), "leaves the folder"),
        (lambda r: r["frames"][0].update(width=-5), "positive whole number"),
        (lambda r: r["frames"].append(dict(r["frames"][0])), "twice"),
        (lambda r: r.update(kind="else"), "unknown kind"),
        (lambda r: r.update(version=99), "version 99"),
        (lambda r: r.pop("frames"), "damaged"),
    ],
)
def test_damaged_frames_json(tmp_path: Path, log: Log, change, message: str) -> None:
    save_photos(tmp_path / "in", moving(4))
    ingest(tmp_path / "in", tmp_path / "out", log=log)
    path = tmp_path / "out" / "frames.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    with pytest.raises(CaptureError, match=message):
        load_capture(tmp_path / "out")


def test_pillows_own_limit_does_not_interfere(
    tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow warns at 89 million pixels and refuses at twice that; only our limit may decide."""
    save_photos(tmp_path / "in", moving(3))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert len(ingest(tmp_path / "in", tmp_path / "out", log=log).frames) == 3
    assert Image.MAX_IMAGE_PIXELS == 100
