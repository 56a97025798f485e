"""Runs that are killed, moved or interrupted and gone on with, through the command line."""

import dataclasses
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from deblurgs.cli import main
from deblurgs.demo import demo_source
from deblurgs.errors import EXIT_INTERRUPTED
from deblurgs.files import read_json_lines
from deblurgs.sfm.model import load_model, save_model

SETTINGS = ["--train.scales", "0.25", "--train.steps", "300", "--train.density.max-gaussians", "1500"]


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> Path:
    """Ten frames of the demo, never stopped."""
    photos = tmp_path_factory.mktemp("photos") / "ten"
    photos.mkdir()
    for path in sorted(demo_source().glob("*.jpg"))[:10]:
        shutil.copy(path, photos)
    out = tmp_path_factory.mktemp("straight") / "run"
    assert main(["run", str(photos), "--output", str(out), *SETTINGS, "--quiet"]) == 0
    return out


def begin_again(straight: Path, out: Path, *stages: str) -> None:
    """A copy of the run in which some stages were never done."""
    shutil.copytree(straight, out)
    manifest = json.loads((out / "manifest.json").read_text())
    for stage in stages:
        manifest["stages"].pop(stage, None)
    (out / "manifest.json").write_text(json.dumps(manifest))


def killed_in_training(
    out: Path, at_step: int, number: int = signal.SIGKILL
) -> subprocess.CompletedProcess[str]:
    """`deblurgs train` in a child that sends itself a signal before one of its steps."""
    code = (
        "import os, signal, sys\n"
        "from deblurgs.cli import main\n"
        "from deblurgs.train import loop\n"
        "real = loop.Trainer._one_step\n"
        "def step(self, *rest):\n"
        f"    if self.step == {at_step}: os.kill(os.getpid(), {int(number)})\n"
        "    return real(self, *rest)\n"
        "loop.Trainer._one_step = step\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"sys.exit(main(['train', {str(out)!r}, *{SETTINGS!r}, '--checkpoint-every', '0.2', '--quiet']))\n"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)


def same_training(a: Path, b: Path) -> None:
    first, second = (load_file(p / "checkpoint" / "scene.safetensors") for p in (a, b))
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
    lines = [
        [{k: v for k, v in r.items() if k != "seconds"} for r in read_json_lines(p / "metrics.jsonl")]
        for p in (a, b)
    ]
    assert lines[0] == lines[1] and len(lines[0]) >= 6


def test_a_killed_and_moved_run_goes_on_with_the_same_losses(straight: Path, tmp_path) -> None:
    out, moved = tmp_path / "run", tmp_path / "elsewhere" / "other name"
    begin_again(straight, out, "train", "render", "export")
    assert killed_in_training(out, 230).returncode == -signal.SIGKILL
    assert json.loads((out / "manifest.json").read_text())["stages"]["train"]["status"] == "running"
    kept = sorted(p.name for p in (out / "checkpoint" / "steps").glob("*.json"))
    assert 1 <= len(kept) <= 2 and (out / ".lock").exists()
    moved.parent.mkdir()
    out.rename(moved)
    assert main(["resume", str(moved), "--quiet"]) == 0
    same_training(straight, moved)
    assert sorted(p.name for p in (moved / "checkpoint").iterdir()) == ["scene.safetensors"]
    for path in sorted((straight / "renders" / "sharp").glob("*.png")):
        assert np.array_equal(iio.imread(path), iio.imread(moved / "renders" / "sharp" / path.name))


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_interrupted_training_goes_on_by_the_same_command(straight: Path, tmp_path, capfd, number) -> None:
    out = tmp_path / "run"
    begin_again(straight, out, "train", "render", "export")
    assert killed_in_training(out, 120, number).returncode == EXIT_INTERRUPTED
    assert (out / "checkpoint" / "steps" / "step-0000121.json").is_file()
    assert not (out / ".lock").exists()
    assert main(["train", str(out), *SETTINGS]) == 0
    said = capfd.readouterr()
    assert "goes on from step 121 of 300" in said.out + said.err
    same_training(straight, out)


@pytest.mark.slow
def test_a_killed_rendering_goes_on_with_the_missing_frames(straight: Path, tmp_path) -> None:
    out = tmp_path / "run"
    begin_again(straight, out, "render", "export")
    shutil.rmtree(out / "renders")
    code = (
        "import os, sys\n"
        "from deblurgs.cli import main\n"
        "from deblurgs.render import render\n"
        "real, calls = render.restored_frame, []\n"
        "def restored(*rest):\n"
        "    calls.append(1)\n"
        "    if len(calls) == 5: os.kill(os.getpid(), 9)\n"
        "    return real(*rest)\n"
        "render.restored_frame = restored\n"
        f"sys.exit(main(['render', {str(out)!r}, '--quiet']))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=300).returncode == -9
    before = {p.name: p.stat().st_mtime_ns for p in (out / "renders" / "sharp").glob("*.png")}
    assert len(before) == 4
    assert main(["resume", str(out), "--quiet"]) == 0
    after = {p.name: p.stat().st_mtime_ns for p in (out / "renders" / "sharp").glob("*.png")}
    assert len(after) == 10 and {n: after[n] for n in before} == before
    assert not (out / "renders" / "finished.jsonl").exists()
    for path in sorted((straight / "renders" / "sharp").glob("*.png")):
        assert np.array_equal(iio.imread(path), iio.imread(out / "renders" / "sharp" / path.name))


def test_resume_without_what_it_needs_says_so(straight: Path, tmp_path, capfd) -> None:
    out = tmp_path / "run"
    begin_again(straight, out, "sfm", "train", "render", "export")
    settings = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(settings | {"source": str(tmp_path / "gone")}))
    assert main(["resume", str(out)]) == 2
    assert "is not there any more" in " ".join(capfd.readouterr().err.split())
    for text in ("{", "[]", '{"preset": "none"}'):
        (out / "config.json").write_text(text)
        assert main(["resume", str(out)]) == 2
        assert "how the run was begun" in " ".join(capfd.readouterr().err.split())
    assert main(["resume", str(tmp_path / "nothing")]) == 2


@pytest.mark.slow
def test_a_killed_second_training_goes_on(straight: Path, tmp_path) -> None:
    """One frame is taken out of the model, so that it is found again and the training repeated with it."""
    whole = load_model(straight / "sfm")
    lost = whole.names[5]
    kept = [i for i, name in enumerate(whole.names) if name != lost]
    folders = [tmp_path / "whole", tmp_path / "killed"]
    for out in folders:
        begin_again(straight, out, "train", "render", "export")
        save_model(
            dataclasses.replace(
                whole, names=[whole.names[i] for i in kept], cameras=[whole.cameras[i] for i in kept],
                image_paths=[out / "frames" / whole.image_paths[i].name for i in kept],
                camera_from_world=whole.camera_from_world[kept],
                observations=[whole.observations[i] for i in kept], failed=[(lost, "taken out")],
            ),
            out / "sfm",
        )  # fmt: skip
    assert main(["train", str(folders[0]), *SETTINGS, "--quiet"]) == 0
    assert len(load_model(folders[0] / "sfm").names) == 10, "the frame is found, else this test tests nothing"
    command = [sys.executable, "-m", "deblurgs.cli", "train", str(folders[1]), *SETTINGS]
    process = subprocess.Popen([*command, "--checkpoint-every", "0.2", "--quiet"], env=os.environ)
    steps = folders[1] / "checkpoint" / "again" / "steps"
    deadline = time.monotonic() + 300
    while not list(steps.glob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert (folders[1] / "checkpoint" / "again" / "plan.json").is_file()
    assert main(["resume", str(folders[1]), "--quiet"]) == 0
    same_training(folders[0], folders[1])
    assert load_model(folders[1] / "sfm").names == whole.names


@pytest.mark.slow
def test_random_kills_leave_no_trace(tmp_path) -> None:
    """A few of what tools/kill_test.py does at length."""
    spec = importlib.util.spec_from_file_location(
        "kill_test", Path(__file__).parents[2] / "tools" / "kill_test.py"
    )
    assert spec is not None and spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    results = tool.kill_runs(tmp_path, 5, 1)
    assert len(results) == 5 and [r["problem"] for r in results] == [None] * 5
