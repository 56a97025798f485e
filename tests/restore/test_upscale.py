"""Enlarging files: tiles without seams, depth and EXIF kept, and one clear line for everything that cannot be used."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, JpegImagePlugin

from deblurgs.capture.image import read_pixels, write_png
from deblurgs.cli import main
from deblurgs.errors import CaptureError, UsageError
from deblurgs.log import Log
from deblurgs.restore.upscale import as_planes, enlarge_pixels, load_model, parse_do, shipped_model
from deblurgs.run import RunFolder
from deblurgs.stages.upscale import UpscaleSettings, upscale

QUIET = Log(quiet=True)


def picture(height: int, width: int, dtype: type = np.uint8) -> np.ndarray:
    coarse = np.random.default_rng(0).integers(
        0, np.iinfo(dtype).max + 1, (height // 4 + 1, width // 4 + 1, 3)
    )
    return coarse.repeat(4, 0).repeat(4, 1)[:height, :width].astype(dtype)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_tiles_leave_no_seams(scale: int) -> None:
    model, pixels, told = shipped_model(), picture(61, 75), torch.tensor([[0.4, 0.3, 0.2]])
    whole = enlarge_pixels(model, pixels, told, scale)
    tiled = enlarge_pixels(model, pixels, told, scale, tile_px=16)
    assert whole.shape == (61 * scale, 75 * scale, 3)
    assert np.abs(whole.astype(int) - tiled).max() <= 1  # rounding of sums in another order


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (17, 9)])
def test_any_size(size: tuple[int, int], tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", picture(*size))
    (done,) = upscale([tmp_path / "a.png"], tmp_path / "out", UpscaleSettings(scale=2), QUIET)
    assert read_pixels(done).shape == (2 * size[0], 2 * size[1], 3)


def test_sixteen_bits_stay_sixteen_bits(tmp_path: Path) -> None:
    pixels = picture(40, 40, np.uint16)
    write_png(tmp_path / "deep.png", pixels)
    (done,) = upscale([tmp_path / "deep.png"], tmp_path / "out", UpscaleSettings(), QUIET)
    found = read_pixels(done)
    assert found.dtype == np.uint16 and len(np.unique(found)) > 256


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_exif_is_kept_and_the_picture_upright(tmp_path: Path, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0110], exif[0x0112] = "Camera of the test", 6
    exif.get_ifd(0x8769)[0xA002] = 40  # its width
    Image.fromarray(picture(24, 40)).save(tmp_path / f"photo{suffix}", exif=exif)
    (done,) = upscale([tmp_path / f"photo{suffix}"], tmp_path / "out", UpscaleSettings(), QUIET)
    with Image.open(done) as image:
        assert image.size == (48, 80)  # orientation 6: a quarter turn
        assert image.getexif()[0x0110] == "Camera of the test"
        assert image.getexif()[0x0112] == 1
        assert image.getexif().get_ifd(0x8769)[0xA002] == 48
        assert suffix == ".png" or JpegImagePlugin.get_sampling(image) == 0, "colour at full resolution"


def test_the_result_of_one_picture_may_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_png(tmp_path / "a.png", picture(20, 30, np.uint16))
    assert main(["upscale", "a.png", "-o", "new/large.jpg", "--quiet"]) == 0
    with Image.open(tmp_path / "new" / "large.jpg") as result:
        assert result.format == "JPEG" and result.size == (60, 40)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["large.jpg"]
    assert main(["upscale", "a.png", "-o", "new/large.jpg", "--quiet"]) == 2  # is there already
    for wrong in (
        ["a.png", "-o", "a.png", "--overwrite"],
        ["a.png", "-o", "b.tif"],
        ["a.png", "a.png", "-o", "b.png"],
    ):
        assert main(["upscale", *wrong, "--quiet"]) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "new"]


def test_what_no_jpeg_can_hold_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def worked(*_: object) -> None:
        raise AssertionError("enlarged for nothing")

    monkeypatch.setattr("deblurgs.restore.upscale.enlarge_pixels", worked)
    write_png(tmp_path / "long.png", picture(20000, 4))
    with pytest.raises(UsageError, match="65535"):
        upscale([tmp_path / "long.png"], tmp_path / "long.jpg", UpscaleSettings(scale=4), QUIET)
    assert [p.name for p in tmp_path.iterdir()] == ["long.png"]


def test_bad_files_are_named_and_the_good_ones_done(tmp_path: Path) -> None:
    write_png(tmp_path / "good.png", picture(20, 20))
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.png").write_text("not a picture")
    log = Log(quiet=True)
    done = upscale([tmp_path], tmp_path / "out", UpscaleSettings(), log)
    assert [p.name for p in done] == ["good.png"]
    assert len(log.warnings) == 2 and any("empty" in w for w in log.warnings)


def test_nothing_usable_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(CaptureError):
        upscale([tmp_path], tmp_path / "out", UpscaleSettings(), QUIET)
    assert main(["upscale", str(tmp_path / "absent.png")]) == 3
    assert main(["upscale", str(tmp_path), "--do", "colour=1"]) == 2


def test_the_sharp_frames_of_a_run_may_be_jpeg(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are of JPEG photos that were restored one by one."""
    monkeypatch.chdir(tmp_path)
    with RunFolder(tmp_path / "my run") as run:
        pass
    assert main(["upscale", "my run", "--quiet"]) == 2
    assert "deblurgs render 'my run'" in capsys.readouterr().err
    run.sharp.mkdir(parents=True)
    Image.fromarray(picture(20, 30)).save(run.sharp / "a.jpg")
    assert main(["upscale", "my run", "--quiet"]) == 0
    with Image.open(run.renders / "sharp_x2" / "a.jpg") as result:
        assert result.size == (60, 40)


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", picture(50, 50))
    log = Log(quiet=True)
    with pytest.raises(CaptureError):
        upscale([tmp_path / "a.png"], tmp_path / "out", UpscaleSettings(max_pixels=1000), log)
    assert "--max-pixels" in log.warnings[0]


def test_results_are_not_replaced_without_being_asked(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", picture(20, 20))
    upscale([tmp_path / "a.png"], tmp_path / "out", UpscaleSettings(), QUIET)
    with pytest.raises(UsageError, match="--overwrite"):
        upscale([tmp_path / "a.png"], tmp_path / "out", UpscaleSettings(), QUIET)
    with pytest.raises(UsageError):  # the source itself is never replaced
        upscale([tmp_path / "a.png"], tmp_path, UpscaleSettings(), QUIET, overwrite=True)


class _Canary:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def test_code_in_weights_is_refused_and_not_run(tmp_path: Path) -> None:
    weights, canary = tmp_path / "evil.safetensors", tmp_path / "canary"
    weights.write_bytes(pickle.dumps(_Canary(canary)))
    with pytest.raises(UsageError, match="evil"):
        load_model(weights)
    assert not canary.exists()


@pytest.mark.parametrize("operation", ["noise", "noise=2", "noise=nan", "haze=0", "=0", "noise=-0.1"])
def test_a_do_operation_that_means_nothing_is_refused(operation: str) -> None:
    with pytest.raises(UsageError, match="--do"):
        parse_do((operation,))


def test_pixels_survive_the_way_into_the_network() -> None:
    planes = as_planes(picture(5, 6))
    assert planes.shape == (1, 3, 5, 6) and float(planes.max()) <= 1.0
