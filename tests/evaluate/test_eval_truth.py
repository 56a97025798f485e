"""`eval` refuses a scene on which nothing can be measured before it looks for cameras."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from deblurgs.capture.image import write_png
from deblurgs.cli.entry import main
from deblurgs.errors import SfmError


@pytest.fixture(autouse=True)
def no_sfm(monkeypatch) -> None:
    def never(*_: object, **__: object) -> None:
        pytest.fail("cameras were looked for, although nothing can be measured")

    monkeypatch.setattr("deblurgs.sfm.stage.run_sfm", never)


def scene(folder: Path, *others: str) -> Path:
    """A capture of four photos in images/, and one of them in each of the folders `others`."""
    rng = np.random.default_rng(3)
    for name in ("images", *others):
        (folder / name).mkdir(parents=True)
        for i in range(4 if name == "images" else 1):
            write_png(folder / name / f"{i}.png", rng.random((48, 64, 3)).astype(np.float32))
    return folder


def archive(folder: Path) -> Path:
    target = folder.with_suffix(".zip")
    with zipfile.ZipFile(target, "w") as file:
        for path in sorted(folder.rglob("*.png")):
            file.write(path, path.relative_to(folder))
    return target


@pytest.mark.parametrize("packed", [False, True])
def test_a_scene_without_truth_is_refused_at_once(tmp_path: Path, capfd, packed: bool) -> None:
    source, work = scene(tmp_path / "desk"), tmp_path / "work"
    source = archive(source) if packed else source
    assert main(["eval", str(source), "--output", str(work), "--quiet"]) == 2
    told = " ".join(capfd.readouterr().err.split())
    assert f"{source} has neither held-out sharp views" in told
    assert "sharp/ beside images/" in told and "Use `deblurgs run`" in told
    assert packed or not work.exists(), "the working folder is left as it was"


def test_a_video_has_no_truth(tmp_path: Path, capfd) -> None:
    video = tmp_path / "clip.mp4"
    video.write_bytes(b"\0\0\0\x18ftypisom" + bytes(64))
    assert main(["eval", str(video), "--output", str(tmp_path / "work"), "--quiet"]) == 2
    assert "nothing to compare with" in " ".join(capfd.readouterr().err.split())


def test_truth_that_cannot_be_read_is_no_truth(tmp_path: Path, capfd) -> None:
    source = scene(tmp_path / "desk", "test")
    (source / "test" / "0.png").write_bytes(b"no picture")
    assert main(["eval", str(source), "--output", str(tmp_path / "work"), "--quiet"]) == 2
    assert "nothing to compare with" in " ".join(capfd.readouterr().err.split())


def test_what_a_method_needs_is_asked_for_before_the_work(tmp_path: Path, capfd) -> None:
    source = scene(tmp_path / "desk", "test")
    common = ["eval", str(source), "--output", str(tmp_path / "work"), "--quiet"]
    assert main([*common, "--methods", "plain,oracle"]) == 2
    assert "Leave `oracle` out of --methods" in " ".join(capfd.readouterr().err.split())
    assert main([*common, "--sfm", "given"]) == 2
    assert "brings no camera model. Use --sfm blurry-only." in " ".join(capfd.readouterr().err.split())


def test_two_scenes_of_one_name_have_one_default_folder(tmp_path: Path, capfd, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = scene(tmp_path / "a" / "desk", "test"), scene(tmp_path / "b" / "desk", "test")

    def enough(*_: object, **__: object) -> None:
        raise SfmError("frames are enough")

    monkeypatch.setattr("deblurgs.stages.evaluate.find_cameras", enough)
    assert main(["eval", str(first), "--quiet"]) == SfmError.exit_code
    frames = (tmp_path / "deblurgs_runs" / "eval-desk" / "frames.json").read_bytes()
    assert main(["eval", str(second), "--quiet"]) == 2
    assert f"holds the results of {first}, not of {second}" in " ".join(capfd.readouterr().err.split())
    assert (tmp_path / "deblurgs_runs" / "eval-desk" / "frames.json").read_bytes() == frames
