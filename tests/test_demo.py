"""The capture that ships with the project."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deblurgs import demo
from deblurgs.demo import demo_source
from deblurgs.errors import UsageError


def test_the_demo_has_28_frames_of_one_size_and_is_small() -> None:
    files = sorted(demo_source().iterdir())
    assert len(files) == 28
    assert sum(file.stat().st_size for file in files) < 2.5e6
    for file in files:
        with Image.open(file) as image:
            assert image.size == (480, 320) and image.format == "JPEG"


def test_the_licence_is_told_beside_it() -> None:
    text = (demo_source().parent / "README.md").read_text()
    assert "## Licence" in text and "redistribute" in text


def test_the_frames_are_close_to_the_renders(shared_data: Path) -> None:
    for file in sorted(demo_source().iterdir()):
        with (
            Image.open(file) as stored,
            Image.open(shared_data / "synth_desk/images" / f"{file.stem}.png") as png,
        ):
            difference = np.asarray(stored, float) - np.asarray(png.convert("RGB"), float)
        assert 10 * np.log10(255**2 / np.mean(difference**2)) > 42, file.name


def test_a_missing_capture_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "__file__", str(tmp_path / "a" / "b" / "demo.py"))
    with pytest.raises(UsageError, match="demo capture is missing"):
        demo_source()
