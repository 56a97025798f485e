"""What is named as a source: mistakes are told before anything is touched."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deblurgs.cli import main
from deblurgs.run import RunFolder


def photos(folder: Path, count: int = 2) -> Path:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(count):
        Image.fromarray(rng.integers(0, 255, (48, 64, 3), np.uint8)).save(folder / f"{i}.jpg")
    return folder


def run_folder(path: Path) -> Path:
    """A run with frames and results, as far as a source can look like one."""
    with RunFolder(path) as run:
        for name in ("frames", "renders/sharp"):
            photos(run.path / name, 4)
        run.frames_json.write_text("{}")
        run.stage("capture", {}, lambda: None)
    return path


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Default outputs go beside the caller."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path


def told(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("command", ["run", "process", "triage"])
@pytest.mark.parametrize("source", ["deblurgs_runs/desk", "deblurgs_runs/desk/", "deblurgs_runs"])
def test_results_are_no_source(
    command: str, source: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_folder(place / "deblurgs_runs" / "desk")
    before = everything(place)
    assert main([command, source]) == 2
    said = told(capsys)
    assert "deblurgs view deblurgs_runs/desk" in said and "source" in said
    if source != "deblurgs_runs":
        assert "deblurgs resume deblurgs_runs/desk" in said
        assert "deblurgs_runs/desk/frames" in said and "deblurgs_runs/desk/renders/sharp" in said
    assert everything(place) == before and run.is_dir()


def test_a_run_folder_with_a_damaged_manifest_is_no_source(place: Path) -> None:
    run = run_folder(place / "desk")
    (run / "manifest.json").write_text("{")
    assert main(["run", "desk", "--output", "new"]) == 2
    assert not (place / "new").exists()


def test_a_manifest_of_another_program_makes_no_run_folder(place: Path) -> None:
    folder = photos(place / "cam")
    (folder / "manifest.json").write_text('{"name": "app"}')
    assert main(["triage", "cam", "--quiet"]) == 0


@pytest.mark.parametrize("inside", ["frames", "renders/sharp", "renders"])
def test_the_pictures_of_a_run_do_not_become_its_own_source(
    inside: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_folder(place / "desk")
    before = everything(run)
    assert main(["run", f"desk/{inside}", "--output", "desk"]) == 2
    assert "lies inside the output folder desk" in told(capsys)
    assert everything(run) == before
