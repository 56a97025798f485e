"""`deblurgs deblur` on the photos that people really have; the numbers are the cases of the reliability list."""

import io
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deblurgs.capture.image import read_pixels, write_png
from deblurgs.errors import CaptureError, UsageError
from deblurgs.log import Log
from deblurgs.restore.mimo_unet import MimoConfig, MimoUNet
from deblurgs.restore.weights import save_weights
from deblurgs.stages.deblur import DeblurConfig, convert, deblur


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that change nothing: what comes out shows what happened to the photo on the way."""
    network = MimoUNet(MimoConfig(4, 1))
    for parameter in network.feat_extract[5].parameters():
        torch.nn.init.zeros_(parameter)
    path = tmp_path_factory.mktemp("weights") / "identity.safetensors"
    save_weights(path, network, notes={})
    return path


@pytest.fixture
def run(identity: Path, tmp_path: Path):
    def call(*sources: Path, overwrite: bool = False, max_pixels: int = 10**7) -> tuple[list[Path], Log]:
        log = Log(quiet=True)
        config = DeblurConfig(weights=identity, device="cpu", tile=128, max_pixels=max_pixels)
        return deblur(sources, tmp_path / "out", config, log, overwrite=overwrite), log

    return call


def picture(height: int = 12, width: int = 20, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_18_photos_come_out_upright_with_their_exif(tmp_path: Path, run, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x0132] = orientation, "Maker", "2020:01:02 03:04:05"
    exif.get_ifd(0x8769)[0x829A] = 0.125  # exposure time
    exif.get_ifd(0x8769)[0xA002], exif.get_ifd(0x8769)[0xA003] = 20, 12
    source = tmp_path / "a.jpg"
    Image.fromarray(np.full((12, 20, 3), 90, np.uint8)).save(source, exif=exif)
    (written,), _ = run(source)
    with Image.open(written) as result:
        assert result.size == ((12, 20) if orientation >= 5 else (20, 12))
        kept = result.getexif()
        assert kept[0x0112] == 1 and kept[0x010F] == "Maker"
        assert float(kept.get_ifd(0x8769)[0x829A]) == 0.125
        assert (kept.get_ifd(0x8769)[0xA002], kept.get_ifd(0x8769)[0xA003]) == result.size


def test_19_16_bits_stay_16_bits_and_keep_their_exif(tmp_path: Path, run) -> None:
    pixels = np.random.default_rng(1).integers(0, 65536, (8, 9, 3)).astype(np.uint16)
    pixels[0, 0] = 65535
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    write_png(tmp_path / "deep.png", pixels, exif=exif.tobytes())
    (written,), _ = run(tmp_path / "deep.png")
    assert np.array_equal(read_pixels(written), pixels)
    with Image.open(written) as result:
        assert result.getexif()[0x010F] == "Maker"


def test_20_21_other_modes_become_rgb_and_lost_transparency_is_said(tmp_path: Path, run) -> None:
    base = Image.fromarray(picture())
    half = base.convert("RGBA")
    half.paste((0, 0, 0, 0), (0, 0, 5, 5))
    photos = {
        "palette.png": base.convert("P"),
        "grey.png": base.convert("L"),
        "bits.png": base.convert("1"),
        "press.jpg": base.convert("CMYK"),
        "half.png": half,
    }
    for name, image in photos.items():
        image.save(tmp_path / name)
    written, log = run(*(tmp_path / name for name in photos))
    assert [read_pixels(p).shape for p in written] == [(12, 20, 3)] * 5
    assert any("half.png" in w and "transparency" in w for w in log.warnings)
    base.convert("RGBA").point(lambda _: 0).save(tmp_path / "nothing.png")
    with pytest.raises(CaptureError, match="fully transparent"):
        run(tmp_path / "nothing.png")


def test_22_heic_without_its_package_names_the_package(tmp_path: Path, run, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + b"\0" * 50)
    with pytest.raises(CaptureError, match="pillow-heif"):
        run(tmp_path / "a.heic")


def test_23_27_30_sizes_names_and_animations_in_one_folder(tmp_path: Path, run) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, shape in (("img10.PNG", (8, 12)), ("img2.png", (12, 8)), ("img2.JPG", (5, 3))):
        Image.fromarray(picture(*shape)).save(folder / name)
    (folder / ".hidden.png").write_bytes(b"x")
    (folder / "Thumbs.db").write_bytes(b"x")
    (folder / "empty.png").write_bytes(b"")
    frames = [Image.fromarray(picture(seed=s)) for s in (1, 2)]
    frames[0].save(folder / "moves.gif", save_all=True, append_images=frames[1:])
    written, log = run(folder)
    assert sorted(p.name for p in written) == ["img10.png", "img2.JPG", "img2_png.png", "moves.png"]
    assert any("only the first" in w for w in log.warnings)
    assert any("empty.png" in w and "0 bytes" in w for w in log.warnings)


def test_24_one_damaged_photo_of_ten_is_left_out_and_nine_are_an_error(tmp_path: Path, run) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    for folder, damaged in ((good, 1), (bad, 9)):
        folder.mkdir()
        for i in range(10):
            buffer = io.BytesIO()
            Image.fromarray(picture(seed=i)).save(buffer, "PNG")
            data = buffer.getvalue()
            (folder / f"{i}.png").write_bytes(data[:60] if i < damaged else data)
    written, log = run(good)
    assert len(written) == 9 and any("0.png is left out" in w for w in log.warnings)
    with pytest.raises(CaptureError, match=r"9 of 10 .* The other 1 ") as caught:
        run(bad, overwrite=True)
    assert caught.value.exit_code == 3


def test_25_a_decompression_bomb_is_refused_by_its_header(tmp_path: Path, run) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    header = (20000).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0"
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000)))
    (tmp_path / "bomb.png").write_bytes(data + chunk(b"IEND", b""))
    with pytest.raises(CaptureError, match=r"--max-pixels"):
        run(tmp_path / "bomb.png")


def test_29_a_loop_of_links_ends(tmp_path: Path, run) -> None:
    inner = tmp_path / "photos" / "inner"
    inner.mkdir(parents=True)
    Image.fromarray(picture()).save(inner / "a.png")
    (inner / "back").symlink_to(tmp_path / "photos", target_is_directory=True)
    written, _ = run(tmp_path / "photos")
    assert [p.name for p in written] == ["inner__a.png"]


def test_nothing_is_replaced_unasked_and_never_the_photo_itself(tmp_path: Path, run) -> None:
    source = tmp_path / "a.png"
    Image.fromarray(picture()).save(source)
    run(source)
    with pytest.raises(UsageError, match="--overwrite"):
        run(source)
    run(source, overwrite=True)
    (tmp_path / "out" / "b.png").write_bytes(source.read_bytes())
    with pytest.raises(UsageError, match="would be replaced"):
        run(tmp_path / "out", overwrite=True)


def test_one_photo_goes_into_a_file_of_that_name(tmp_path: Path, identity: Path) -> None:
    deep = np.random.default_rng(1).integers(0, 65535, (12, 20, 3)).astype(np.uint16)
    write_png(tmp_path / "deep.png", deep)
    Image.fromarray(picture()).save(tmp_path / "a.jpg")
    config, log = DeblurConfig(weights=identity, device="cpu", tile=128), Log(quiet=True)

    def call(names: list[str], output: str) -> list[Path]:
        return deblur([tmp_path / name for name in names], tmp_path / output, config, log)

    for name, output, kind in (
        ("a.jpg", "new/sharp.jpg", "JPEG"),
        ("a.jpg", "a.PNG", "PNG"),
        ("deep.png", "d.jpg", "JPEG"),
    ):
        assert call([name], output) == [tmp_path / output]
        with Image.open(tmp_path / output) as result:
            assert (result.format, result.size) == (kind, (20, 12))
    with pytest.raises(UsageError, match="--overwrite"):
        call(["a.jpg"], "d.jpg")
    with pytest.raises(UsageError, match="would be replaced"):
        call(["a.jpg"], "a.jpg")
    with pytest.raises(UsageError, match="one picture, but there are 2 photos"):
        call(["a.jpg", "deep.png"], "both.jpg")
    with pytest.raises(UsageError, match=r"\.jpg or \.png"):
        call(["a.jpg"], "a.heic")
    (tmp_path / "notes").touch()
    with pytest.raises(UsageError, match="notes is a file"):
        call(["a.jpg"], "notes")
    (tmp_path / "album.jpg").mkdir()
    assert call(["a.jpg", "deep.png"], "album.jpg") == [
        tmp_path / "album.jpg" / n for n in ("a.jpg", "deep.png")
    ]


def test_what_no_jpeg_can_hold_is_refused_before_the_work(
    tmp_path: Path, identity: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def worked(*_: object, **__: object) -> None:
        raise AssertionError("restored for nothing")

    monkeypatch.setattr("deblurgs.capture.save_photo._JPEG_MAX_SIDE", 19)
    monkeypatch.setattr("deblurgs.restore.tiling.restore_pixels", worked)
    write_png(tmp_path / "a.png", picture())
    with pytest.raises(UsageError, match="19 pixels per side"):
        deblur([tmp_path / "a.png"], tmp_path / "a.jpg", DeblurConfig(weights=identity), Log(quiet=True))


def test_all_targets_are_looked_at_before_the_first_photo_is_restored(tmp_path: Path, run) -> None:
    for name in ("a.png", "b.png"):
        Image.fromarray(picture()).save(tmp_path / name)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b.png").touch()
    with pytest.raises(UsageError, match="--overwrite"):
        run(tmp_path / "a.png", tmp_path / "b.png")
    assert not (tmp_path / "out" / "a.png").exists()


def test_no_empty_folder_is_left_when_nothing_came_out(tmp_path: Path, run) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(CaptureError, match="1 of 1"):
        run(tmp_path / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_sources_that_are_none_are_named(tmp_path: Path, run) -> None:
    (tmp_path / "film.mp4").write_bytes(b"x")
    (tmp_path / "void").mkdir()
    for name, reason in (("gone.png", "does not exist"), ("film.mp4", "deblurgs run"), ("void", "is empty")):
        with pytest.raises(CaptureError, match=reason):
            run(tmp_path / name)
    with pytest.raises(UsageError, match="at least one photo"):
        run()


def test_weights_are_converted_to_safetensors(tmp_path: Path) -> None:
    network = MimoUNet(MimoConfig(4, 1))
    torch.save({"model": network.state_dict()}, tmp_path / "official.pkl")
    convert(tmp_path / "official.pkl", tmp_path / "w.safetensors")
    from safetensors.torch import load_file

    converted = load_file(tmp_path / "w.safetensors")
    assert all(torch.equal(converted[k], v) for k, v in network.state_dict().items())
    with pytest.raises(UsageError, match=r"\.safetensors"):
        convert(tmp_path / "official.pkl", tmp_path / "w.bin")


def test_the_weights_that_ship_load_and_are_small() -> None:
    from deblurgs.restore.weights import SHIPPED, load_network, read_notes

    assert SHIPPED.stat().st_size < 2 * 2**20
    notes = read_notes(SHIPPED)
    assert isinstance(notes["steps"], int) and "CC0" in str(notes["photos"])
    assert sum(p.numel() for p in load_network().parameters()) < 800_000
