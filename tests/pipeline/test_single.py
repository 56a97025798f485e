"""Captures from which no scene can follow are restored frame by frame, and say so."""

import json
import zipfile
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageFilter

from deblurgs.cli import main


def photos(folder: Path, count: int) -> Path:
    folder.mkdir()
    for index in range(count):
        pixels = np.random.default_rng(index).integers(0, 255, (48, 64, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"p{index}.png")
    return folder


def film(path: Path, pictures: list[np.ndarray]) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "6", "bf": "0"})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv444p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def textured(seed: int = 0, noise: float = 0.0) -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 255, (8, 10, 3))
    picture = np.repeat(np.repeat(coarse, 8, 0), 8, 1) + noise * np.random.default_rng(seed).normal(
        size=(64, 80, 3)
    )
    return np.clip(picture, 0, 255).astype(np.uint8)


# Cases 11 and 12.
@pytest.mark.parametrize("count", [1, 2])
def test_the_frames_of_a_very_short_film_are_restored_singly(
    tmp_path: Path, count: int, capfd: pytest.CaptureFixture[str]
) -> None:
    source = film(tmp_path / "a.mp4", [np.roll(textured(), 5 * i, 1) for i in range(count)])
    out = tmp_path / "run"
    assert main(["run", str(source), "--output", str(out)]) == 0
    names = [f"frame_{i:06d}.png" for i in range(count)]
    assert sorted(p.name for p in (out / "renders" / "sharp").iterdir()) == names
    note = json.loads((out / "renders" / "single.json").read_text())
    assert note["frames"] == names and "3-D needs several frames" in note["reason"]
    restored = np.asarray(Image.open(out / "renders" / "sharp" / names[-1])).astype(int)
    assert np.abs(restored - np.roll(textured(), 5 * (count - 1), 1)).mean() < 25
    assert "frame_000000" in (out / "report.html").read_text()
    assert "neural network" in " ".join(capfd.readouterr().err.split())
    # What is done is not repeated, and switched off it is the error that it was.
    written = (out / "renders" / "sharp" / names[0]).stat().st_mtime_ns
    assert main(["run", str(source), "--output", str(out)]) == 0
    assert (out / "renders" / "sharp" / names[0]).stat().st_mtime_ns == written
    assert main(["run", str(source), "--output", str(tmp_path / "b"), "--fallback", "none"]) == 3
    assert main(["process", str(source), "--output", str(tmp_path / "c")]) == 3


# Case 32 for video.
def test_a_film_of_a_camera_that_stood_still_gives_a_dozen_frames(tmp_path: Path) -> None:
    """The sharpest of each stretch: here every second frame is a little blurred."""
    pictures = [Image.fromarray(textured(i, 4.0)) for i in range(30)]
    soft = ImageFilter.GaussianBlur(0.8)
    source = film(
        tmp_path / "a.mp4", [np.asarray(p.filter(soft) if i % 2 else p) for i, p in enumerate(pictures)]
    )
    assert main(["run", str(source), "--output", str(tmp_path / "run")]) == 0
    note = json.loads((tmp_path / "run" / "renders" / "single.json").read_text())
    assert "camera did not move" in note["reason"] and len(note["frames"]) == 12
    numbers = [int(name.removeprefix("frame_").removesuffix(".png")) for name in note["frames"]]
    assert not any(number % 2 for number in numbers) and max(np.diff(numbers)) <= 4, numbers
    assert len(list((tmp_path / "run" / "renders" / "sharp").iterdir())) == 12
    assert main(["run", str(source), "--output", str(tmp_path / "b"), "--fallback", "none"]) == 4


# Cases 32 and 34 for photos.
@pytest.mark.parametrize("kind", ["the camera did not move", "nothing to see"])
def test_photos_from_which_no_scene_can_follow_are_restored_one_by_one(
    tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for i in range(4):
        blank = np.full((64, 80, 3), 60 + 40 * i, np.uint8)
        Image.fromarray(blank if kind == "nothing to see" else textured(i, 4.0)).save(source / f"p{i}.png")
    out = tmp_path / "run"
    assert main(["run", str(source), "--output", str(out)]) == 0
    assert sorted(p.name for p in (out / "renders" / "sharp").iterdir()) == [f"p{i}.png" for i in range(4)]
    reason = json.loads((out / "renders" / "single.json").read_text())["reason"]
    assert ("no features" if kind == "nothing to see" else "camera did not move") in reason
    assert "neural network" in " ".join(capfd.readouterr().err.split())
    assert main(["run", str(source), "--output", str(tmp_path / "b"), "--fallback", "none"]) == 4


def test_a_damaged_film_is_still_an_error(tmp_path: Path) -> None:
    source = film(tmp_path / "a.mp4", [textured()])
    source.write_bytes(source.read_bytes()[:200])
    assert main(["run", str(source), "--output", str(tmp_path / "run")]) == 3
    assert not (tmp_path / "run" / "renders").exists()


def test_an_archive_and_a_project_of_two_photos_give_just_those(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    photos(project / "images", 2)
    photos(project / "sharp", 2)  # twins are for evaluation, not input
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for path in sorted(project.rglob("*.png")):
            archive.write(path, path.relative_to(tmp_path))
    for source in (project, tmp_path / "a.zip"):
        out = tmp_path / f"run_{source.stem}"
        assert main(["run", str(source), "--output", str(out)]) == 0
        assert json.loads((out / "renders" / "single.json").read_text())["frames"] == ["p0.png", "p1.png"]
        assert not (out / ".capture-unpacked").exists()


def test_photos_are_not_cleared_away_by_their_own_results(tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert main(["run", str(photos(tmp_path / "in", 2)), "--output", str(out)]) == 0
    source = out / "renders" / "sharp"
    assert main(["run", str(source), "--output", str(out)]) == 2
    assert len(list(source.iterdir())) == 2


def test_two_photos_are_restored_singly_and_marked(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source, out = photos(tmp_path / "in", 2), tmp_path / "run"
    assert main(["run", str(source), "--output", str(out)]) == 0
    note = json.loads((out / "renders" / "single.json").read_text())
    assert note["made_by"] == "network" and note["frames"] == ["p0.png", "p1.png"]
    assert sorted(p.name for p in (out / "renders" / "sharp").iterdir()) == ["p0.png", "p1.png"]
    assert json.loads((out / "manifest.json").read_text())["stages"]["single"]["status"] == "done"
    said = " ".join(capfd.readouterr().err.split())
    assert "neural network" in said and "from different places. Without a scene" in said
    assert "report.html" in said and "deblurgs view" not in said


def test_one_photo_file_is_enough_and_none_switches_it_off(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = photos(tmp_path / "in", 1) / "p0.png"
    assert main(["run", str(source), "--output", str(tmp_path / "a")]) == 0
    assert (tmp_path / "a" / "renders" / "sharp" / "p0.png").is_file()
    assert main(["run", str(source), "--output", str(tmp_path / "b"), "--fallback", "none"]) == 3
    assert not (tmp_path / "b" / "renders").exists()
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff broken")
    raw = tmp_path / "a.cr3"
    raw.write_bytes(b"\0\0\0\x18ftypcrx " + b"\0" * 50)  # begins as a film does
    for name, path in (("c", broken), ("d", raw)):
        assert main(["run", str(path), "--output", str(tmp_path / name)]) == 3
        assert "single image" in " ".join(capfd.readouterr().err.split())


def test_frames_without_cameras_are_restored_from_the_capture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deblurgs.errors import SfmError

    def fail(*_: object, **__: object) -> None:
        raise SfmError("no overlap between the frames.")

    monkeypatch.setattr("deblurgs.sfm.stage.run_sfm", fail)
    source = photos(tmp_path / "in", 4)
    assert main(["run", str(source), "--output", str(tmp_path / "a")]) == 0
    assert len(list((tmp_path / "a" / "renders" / "sharp").glob("*.png"))) == 4
    note = json.loads((tmp_path / "a" / "renders" / "single.json").read_text())
    assert "no overlap" in note["reason"]
    assert main(["run", str(source), "--output", str(tmp_path / "b"), "--fallback", "none"]) == 4
