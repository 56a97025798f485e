"""The stored images: exact round trips, atomic, and readable by other programs."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deblurgs.capture.image import read_pixels, read_rgb, write_jpeg, write_png
from deblurgs.capture.names import FrameNames
from deblurgs.errors import CaptureError, ResourceError


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_round_trip_is_exact(tmp_path: Path, dtype: type) -> None:
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, (33, 47, 3)).astype(dtype)
    write_png(tmp_path / "a.png", pixels)
    stored = read_pixels(tmp_path / "a.png")
    assert stored.dtype == dtype
    np.testing.assert_array_equal(stored, pixels)
    scaled = read_rgb(tmp_path / "a.png")
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, pixels / float(np.iinfo(dtype).max), atol=1e-7)


def test_other_programs_read_our_16_bit_png(tmp_path: Path) -> None:
    """Pillow and so COLMAP's users see the right picture, with 8 bits."""
    pixels = np.random.default_rng(1).integers(0, 65536, (20, 30, 3)).astype(np.uint16)
    write_png(tmp_path / "a.png", pixels)
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "RGB"
        assert np.abs(np.asarray(image).astype(int) - pixels / 257.0).max() <= 1.0


def test_float_is_clipped_and_rounded(tmp_path: Path) -> None:
    values = np.array([[[-1.0, 0.0, 0.5], [1.0, 2.0, np.nan], [np.inf, -np.inf, 0.999]]], np.float32)
    write_png(tmp_path / "a.png", values)
    assert read_pixels(tmp_path / "a.png").tolist() == [[[0, 0, 128], [255, 255, 0], [0, 0, 255]]]


def test_jpeg(tmp_path: Path) -> None:
    ramp = np.repeat(np.linspace(0, 1, 64, dtype=np.float32)[None, :, None], 48, 0).repeat(3, 2)
    write_jpeg(tmp_path / "a.jpg", ramp)
    assert np.abs(read_rgb(tmp_path / "a.jpg") - ramp).max() < 0.03


@pytest.mark.parametrize("shape", [(4, 4, 2), (4,), (0, 4, 3)])
def test_wrong_shapes(tmp_path: Path, shape: tuple) -> None:
    with pytest.raises(ValueError, match="expected an image"):
        write_png(tmp_path / "a.png", np.zeros(shape, np.uint8))
    with pytest.raises(ValueError, match="uint8, uint16 or float"):
        write_png(tmp_path / "a.png", np.zeros((4, 4, 3), np.int64))


def test_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_png(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8))
    before = (tmp_path / "a.png").read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResourceError, match=r"a\.png"):
        write_png(tmp_path / "a.png", np.ones((4, 4, 3), np.uint8))
    assert (tmp_path / "a.png").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_unreadable_images_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(16) + b"\x10\2")
    (tmp_path / "b.png").write_text("text")
    for name in ("a.png", "b.png", "missing.png"):
        with pytest.raises(CaptureError, match=name.replace(".", r"\.")):
            read_rgb(tmp_path / name)


def test_frame_names_are_unique_and_safe() -> None:
    names = FrameNames()
    given = [
        "a.jpg",
        "A.png",
        "a.png",
        "d/a.png",
        "d__a.png",
        ".x.png",
        "noext",
        "b:c?.png",
        "...",
        "\udcff.png",
    ]
    made = [names.add(name) for name in given]
    stems = [name.rsplit(".", 1)[0].lower() for name in made]
    assert made[0] == "a.jpg" and len(set(stems)) == len(given)
    for name in made:
        assert name.isprintable() and not set(name) & set('/\\:*?"<>|') and name[0] not in ".-"
        name.encode("utf-8")
