"""deblurgs triage: a picture, a folder and a video; the files it writes; bad input."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from deblurgs.cli import main


def save(folder: Path, lengths: list[int]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i, length in enumerate(lengths):
        parts = [np.roll(data.coffee(), step, 1) for step in range(length)]
        pixels = np.mean(parts, axis=0).astype(np.uint8)
        Image.fromarray(pixels[:240, :320]).save(folder / f"img{i}.png")
    return folder


def test_a_folder_is_ranked_and_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = save(tmp_path / "photos", [9, 1, 4])
    (source / "broken.png").write_bytes(b"\x89PNG broken")
    out = tmp_path / "out"
    assert main(["triage", str(source), "--output", str(out), "--quiet"]) == 0
    result = json.loads((out / "triage.json").read_text())
    ranks = {Path(row["name"]).name: row["rank"] for row in result["frames"]}
    assert ranks == {"img0.png": 3, "img1.png": 1, "img2.png": 2}
    worst = next(row for row in result["frames"] if row["rank"] == 3)
    assert worst["percentile"] == 1.0 and worst["probability"] > 0.5 and worst["extent_px"] > 2
    assert len(worst["heat"]) and (out / "triage.jpg").stat().st_size > 1000
    told = capsys.readouterr()
    assert told.out.splitlines()[-2:] == [str(out / "triage.json"), str(out / "triage.jpg")]
    assert "img1.png" in told.out and "broken.png is left out" in told.err
    assert main(["triage", str(source), "--output", str(out), "--quiet"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main(["triage", str(source), "--output", str(out), "--quiet", "--overwrite"]) == 0


def test_one_picture_is_enough(tmp_path: Path) -> None:
    source = save(tmp_path / "photos", [1]) / "img0.png"
    assert main(["triage", str(source), "--output", str(tmp_path / "out"), "--quiet"]) == 0
    (row,) = json.loads((tmp_path / "out" / "triage.json").read_text())["frames"]
    assert row["rank"] == 1 and row["percentile"] == 0.0


def test_bad_input_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "a.png"
    broken.write_bytes(b"\x89PNG broken")
    for source, code, word in ((broken, 3, "a.png"), (tmp_path / "none", 3, "none")):
        assert main(["triage", str(source), "--output", str(tmp_path / "out"), "--quiet"]) == code
        assert word in capsys.readouterr().err
    assert not (tmp_path / "out" / "triage.json").exists()
    assert main(["triage", str(tmp_path / "none"), "--output", str(tmp_path / "never")]) == 3
    assert not (tmp_path / "never").exists()
    assert main(["triage", str(tmp_path), "--max-frames", "0"]) == 2
