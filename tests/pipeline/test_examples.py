"""The programs in examples/ and the code of docs/api.md, run as they stand."""

import re
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_run import CAMERA, make_run

from deblurgs.capture.image import read_rgb
from deblurgs.demo import demo_source
from deblurgs.export.ply import read_ply
from deblurgs.log import Log
from deblurgs.stages.render import render

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("[0-9]*.py"))
NAMES = ["a.jpg", "b.jpg", "c.jpg", "lost.jpg"]

Runner = Callable[..., str]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "desk"
    torch.manual_seed(0)  # of the colours
    with make_run(folder, NAMES) as run:
        render(run, Log(quiet=True), fallback=False)
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the run in runs/desk."""
    shutil.copytree(finished, tmp_path / "runs" / "desk")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Runner:
    """Runs the example of a number like a program and returns what it prints: results, then what goes to stderr."""

    def run(number: int, *arguments: str) -> str:
        path = next(p for p in EXAMPLES if p.name.startswith(f"{number:02d}_"))
        monkeypatch.setattr(sys, "argv", [str(path), *arguments])
        runpy.run_path(str(path), run_name="__main__")
        return "".join(capsys.readouterr())

    return run


@pytest.mark.parametrize("number", range(1, len(EXAMPLES) + 1))
def test_a_missing_input_is_one_line(
    number: int, example: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        example(number, "nowhere", *(["run"] if number == 7 else []))
    code = stopped.value.code
    assert code == 3 or (isinstance(code, str) and code.startswith("error: ") and "\n" not in code)


def test_a_splat_file_is_drawn(folder: Path, example: Runner) -> None:
    said = example(1, "runs/desk/export/scene.ply")
    ahead = read_rgb(folder / "view.png")
    assert ahead.shape == (480, 640, 3) and "40 Gaussians" in said
    middle = ahead[120:360, 160:480]
    assert middle.mean() > 1.5 * ahead[:, :40].mean(), "the scene stands in the middle"
    example(1, "runs/desk/export/scene.ply", "--turn", "30", "--output", "turned.png")
    assert np.abs(read_rgb(folder / "turned.png") - ahead).mean() > 0.01


def test_a_run_is_told_in_numbers(folder: Path, example: Runner) -> None:
    lines = example(2, "runs/desk").splitlines()
    assert lines[0] == "3 frames with a camera, 1 without; 40 points"
    # From -0.05 to 0.05 in units of a scene that is half as large; virtual views leave out half a step at each end.
    (moved,) = {float(line.split()[3]) for line in lines if line.startswith(("a.jpg", "b.jpg", "c.jpg"))}
    assert 0.1 < moved < 0.2
    assert f"{CAMERA.fx:.0f} px at {CAMERA.width}x{CAMERA.height}" in lines[1]


def test_shorter_exposures_lie_between_sharp_and_blurred(folder: Path, example: Runner) -> None:
    example(3, "runs/desk", "--frame", "1")
    strip = read_rgb(folder / "exposure.png")
    assert strip.shape == (CAMERA.height, 5 * CAMERA.width, 3)
    sharp, quarter, half, whole, observed = np.split(strip, 5, axis=1)
    assert 0 < np.abs(quarter - sharp).mean() < np.abs(half - sharp).mean() < np.abs(whole - sharp).mean()
    frame = read_rgb(folder / "runs" / "desk" / "frames" / "000001.png")
    np.testing.assert_allclose(observed, frame, atol=1e-6)


def test_a_scene_is_trained(folder: Path, example: Runner) -> None:
    said = example(4, "runs/desk", "--steps", "100")
    losses = [float(loss) for loss in re.findall(r"loss ([\d.]+)", said)]
    assert len(losses) == 4, "a line every 50 steps, at two scales"
    assert losses[1] < losses[0] and losses[3] < losses[2]
    assert len(read_ply(folder / "quick.ply")) >= 30


def test_a_run_is_handed_on(folder: Path, example: Runner) -> None:
    said = example(5, "runs/desk")
    assert "there are also: depth" in said
    for path in ("scene.html", "scene.spz", "colmap/sparse/0/images.bin", "camera_path.json"):
        assert (folder / "handed-on" / path).stat().st_size > 0


def test_a_pose_is_found_again(folder: Path, example: Runner) -> None:
    said = example(6, "runs/desk/export/scene.ply")
    off = [float(number) for number in re.findall(r"off by ([\d.]+)", said)]
    assert off[-1] < 0.25 * off[0]


@pytest.mark.slow
def test_the_whole_job_is_done_twice_and_works_once(
    example: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for path in sorted(demo_source().glob("*.jpg"))[:10]:
        shutil.copy(path, photos)
    monkeypatch.chdir(tmp_path)
    example(7, "photos", "run")
    assert (tmp_path / "run" / "report.html").is_file()
    assert len(list((tmp_path / "run" / "renders" / "sharp").glob("*.png"))) == 10
    scene = (tmp_path / "run" / "checkpoint" / "scene.safetensors").stat().st_mtime_ns
    assert "train: already done" in example(7, "photos", "run")
    assert (tmp_path / "run" / "checkpoint" / "scene.safetensors").stat().st_mtime_ns == scene


def test_errors_end_an_example_with_the_commands_exit_code(folder: Path, example: Runner) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(SystemExit) as ended:
        example(7, "empty", "new")
    assert ended.value.code == 3


@pytest.mark.parametrize("number", [2, 5])
def test_a_folder_that_is_no_run_is_one_message(number: int, folder: Path, example: Runner) -> None:
    with pytest.raises(SystemExit) as ended:
        example(number, ".")
    assert "error: . is not a run folder" in str(ended.value.code)


def test_a_run_that_is_not_rendered_or_damaged_is_one_message(folder: Path, example: Runner) -> None:
    with pytest.raises(SystemExit) as ended:
        (folder / "runs" / "desk" / "sfm" / "model.npz").write_bytes(b"no model")
        example(2, "runs/desk")
    assert ended.value.code == 4
    (folder / "runs" / "desk" / "trust.json").unlink()
    with pytest.raises(SystemExit) as ended:
        example(2, "runs/desk")
    assert "deblurgs resume runs/desk" in str(ended.value.code)


def test_every_example_is_listed_numbered_and_introduced() -> None:
    text = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    assert [int(path.name[:2]) for path in EXAMPLES] == list(range(1, len(EXAMPLES) + 1))
    for path in EXAMPLES:
        assert f"]({path.name})" in text
        assert f"python examples/{path.name} " in path.read_text(encoding="utf-8").partition('"""\n')[0]


def test_the_code_of_the_api_page_runs(folder: Path) -> None:
    code, inside = [], False
    for line in (ROOT / "docs" / "api.md").read_text(encoding="utf-8").splitlines():
        fence = line.startswith("```")
        inside = line == "```python" if fence else inside
        code.append(line if inside and not fence else "")  # so that errors name the line of the page
    (folder / "api.py").write_text("\n".join(code), encoding="utf-8")
    names: dict[str, Any] = runpy.run_path("api.py")
    assert (folder / "view.png").is_file() and (folder / "scene.html").is_file()
    assert names["page"] == Path("scene.html") and len(names["losses"]) == 2
    assert names["handed_out"].shape == (CAMERA.height, CAMERA.width, 3)
    np.testing.assert_allclose(names["middle"], names["model"].camera_from_world, atol=1e-5)
    assert names["restored"].shape == (CAMERA.height, CAMERA.width, 3)
