"""The run folder: stages are done once, interruptions are remembered, one process at a time."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deblurgs.errors import CaptureError, ResourceError, SfmError, UsageError
from deblurgs.files import TEMPORARY_PREFIX
from deblurgs.log import Log
from deblurgs.run import STAGES, RunFolder, StageStatus, changed_fields, fingerprint

ROOT = Path(__file__).parents[1]


def stages(path: Path) -> dict[str, Any]:
    return json.loads((path / "manifest.json").read_text())["stages"]


def do(path: Path, name: str, config: Any, calls: list[str], **options: Any) -> None:
    with RunFolder(path) as run:
        run.stage(name, config, lambda: calls.append(name), **options)


def test_a_finished_stage_is_not_repeated(tmp_path: Path) -> None:
    calls: list[str] = []
    for _ in range(2):
        do(tmp_path / "run", "capture", {"max_frames": 80}, calls)
    assert calls == ["capture"]
    entry = stages(tmp_path / "run")["capture"]
    assert entry["status"] == "done" and entry["seconds"] >= 0 and entry["peak_memory_mb"] > 1
    assert entry["fingerprint"] == fingerprint({"max_frames": 80})


def test_the_manifest_tells_versions_and_command(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run", command=["deblurgs", "run", "a b.mp4"]):
        pass
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["command"] == ["deblurgs", "run", "a b.mp4"]
    assert set(manifest["versions"]) == {"python", "deblurgs", "torch", "numpy", "pycolmap"}
    assert all(manifest["versions"].values())
    assert str(tmp_path) not in (tmp_path / "run" / "manifest.json").read_text()


def test_overwrite_repeats_a_stage_and_outdates_later_ones_only(tmp_path: Path) -> None:
    calls: list[str] = []
    for name in STAGES:
        do(tmp_path / "run", name, {}, calls)
    do(tmp_path / "run", "sfm", {}, calls, overwrite=True)
    states = {name: entry["status"] for name, entry in stages(tmp_path / "run").items()}
    assert states == {
        "capture": "done", "sfm": "done", "train": "outdated", "render": "outdated", "export": "outdated",
    }  # fmt: skip
    do(tmp_path / "run", "train", {}, calls)
    assert calls == [*STAGES, "sfm", "train"]


def test_another_config_repeats_the_stage_and_names_the_fields(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[str] = []
    do(tmp_path / "run", "train", {"steps": 10, "density": {"every": 60}}, calls)
    do(tmp_path / "run", "render", {}, calls)
    log = Log()
    with RunFolder(tmp_path / "run", log=log) as run:
        run.stage("train", {"steps": 10, "density": {"every": 30}}, lambda: calls.append("again"))
    assert calls == ["train", "render", "again"]
    assert "density.every: 60 -> 30" in capsys.readouterr().err.replace("\n", " ")
    assert stages(tmp_path / "run")["render"]["status"] == "outdated"


def test_a_deleted_output_is_made_again(tmp_path: Path) -> None:
    output = tmp_path / "run" / "sfm" / "sfm.json"

    def work() -> None:
        output.parent.mkdir(exist_ok=True)
        output.write_text("{}")

    for _ in range(2):
        with RunFolder(tmp_path / "run") as run:
            run.stage("sfm", {}, work, outputs=[output])
        assert output.exists()
        output.unlink()


@pytest.mark.parametrize(
    ("error", "status"), [(ResourceError("disk full"), "failed"), (KeyboardInterrupt(), "interrupted")]
)
def test_failure_and_interruption_are_recorded_and_the_stage_is_repeated(
    tmp_path: Path, error: BaseException, status: str
) -> None:
    def work() -> None:
        raise error

    with pytest.raises(type(error)), RunFolder(tmp_path / "run") as run:
        run.stage("train", {}, work)
    assert stages(tmp_path / "run")["train"]["status"] == status
    calls: list[str] = []
    do(tmp_path / "run", "train", {}, calls)
    assert calls == ["train"]


@pytest.mark.parametrize("error", [UsageError("no"), CaptureError("no"), SfmError("no")])
@pytest.mark.parametrize("there", [False, True])
def test_a_new_folder_in_which_nothing_came_out_goes_again(
    tmp_path: Path, error: BaseException, there: bool
) -> None:
    folder = tmp_path / "runs" / "new"
    if there:
        folder.mkdir(parents=True)
    begin_and_fail(folder, error)
    assert list(tmp_path.rglob("*")) == ([folder.parent, folder] if there else [])


@pytest.mark.parametrize("error", [ResourceError("disk full"), KeyboardInterrupt(), RuntimeError("a bug")])
def test_a_new_folder_that_can_be_resumed_stays(tmp_path: Path, error: BaseException) -> None:
    begin_and_fail(tmp_path / "run", error)
    assert [item.name for item in sorted((tmp_path / "run").iterdir())] == [".capture", *BEGUN]


def test_a_folder_that_was_there_or_holds_something_stays(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "old"):
        pass
    begin_and_fail(tmp_path / "old", CaptureError("no"))
    assert stages(tmp_path / "old")["capture"]["status"] == "failed"
    with pytest.raises(SfmError), RunFolder(tmp_path / "new") as run:
        run.sfm.mkdir()
        raise SfmError("no")
    assert {item.name for item in (tmp_path / "new").iterdir()} == {"manifest.json", "sfm"}


BEGUN = ("config.json", "manifest.json")


def begin_and_fail(folder: Path, error: BaseException) -> None:
    """As a run does whose source cannot be used."""

    def work() -> None:
        (folder / ".capture").touch()
        raise error

    with pytest.raises(type(error)), RunFolder(folder) as run:
        run.config_json.write_text("{}")
        run.stage("capture", {}, work)


def test_a_killed_stage_is_repeated_and_its_lock_is_taken_over(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from deblurgs.run import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])) as run:\n"
        "    for stage in ('capture', 'sfm'): run.stage(stage, {}, lambda: None)\n"
        f"    (run.path / '{TEMPORARY_PREFIX}x.png').touch()\n"
        "    run.stage('train', {}, lambda: os.kill(os.getpid(), signal.SIGKILL))\n"
    )
    result = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], cwd=ROOT, check=False)
    assert result.returncode == -9
    assert (tmp_path / "run" / ".lock").exists() and stages(tmp_path / "run")["train"]["status"] == "running"
    with RunFolder(tmp_path / "run") as run:
        assert run.plan("train", {}).reason == "the last attempt is unfinished"
        with pytest.raises(UsageError, match="the stage 'train' is unfinished"):
            run.require_done("train")
    calls: list[str] = []
    do(tmp_path / "run", "train", {}, calls)
    assert calls == ["train"]
    assert {item.name for item in (tmp_path / "run").iterdir()} == {"manifest.json"}


def test_a_second_process_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from deblurgs.run import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])):\n"
        "    print('locked', flush=True); sys.stdin.read()\n"
    )
    first = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "run")],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert first.stdin is not None and first.stdout is not None
    try:
        assert first.stdout.readline() == "locked\n"
        with (
            pytest.raises(UsageError, match=f"process {first.pid} on ") as caught,
            RunFolder(tmp_path / "run"),
        ):
            pass
        assert caught.value.exit_code == 2
    finally:
        first.stdin.close()
        assert first.wait(timeout=20) == 0
        first.stdout.close()
    with RunFolder(tmp_path / "run"):
        pass


def test_a_lock_whose_pid_was_reused_is_stale_and_one_of_another_host_is_not(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run") as run:
        holder = json.loads((run.path / ".lock").read_text())
    lock = tmp_path / "run" / ".lock"
    if holder["process_start"] is not None:
        lock.write_text(json.dumps({**holder, "process_start": holder["process_start"] - 1}))
        with RunFolder(tmp_path / "run"):
            pass
    lock.write_text(json.dumps({**holder, "host": "elsewhere", "pid": 2**22 - 1}))
    with pytest.raises(UsageError, match="elsewhere"), RunFolder(tmp_path / "run"):
        pass


def test_an_old_empty_lock_is_stale(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    lock = tmp_path / "run" / ".lock"
    lock.touch()
    os.utime(lock, (time.time() - 60,) * 2)
    with RunFolder(tmp_path / "run"):
        pass


def test_of_many_processes_that_find_a_stale_lock_one_at_a_time_works(tmp_path: Path) -> None:
    code = (
        "import os, sys, time; from pathlib import Path\n"
        "from deblurgs.errors import UsageError; from deblurgs.run import RunFolder\n"
        "folder = Path(sys.argv[1])\n"
        "while not (folder / 'go').exists(): time.sleep(0.001)\n"
        "try:\n"
        "    with RunFolder(folder / 'run') as run:\n"
        "        os.close(os.open(folder / 'inside', os.O_CREAT | os.O_EXCL))\n"
        "        time.sleep(0.3); (folder / 'inside').unlink(); print('worked')\n"
        "except UsageError: print('refused')\n"
    )
    with RunFolder(tmp_path / "run") as run:
        holder = json.loads((run.path / ".lock").read_text())
    (tmp_path / "run" / ".lock").write_text(json.dumps({**holder, "pid": 2**22 - 1}))
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(4)
    ]  # fmt: skip
    time.sleep(0.5)
    (tmp_path / "go").touch()
    results = [child.communicate(timeout=30) for child in children]
    assert all(child.returncode == 0 for child in children), results
    assert {out.strip() for out, _ in results} <= {"worked", "refused"}
    assert any("worked" in out for out, _ in results)


def test_a_moved_run_folder_still_opens(tmp_path: Path) -> None:
    calls: list[str] = []
    do(tmp_path / "run", "capture", {"max_frames": 8}, calls)
    shutil.move(tmp_path / "run", tmp_path / "else where")
    do(tmp_path / "else where", "capture", {"max_frames": 8}, calls)
    assert calls == ["capture"]


def test_a_clock_that_is_set_back_repeats_nothing_and_spoils_no_duration(tmp_path: Path, monkeypatch) -> None:
    path, calls, now = tmp_path / "run", [], time.time()
    do(path, "capture", {"max_frames": 8}, calls)
    monkeypatch.setattr(time, "time", lambda: now - 86400.0)
    do(path, "capture", {"max_frames": 8}, calls)
    with RunFolder(path) as run:
        run.stage("sfm", {}, lambda: monkeypatch.setattr(time, "time", lambda: now - 2 * 86400.0))
    assert calls == ["capture"]
    assert all(0 <= stage["seconds"] < 60 for stage in stages(path).values())
    # A lock whose writer died in the middle looks as if it was made tomorrow.
    (path / ".lock").write_text("{")
    do(path, "capture", {"max_frames": 8}, calls)
    assert calls == ["capture"]


def test_a_run_in_a_folder_that_may_not_be_written_to_suggests_another(tmp_path: Path) -> None:
    """Root may write everywhere, so the check runs as an ordinary user where the tests run as root."""
    with tempfile.TemporaryDirectory() as name:  # tmp_path is closed to other users
        made = Path(name) / "run"
        with RunFolder(made):
            pass
        made.chmod(0o555)
        Path(name).chmod(0o555)
        code = (
            "import os, sys; from pathlib import Path\n"
            "from deblurgs.errors import UsageError; from deblurgs.run import RunFolder\n"
            "os.getuid() or os.setuid(65534)\n"
            "for name in ('run', 'new'):\n"
            "    try: RunFolder(Path(sys.argv[1]) / name).__enter__()\n"
            "    except UsageError as error: print(name, error)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, name], cwd=ROOT, capture_output=True, text=True, check=True
        )
        made.chmod(0o755)
        Path(name).chmod(0o755)
    lines = done.stdout.splitlines()
    assert len(lines) == 2 and all("--output" in line for line in lines), lines
    assert all(line.split()[0] in line.split("cannot write ")[1] for line in lines), lines


def test_a_foreign_folder_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(UsageError, match="not a run folder"), RunFolder(tmp_path):
        pass
    assert [item.name for item in tmp_path.iterdir()] == ["holiday.jpg"]
    with pytest.raises(UsageError, match="is not a folder"), RunFolder(tmp_path / "holiday.jpg"):
        pass


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not valid JSON"),
        ("[]", "not a manifest"),
        ('{"format": 1, "stages": {"train": 3}}', "not a manifest"),
        ('{"format": 99, "stages": {}}', "newer deblurgs"),
    ],
)
def test_a_bad_manifest_is_explained_and_the_lock_released(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(UsageError, match=words), RunFolder(tmp_path):
        pass
    assert (tmp_path / "manifest.json").read_text() == text
    assert not (tmp_path / ".lock").exists()


def test_warnings_of_a_stage_are_in_the_manifest(tmp_path: Path) -> None:
    log = Log(quiet=True)
    log.warn("before")
    with RunFolder(tmp_path / "run", log=log) as run:
        run.stage("sfm", {}, lambda: log.warn("3 of 10 frames have no pose"))
    assert stages(tmp_path / "run")["sfm"]["warnings"] == ["3 of 10 frames have no pose"]


def test_the_result_of_a_stage_is_returned(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run") as run:
        assert run.stage("sfm", {}, lambda: 7) == 7
        assert run.stage("sfm", {}, lambda: 7) is None


def test_require_done_names_the_command_of_the_first_stage_that_is_missing(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run") as run:
        for stage in ("sfm", "train"):
            with pytest.raises(
                UsageError, match=r"'capture' is not done yet.*process SOURCE --output .*run "
            ):
                run.require_done(stage)
        run.stage("capture", {}, lambda: None)
        with pytest.raises(UsageError, match=r"'sfm' is not done yet.*process SOURCE --output .*run "):
            run.require_done("train")
        run.stage("sfm", {}, lambda: None)
        run.require_done("sfm")
        with pytest.raises(UsageError, match=r"'train' is not done yet.*deblurgs train .*run "):
            run.require_done("train")


def test_a_run_without_a_scene_says_where_its_pictures_are(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run") as run:
        run.stage("single", {}, lambda: None)
        with pytest.raises(UsageError, match=r"no scene.*renders/sharp"):
            run.require_done("train")


@dataclass(frozen=True)
class _Config:
    steps: int = 5
    path: Path = Path("a")


def test_dataclasses_and_mappings_have_the_same_fingerprint() -> None:
    assert fingerprint(_Config()) == fingerprint({"path": "a", "steps": 5})
    assert fingerprint(_Config(steps=6)) != fingerprint(_Config())


def test_changed_fields_tell_added_removed_and_nested() -> None:
    before, after = {"a": 1, "b": {"c": [1]}, "old": None}, {"a": 1, "b": {"c": [2]}, "new": True}
    assert changed_fields(before, after) == ["b.c: [1] -> [2]", "new: unset -> True", "old: None -> unset"]
    assert changed_fields(None, {"a": 1})


@pytest.mark.parametrize("where", ["renders", "renders/sharp"])
def test_a_folder_that_is_a_link_to_another_place_is_refused(tmp_path: Path, where: str) -> None:
    """A run folder may come from someone else: opening it must not let its stages write elsewhere."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with RunFolder(tmp_path / "run"):
        pass
    link = tmp_path / "run" / where
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(elsewhere, target_is_directory=True)
    with pytest.raises(UsageError, match="link") as caught, RunFolder(tmp_path / "run"):
        pass
    assert str(link) in str(caught.value)
    link.unlink()
    (tmp_path / "run" / "pictures").mkdir()
    link.symlink_to(tmp_path / "run" / "pictures", target_is_directory=True)
    with RunFolder(tmp_path / "run"):
        pass


def test_the_status_of_a_stage_can_be_asked(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run") as run:
        assert run.status("train") is None
        with pytest.raises(KeyboardInterrupt):
            run.stage("train", {}, interrupted)
        assert run.status("train") is StageStatus.INTERRUPTED
        run.stage("train", {}, lambda: None)
        assert run.status("train") is StageStatus.DONE


def interrupted() -> None:
    raise KeyboardInterrupt
