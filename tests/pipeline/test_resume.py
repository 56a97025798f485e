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
from types import SimpleNamespace
from typing import Any, cast

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from deblurgs.cli import main
from deblurgs.config import TrainConfig
from deblurgs.demo import demo_source
from deblurgs.errors import EXIT_INTERRUPTED, ResourceError
from deblurgs.files import read_json_lines
from deblurgs.log import Log
from deblurgs.run import RunFolder
from deblurgs.scene.camera import Camera
from deblurgs.sfm.extend import Found, extend
from deblurgs.sfm.model import SparseModel, load_model, save_model
from deblurgs.stages.observe import Observers
from deblurgs.stages.second_training import SecondTraining
from deblurgs.stages.train import Circumstances
from deblurgs.train.keeper import Checkpoints

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
    done = killed_in_training(out, 120, number)
    assert done.returncode == EXIT_INTERRUPTED
    words = "".join(done.stderr.split())  # lines are broken anywhere
    assert words.count("deblurgsresume") == 1 and f"deblurgsrender{out}" in words, (
        "one message tells how to go on"
    )
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


@dataclasses.dataclass
class Search:
    """A run folder whose model lacks one of three frames, and the second training that looks for it."""

    run: RunFolder
    before: SparseModel

    def begin(self) -> SecondTraining:
        """As every training begins."""
        return SecondTraining(self.run, TrainConfig(), self.around)

    @property
    def around(self) -> Circumstances:
        log = Log(quiet=True)
        return Circumstances(log, 45.0, torch.device("cpu"), Observers(log))

    def find(self) -> SparseModel:
        """What the search does when it finds the frame."""
        camera, path = self.before.cameras[0], self.before.image_paths[0]
        return extend(self.run.sfm, Found(["a", "b", "c"], {"c": (camera, path, np.eye(4))}))

    def unchanged(self) -> bool:
        """Whether model and report are those of before the search."""
        now, report = load_model(self.run.sfm), json.loads((self.run.sfm / "sfm.json").read_text())
        return now.names == ["a", "b"] and now.failed == [("c", "lost")] and report == {"registered": 2}


@pytest.fixture
def search(tmp_path: Path) -> Search:
    run = RunFolder(tmp_path / "run")
    for folder in (run.sfm, run.checkpoint):
        folder.mkdir(parents=True)
    model = SparseModel(
        names=["a", "b"], cameras=[Camera(8, 6, 8.0, 8.0, 4.0, 3.0)] * 2, image_paths=[run.frames / "a.png"] * 2,
        camera_from_world=np.stack([np.eye(4)] * 2), points=np.array([[0.0, 0.0, 1.0]]),
        colors=np.zeros((1, 3), np.uint8), errors=np.zeros(1, np.float32), observations=[np.zeros(1, np.int64)] * 2,
        failed=[("c", "lost")],
    )  # fmt: skip
    save_model(model, run.sfm)
    (run.sfm / "sfm.json").write_text('{"registered": 2}')
    (run.checkpoint / "interrupted.safetensors").write_bytes(b"of two frames")
    return Search(run, model)


@pytest.mark.parametrize("how", ["killed", "full disk"])
def test_a_search_that_is_cut_off_leaves_the_model_that_the_checkpoints_fit(
    search: Search, monkeypatch, how: str
) -> None:
    class Killed(BaseException):
        """What no handler may hold back."""

    def cut_off(*_: object) -> None:
        search.find()
        raise Killed if how == "killed" else ResourceError("the disk is full")

    monkeypatch.setattr("deblurgs.stages.second_training.find_lost_frames", cut_off)
    scene, data = (cast(Any, SimpleNamespace(scene_from_sfm=None, names=["a", "b"])) for _ in range(2))
    try:
        kept = search.begin().train_if_frames_are_found(search.before, scene, data, lambda: False)
        assert how == "full disk" and kept == (scene, data)
    except Killed:
        assert load_model(search.run.sfm).names == ["a", "b", "c"] and not search.begin().begun
    assert search.unchanged()
    assert not list(search.run.checkpoint.iterdir())


def test_an_sfm_that_was_repeated_since_stays(search: Search, monkeypatch) -> None:
    second = search.begin()
    second._keep("before", search.before)
    other = dataclasses.replace(search.before, points=np.array([[0.0, 0.0, 2.0]]), failed=[])
    save_model(other, search.run.sfm)
    assert not search.begin().begun
    assert load_model(search.run.sfm).points[0, 2] == 2.0 and not second.folder.exists()


def test_a_second_training_that_fails_or_is_interrupted_leaves_model_and_report(
    search: Search, monkeypatch
) -> None:
    seen: list[list[str]] = []

    def failed(*_: object, **__: object) -> None:
        seen.append(load_model(search.run.sfm).names)
        assert not (search.run.checkpoint / "interrupted.safetensors").exists()
        assert json.loads((search.run.sfm / "sfm.json").read_text())["registered"] == 3
        raise ResourceError("no memory")

    module = "deblurgs.stages.second_training"
    monkeypatch.setattr(f"{module}.find_lost_frames", lambda *_: search.find())
    monkeypatch.setattr(f"{module}.training_set", failed)
    monkeypatch.setattr("deblurgs.capture.dataset.load_capture", lambda _: None)
    monkeypatch.setattr("deblurgs.train.checkpoint.save_scene", lambda path, *_: path.write_bytes(b"scene"))
    scene, data = (cast(Any, SimpleNamespace(scene_from_sfm=None, names=["a", "b"])) for _ in range(2))
    second = search.begin()
    assert second.train_if_frames_are_found(search.before, scene, data, lambda: False) == (scene, data)
    assert second.begun and search.unchanged()
    # Gone on with after it was shown in between.
    (search.run.checkpoint / "interrupted.safetensors").write_bytes(b"of two frames")
    again = search.begin()
    assert again.begun and search.unchanged()
    again._train(
        load_model(again.folder / "before"), load_model(again.folder / "after"), scene, data, lambda: False
    )
    assert search.unchanged() and seen == [["a", "b", "c"]] * 2


def test_checkpoints_count_the_time_of_their_own_training(tmp_path: Path) -> None:
    """Those of a second training are set up before the first one begins."""
    keeper = Checkpoints(tmp_path, Log(quiet=True))
    keeper.started -= 1000.0
    keeper.last_end -= 1000.0
    assert keeper.resume(cast(Any, None)) is None
    assert time.monotonic() - keeper.started < 100.0 and time.monotonic() - keeper.last_end < 100.0


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
