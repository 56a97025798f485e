"""The whole job through the command line, on the capture that ships with the project, with very little training."""

import dataclasses
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

from deblurgs.capture.dataset import load_capture
from deblurgs.cli import main
from deblurgs.demo import demo_source
from deblurgs.errors import EXIT_INTERRUPTED
from deblurgs.export.ply import read_ply
from deblurgs.export.trajectories import read_trajectories
from deblurgs.run import RunFolder
from deblurgs.sfm.model import load_model, save_model
from deblurgs.stages.process import source_identity

BRIEF = ["--train.scales", "0.25", "--train.steps", "60", "--train.density.max-gaussians", "2500", "--quiet"]


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("desk") / "run"
    assert main(["run", str(demo_source()), "--output", str(out), *BRIEF]) == 0
    return out


def test_every_promised_file_is_there(desk: Path) -> None:
    frames = sorted(p.name for p in (desk / "frames").glob("*.png"))
    assert len(frames) == 28
    model = json.loads((desk / "sfm" / "sfm.json").read_text())
    assert model["registered"] >= 26
    for folder in ("sharp", "reblur"):
        pictures = sorted((desk / "renders" / folder).glob("*.png"))
        assert len(pictures) == model["registered"]
        assert all(iio.imread(p).shape == (320, 480, 3) for p in pictures), "full input size"
    for name in (
        "renders/compare.jpg",
        "config.json",
        "metrics.jsonl",
        "sfm/sparse/0/cameras.bin",
        "report.html",
    ):
        assert (desk / name).stat().st_size > 0, name
    manifest = json.loads((desk / "manifest.json").read_text())
    assert {n: s["status"] for n, s in manifest["stages"].items()} == dict.fromkeys(
        ["capture", "sfm", "train", "render", "export"], "done"
    )
    text = "".join(p.read_text() for p in desk.glob("*.json"))
    assert str(desk) not in text, "a run folder can be moved"


def test_sixty_steps_already_look_like_the_frames(desk: Path) -> None:
    """Not sharp yet, but at the right place: each re-blurred frame is nearest to its own observed frame."""
    read = lambda p: iio.imread(p).astype(float)[::4, ::4]  # noqa: E731
    frames = {f.stem: read(f.path) for f in load_capture(desk).frames[::7]}
    stems = list(frames)
    for stem in stems:
        own = read(desk / "renders" / "reblur" / f"{stem}.png")
        distance = {s: np.abs(own - f).mean() for s, f in frames.items()}
        assert min(distance, key=lambda s: distance[s]) == stem


def test_the_self_check_judges_every_frame(desk: Path) -> None:
    sharp = sorted(p.name for p in (desk / "renders" / "sharp").glob("*.png"))
    assert sorted(p.name for p in (desk / "renders" / "support").glob("*.png")) == sharp
    result = json.loads((desk / "trust.json").read_text())
    assert len(result["frames"]) == len(sharp)
    for frame in result["frames"]:
        assert 0.0 <= frame["trust"] <= frame["support"] <= 1.0
        assert frame["reliable"] == (not frame["reasons"]) and frame["residual"] > 0 and frame["path_px"] > 0
    assert result["num_reliable"] == sum(f["reliable"] for f in result["frames"])
    picture = iio.imread(desk / "renders" / "support" / sharp[0])
    assert max(picture.shape[:2]) <= 320 and picture.shape[2] == 3


def test_splats_and_trajectories_live_in_the_sfm_world(desk: Path) -> None:
    from deblurgs.sfm.model import load_model

    model = load_model(desk / "sfm")
    splats = read_ply(desk / "export" / "scene.ply")
    assert 1000 < len(splats.means) <= 2500
    low, high = np.percentile(model.points, [5, 95], axis=0)
    centre = np.median(splats.means, axis=0)
    assert ((centre > low) & (centre < high)).all()
    frames = read_trajectories(desk / "trajectories.json")
    assert [f.name for f in frames] == model.names
    for frame, pose in zip(frames, model.camera_from_world, strict=True):
        assert np.abs(frame.mid_camera_from_world[:3, :3] - pose[:3, :3]).max() < 0.1
        assert frame.weights.sum() == pytest.approx(1.0)


def test_a_finished_run_is_not_repeated_and_a_changed_setting_is(desk: Path, capfd) -> None:
    before = (desk / "checkpoint" / "scene.safetensors").stat().st_mtime_ns
    loud = [option for option in BRIEF if option != "--quiet"]
    capfd.readouterr()
    assert main(["run", str(demo_source()), "--output", str(desk), *loud]) == 0
    told = capfd.readouterr()
    assert told.out == f"{desk}\n" and f"deblurgs view {desk}" in " ".join(told.err.split())
    assert (desk / "checkpoint" / "scene.safetensors").stat().st_mtime_ns == before
    assert main(["train", str(desk), *BRIEF, "--train.seed", "7"]) == 0
    assert (desk / "checkpoint" / "scene.safetensors").stat().st_mtime_ns != before
    manifest = json.loads((desk / "manifest.json").read_text())
    assert manifest["stages"]["render"]["status"] == "outdated"
    assert main(["render", str(desk), "--quiet"]) == 0


def test_a_novel_path_becomes_a_video(desk: Path, capfd) -> None:
    arguments = ["render", str(desk), "--path", "smooth", "--seconds", "0.5", "--fps", "10", "--quiet"]
    assert main(arguments) == 0
    video = Path(capfd.readouterr().out.strip())
    assert video == desk / "renders" / "path.mp4"
    assert iio.imread(video, plugin="pyav").shape == (5, 320, 480, 3)
    assert main(arguments) == 2, "nothing is overwritten unasked"
    assert main([*arguments, "--overwrite"]) == 0


def test_evaluation_writes_the_documented_json(shared_data: Path, tmp_path, capfd) -> None:
    target = tmp_path / "ball.json"
    brief = [a for a in BRIEF if a != "--quiet"]
    code = main([
        "eval", str(shared_data / "deblurnerf_blurball"), "--preset", "fast", "--json", str(target),
        "--output", str(tmp_path / "run"), *brief, "--quiet",
    ])  # fmt: skip
    assert code == 0
    result = json.loads(target.read_text())
    assert result["scene"] == "deblurnerf_blurball" and result["sfm"] == "given"
    assert [(r["method"], r["task"], r["seed"], r["size"]) for r in result["rows"]] == [
        ("plain", "novel", 0, [300, 200]),
        ("deblurgs", "novel", 0, [300, 200]),
    ]
    for row in result["rows"]:
        for column in ("raw", "aligned", "refined"):
            assert 10.0 < row[column]["psnr"] < 40.0 and 0.0 < row[column]["ssim"] < 1.0
        assert row["train_seconds"] > 0 and row["peak_mb"] > 50
        assert sorted(row["views"]) == ["000.png", "007.png", "014.png", "021.png"]
    trained_on = sorted(p.name for p in (tmp_path / "run" / "frames").glob("*.png"))
    assert len(trained_on) == 23 and not set(row["views"]) & set(trained_on)


def picture(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    iio.imwrite(path, array)
    return path


def bad_input(kind: str, tmp_path: Path) -> Path:
    source = tmp_path / "in"
    source.mkdir()
    noise = np.random.default_rng(0)
    if kind == "missing":
        return tmp_path / "nowhere.mp4"
    if kind == "empty video":
        (source / "a.mp4").touch()
        return source / "a.mp4"
    if kind == "text as video":
        (source / "a.mp4").write_text("hello, this is not a film\n" * 100)
        return source / "a.mp4"
    if kind == "empty folder":
        return source
    if kind == "one photo":
        picture(source / "a.png", noise.integers(0, 255, (60, 80, 3), np.uint8))
    if kind == "blank":
        for i in range(5):
            picture(source / f"{i}.png", np.full((60, 80, 3), 40 + 20 * i, np.uint8))
    if kind == "identical":
        still = noise.integers(0, 255, (60, 80, 3), np.uint8)
        for i in range(5):
            picture(source / f"{i}.png", still)
    return source


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("missing", 3), ("empty video", 3), ("text as video", 3), ("empty folder", 3), ("one photo", 3),
        ("blank", 4), ("identical", 4),
    ],
)  # fmt: skip
def test_bad_input_is_one_message_and_the_right_exit_code(kind: str, code: int, tmp_path, capfd) -> None:
    source = bad_input(kind, tmp_path)
    command = ["run", str(source), "--output", str(tmp_path / "out"), "--fallback", "none", *BRIEF]
    assert main(command) == code
    text = capfd.readouterr().err
    assert "error: " in text and "Traceback" not in text and "bug" not in text


@pytest.mark.parametrize("mistake", [["missing.mp4"], [str(demo_source()), "--max-frames", "2"]])
@pytest.mark.parametrize("command", ["run", "process"])
def test_a_mistaken_command_leaves_no_trace(mistake: list[str], command: str, tmp_path, capfd) -> None:
    """No folder where there was none, and a finished run is as good as before."""
    assert main([command, *mistake, "--output", str(tmp_path / "new")]) in (2, 3)
    assert not (tmp_path / "new").exists()
    done = tmp_path / "done"
    with RunFolder(done) as run:
        for stage in ("capture", "sfm", "train"):
            run.stage(stage, {}, lambda: None)
    before = (done / "manifest.json").read_bytes()
    assert main([command, *mistake, "--output", str(done)]) in (2, 3)
    assert (done / "manifest.json").read_bytes() == before and not (done / "config.json").exists()


def test_an_address_of_the_web_is_no_source(tmp_path, capfd) -> None:
    assert main(["run", "https://example.com/clip.mp4", "--output", str(tmp_path / "out")]) == 3
    assert "download it first" in " ".join(capfd.readouterr().err.split())


def test_usage_errors_exit_with_two(tmp_path, desk: Path, capfd) -> None:
    assert main(["train", str(tmp_path / "nothing")]) == 2
    with RunFolder(desk):
        assert main(["report", str(desk)]) == 2
    said = " ".join(capfd.readouterr().err.split())
    assert "is in use by process" in said and "deblurgs view" in said
    assert main(["eval", str(demo_source()), "--methods", "magic", "--output", str(tmp_path / "o")]) == 2
    assert main(["eval", str(demo_source()), "--seeds", "one", "--output", str(tmp_path / "o")]) == 2
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    assert main(["run", str(demo_source()), "--output", str(tmp_path / "full")]) == 2
    assert (tmp_path / "full" / "thesis.txt").read_text() == "mine"
    with pytest.raises(SystemExit) as stopped:
        main(["run", "x", "--train.sede", "3"])
    assert stopped.value.code == 2


def test_interruption_keeps_finished_stages(tmp_path, capfd) -> None:
    out = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "deblurgs.cli",
        "run",
        str(demo_source()),
        "--output",
        str(out),
        "--quiet",
    ]
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    # Other variables that say where caches go would hide what is written to the home folder.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("XDG_")} | {"HOME": str(home)}
    process = subprocess.Popen(
        command, env=environment, cwd=here, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not (out / "metrics.jsonl").exists():
            time.sleep(0.1)
        time.sleep(1.0)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == EXIT_INTERRUPTED, errors.decode()
    assert [*home.iterdir(), *here.iterdir()] == [], "only the run folder is written to"
    stages = json.loads((out / "manifest.json").read_text())["stages"]
    assert stages["sfm"]["status"] == "done" and stages["train"]["status"] == "interrupted"
    assert main(["render", str(out), "--quiet"]) == 0, "what the training had reached can be looked at"
    assert len(list((out / "renders" / "sharp").glob("*.png"))) >= 26
    # What was begun with other settings is not thrown away by a slip of the fingers.
    assert main(["run", str(demo_source()), "--output", str(out), *BRIEF]) == 2
    said = capfd.readouterr()
    assert "steps" in said.out + said.err and "deblurgs resume" in said.out + said.err
    assert main(["train", str(out), "--overwrite", *BRIEF]) == 0
    assert main(["render", str(out), "--quiet"]) == 0
    assert sorted(p.name for p in (out / "checkpoint").iterdir()) == ["scene.safetensors"]
    stages = json.loads((out / "manifest.json").read_text())["stages"]
    assert stages["train"]["status"] == "done" and stages["render"]["status"] == "done"


def test_a_second_interruption_stops_at_once_and_an_earlier_scene_is_kept(desk: Path, tmp_path) -> None:
    out = tmp_path / "run"
    shutil.copytree(desk, out)
    before = (out / "checkpoint" / "scene.safetensors").read_bytes()
    code = (
        "import os, signal, sys\n"
        "from deblurgs.cli import main\n"
        "from deblurgs.train import loop\n"
        "real = loop.Trainer._one_step\n"
        "def step(self, *rest):\n"
        "    for _ in range(2): os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('not stopped')\n"
        "loop.Trainer._one_step = step\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"sys.exit(main(['train', {str(out)!r}, '--quiet', '--train.seed', '3']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == EXIT_INTERRUPTED and "not stopped" not in done.stdout, done.stderr
    assert (out / "checkpoint" / "scene.safetensors").read_bytes() == before
    assert json.loads((out / "manifest.json").read_text())["stages"]["train"]["status"] == "interrupted"


def test_a_training_that_cannot_fit_is_refused_with_the_estimate(desk: Path, tmp_path) -> None:
    """The limit is the process's own, so the refusal stands for that of a full machine."""
    out = tmp_path / "run"
    shutil.copytree(desk, out)
    code = (
        "import resource, sys, torch\n"
        "from deblurgs.cli import main\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), resource.RLIM_INFINITY))\n"
        f"sys.exit(main(['train', {str(out)!r}, '--quiet', '--train.density.max-gaussians', '20000000']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 5, done.stderr
    message = " ".join(done.stderr.split())
    assert "training needs about" in message and "--train.density.max-gaussians" in message
    assert "Traceback" not in message
    stages = json.loads((out / "manifest.json").read_text())["stages"]
    assert stages["train"]["status"] == "failed" and "ResourceError" in stages["train"]["error"]


def test_another_source_of_the_same_name_is_not_mistaken_for_the_first(tmp_path) -> None:
    noise = np.random.default_rng(0)
    first, second = tmp_path / "a" / "images", tmp_path / "b" / "images"
    for folder in (first, second):
        picture(folder / "0.png", noise.integers(0, 255, (20, 30, 3), np.uint8))
    before = source_identity(first)
    assert before["source"] == source_identity(second)["source"]
    assert before != source_identity(second)
    assert before == source_identity(first)
    picture(first / "1.png", noise.integers(0, 255, (20, 30, 3), np.uint8))
    assert before != source_identity(first), "a photo was added"


@pytest.mark.slow
def test_a_lost_frame_is_found_again_by_sharp_renders(tmp_path: Path) -> None:
    """A frame is taken out of the model before training; its pose comes back close to that of SfM."""
    folder = tmp_path / "run"
    assert main(["process", str(demo_source()), "--output", str(folder), "--quiet"]) == 0
    whole = load_model(folder / "sfm")
    lost = whole.names[len(whole.names) // 2]
    kept = [i for i, name in enumerate(whole.names) if name != lost]
    save_model(
        dataclasses.replace(
            whole, names=[whole.names[i] for i in kept], cameras=[whole.cameras[i] for i in kept],
            image_paths=[whole.image_paths[i] for i in kept], camera_from_world=whole.camera_from_world[kept],
            observations=[whole.observations[i] for i in kept], failed=[(lost, "taken out")],
        ),
        folder / "sfm",
    )  # fmt: skip
    steps = ["--preset", "fast", "--train.steps", "300", "300", "--train.density.max-gaussians", "8000"]
    assert main(["train", str(folder), "--quiet", *steps]) == 0
    found = load_model(folder / "sfm")
    assert found.names == whole.names and not found.failed
    turn = found.camera_from_world[found.names.index(lost), :3, :3] @ (
        whole.camera_from_world[whole.names.index(lost), :3, :3].T
    )
    assert np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))) < 2.0
