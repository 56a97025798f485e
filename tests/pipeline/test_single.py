"""Captures from which no scene can follow are restored frame by frame, and say so."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deblurgs.cli import main


def photos(folder: Path, count: int) -> Path:
    folder.mkdir()
    for index in range(count):
        pixels = np.random.default_rng(index).integers(0, 255, (48, 64, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"p{index}.png")
    return folder


def test_two_photos_are_restored_singly_and_marked(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source, out = photos(tmp_path / "in", 2), tmp_path / "run"
    assert main(["run", str(source), "--output", str(out)]) == 0
    note = json.loads((out / "renders" / "single.json").read_text())
    assert note["made_by"] == "network" and note["frames"] == ["p0.png", "p1.png"]
    assert sorted(p.name for p in (out / "renders" / "sharp").iterdir()) == ["p0.png", "p1.png"]
    assert json.loads((out / "manifest.json").read_text())["stages"]["single"]["status"] == "done"
    assert "neural network" in capfd.readouterr().err


def test_one_photo_file_is_enough_and_none_switches_it_off(tmp_path: Path) -> None:
    source = photos(tmp_path / "in", 1) / "p0.png"
    assert main(["run", str(source), "--output", str(tmp_path / "a")]) == 0
    assert (tmp_path / "a" / "renders" / "sharp" / "p0.png").is_file()
    assert main(["run", str(source), "--output", str(tmp_path / "b"), "--fallback", "none"]) == 3
    assert not (tmp_path / "b" / "renders").exists()


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
