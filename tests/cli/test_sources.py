"""What is named as a source: mistakes are told before anything is touched."""

import builtins
import errno
import io
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from deblurgs.capture.detect import list_photos
from deblurgs.cli import main
from deblurgs.cli.entry import _refuse_a_name_in_pieces, parse
from deblurgs.config import TrainConfig
from deblurgs.errors import SfmError, UsageError
from deblurgs.log import Log
from deblurgs.run import RunFolder
from deblurgs.stages.process import ProcessConfig, read_frames
from deblurgs.stages.request import read_request, save_request


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


def test_an_error_is_one_line_whose_command_can_be_pasted(place: Path) -> None:
    run = run_folder(place / ("a long name of a folder " * 4) / "it's a run")
    told = subprocess.run(
        [sys.executable, "-m", "deblurgs", "run", str(run)], capture_output=True, text=True, cwd=place
    ).stderr
    assert len(told.splitlines()) == 1
    words = shlex.split(told[told.index("deblurgs resume") :])
    assert words[:3] == ["deblurgs", "resume", str(run)]


READERS = ["resume", "export", "render", "train", "report", "view"]


@pytest.mark.parametrize("command", READERS)
def test_photos_are_no_run_folder(command: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = photos(place / "my cam")
    before = everything(place)
    for name in ("my cam", "my cam/0.jpg", "nothing"):
        if (command, name) == ("view", "my cam/0.jpg"):
            continue  # a file can be one of splats, and is told to be none
        assert main([command, name]) == 2
        said = told(capsys)
        assert "--output" not in said
        if name == "my cam":
            assert "my cam is not a run folder (it holds photos). deblurgs run 'my cam' makes one." in said
    assert everything(place) == before and folder.is_dir()


@pytest.mark.parametrize("command", READERS)
def test_a_folder_of_runs_names_them(command: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_folder(place / "deblurgs_runs" / "desk")
    assert main([command, "deblurgs_runs"]) == 2
    assert "Name one of them: deblurgs_runs/desk" in told(capsys)
    (place / "empty").mkdir()
    assert main([command, "empty"]) == 2
    assert "it is empty" in told(capsys) and not any((place / "empty").iterdir())


@pytest.mark.parametrize("command", ["export", "render", "view", "report"])
def test_a_run_that_failed_says_what_is_missing_and_how_to_go_on(
    command: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = photos(place / "cam")

    def fail() -> None:
        raise SfmError("No camera poses: too plain")

    with RunFolder(place / "run") as run:
        save_request(run, source=source, preset_name="fast", train=TrainConfig())
        if command != "report":
            run.stage("capture", {}, lambda: None)
        with pytest.raises(SfmError):
            run.stage("capture" if command == "report" else "sfm", {}, fail)
    assert main([command, "run"]) == 2
    said = told(capsys)
    assert "is failed (SfmError: No camera poses: too plain)" in said and "deblurgs resume run" in said
    assert "SOURCE" not in said


@pytest.mark.parametrize("command", ["run", "process", "triage"])
def test_several_photos_lead_to_their_folder(
    command: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [str(path.relative_to(place)) for path in sorted(photos(place / "my cam", 3).iterdir())]
    for words in (names, [*names[:2], "--quiet"], ["--quiet", *names], ["-o", "out", *names]):
        assert main([command, *words]) == 2
        assert f"deblurgs {command} 'my cam'" in told(capsys)
    assert [path.name for path in place.iterdir()] == ["my cam"]


@pytest.mark.parametrize(
    "command", ["run", "process", "demo", "triage", "eval", "export", "deblur", "upscale"]
)
def test_o_is_short_for_output_everywhere(command: str) -> None:
    words = [command, *([] if command == "demo" else ["source"]), "-o", "place"]
    assert getattr(parse(words), "output") == Path("place")  # noqa: B009 - commands have different fields


@pytest.mark.parametrize("command", ["triage", "upscale", "deblur"])
def test_what_cannot_begin_leaves_no_empty_folder(command: str, place: Path) -> None:
    (place / "a.png").write_bytes(b"\x89PNG broken")
    assert main([command, "a.png", "--quiet", "-o", "some/where"]) == 3
    assert [path.name for path in place.iterdir()] == ["a.png"]


@pytest.mark.parametrize("options", [(), ("--overwrite",)])
def test_a_source_that_was_damaged_since_leaves_the_run_as_it_was(
    options: tuple[str, ...], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = photos(place / "cam", 4)
    with RunFolder(place / "deblurgs_runs" / "cam") as run:
        save_request(run, source=source, process=ProcessConfig())
        read_frames(run, source, ProcessConfig(), Log(quiet=True))
        for stage in ("sfm", "train", "render"):
            run.stage(stage, {}, lambda: None)
    before, asked = run.manifest["stages"], run.config_json.read_bytes()
    for photo in list(source.iterdir())[:3]:
        photo.write_bytes(photo.read_bytes()[:100])
    assert main(["process", "cam", "--max-frames", "30", *options]) == 3
    said = told(capsys)
    assert "what deblurgs_runs/cam held before is kept" in said and "3 of 4 images cannot be used" in said
    assert RunFolder(place / "deblurgs_runs" / "cam").look().manifest["stages"] == before
    assert run.config_json.read_bytes() == asked, "resume goes on with what the folder holds"


@pytest.mark.parametrize("options", [(), ("--overwrite",)])
def test_a_name_that_the_shell_cut_at_its_blanks_is_told_with_quotes(
    options: tuple[str, ...], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos(place / "my new photos")
    assert main(["run", *options, "my", "new", "photos", "--quiet"]) == 2
    wanted = " ".join(["deblurgs run", *options, "'my new photos' --quiet"])
    assert told(capsys) == f"error: a name with blanks needs quotes: {wanted}"
    assert not (place / "deblurgs_runs").exists()


@pytest.mark.parametrize(
    "words",
    ["upscale --scale 2 a.jpg -o zz.jpg", "upscale --quiet", "run --preset best cam", "deblur a.jpg b.jpg"],
)
def test_what_is_there_is_no_piece_of_a_name(words: str, place: Path) -> None:
    for name in ("a.jpg", "2 a.jpg", "a.jpg b.jpg", "best cam", "b.jpg"):
        (place / name).touch()
    photos(place / "cam")
    _refuse_a_name_in_pieces(words.split())


def test_many_names_are_no_work(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    monkeypatch.setattr("deblurgs.cli.entry._lies_there", lambda path: looked.append(path) or len(path) < 10)
    _refuse_a_name_in_pieces(["deblur", *(f"{i}.jpg" for i in range(3000))])
    assert len(looked) < 10_000


@pytest.mark.parametrize("command", ["run", "process"])
@pytest.mark.parametrize("existing", [False, True])
def test_a_source_that_cannot_be_used_leaves_no_run_folder(command: str, existing: bool, place: Path) -> None:
    (place / "empty").mkdir()
    if existing:
        begun(place / "deblurgs_runs" / "empty", place / "empty")
    before = everything(place)
    assert main([command, "empty", "--quiet"]) == 3
    assert existing == (place / "deblurgs_runs").exists()
    assert everything(place).keys() == before.keys()
    photos(place / "two")
    assert main([command, "two", "--quiet", *(["--fallback", "none"] if command == "run" else [])]) == 3
    assert not (place / "deblurgs_runs" / "two").exists()


def test_the_present_folder_has_a_name_in_warnings(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = photos(place / "cam")
    (folder / "more").mkdir()
    monkeypatch.chdir(folder)
    assert main(["triage", ".", "-o", "../out"]) == 0
    assert "warning: cam: 1 subfolders are not searched" in told(capsys)
    assert [name for name, _ in list_photos(Path())[1]] == ["cam"]


def begun(path: Path, source: Path) -> None:
    with RunFolder(path) as run:
        save_request(run, source=source)
        run.stage("capture", {}, lambda: None)


@pytest.mark.parametrize("command", ["run", "process"])
def test_another_source_of_the_same_name_does_not_replace_the_results_of_the_first(
    command: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = photos(place / "a" / "cam"), photos(place / "b" / "cam")
    begun(place / "deblurgs_runs" / "cam", first)
    config = (place / "deblurgs_runs" / "cam" / "config.json").read_bytes()
    assert main([command, "b/cam"]) == 2
    said = told(capsys)
    assert f"deblurgs_runs/cam holds the results of {first}, not of {second}" in said
    assert "--output" in said and "--overwrite" in said
    assert (place / "deblurgs_runs" / "cam" / "config.json").read_bytes() == config


def test_a_run_accepts_its_own_source_under_any_name(place: Path) -> None:
    source, other = photos(place / "a" / "cam"), photos(place / "b" / "cam")
    begun(place / "run", source)
    (place / "link").symlink_to(source)
    (place / "run").rename(place / "moved")
    with RunFolder(place / "moved") as run:
        for spelling in (Path("a/cam"), Path("b/../a/cam"), place / "a" / "cam", Path("link")):
            save_request(run, source=spelling)
        with pytest.raises(UsageError, match="holds the results of"):
            save_request(run, source=other)
        save_request(run, source=other, overwrite=True)
        assert read_request(run).source == other
        save_request(run)  # as the commands do that need no source
        # Renamed since: the old path is gone.
        other.rename(place / "b" / "desk")
        save_request(run, source=place / "b" / "desk")


def test_a_folder_in_which_nothing_came_out_takes_another_source(place: Path) -> None:
    source, other = photos(place / "a" / "cam"), photos(place / "b" / "cam")

    def fail() -> None:
        raise UsageError("no")

    with RunFolder(place / "run") as run:
        save_request(run, source=source)
        with pytest.raises(UsageError):
            run.stage("capture", {}, fail)
        save_request(run, source=other)


def test_a_picture_that_is_not_there_is_no_usable_input(place: Path) -> None:
    for command in ("run", "triage", "deblur", "upscale", "eval"):
        assert main([command, "gone.png"]) == 3, command


@pytest.mark.parametrize(
    "words",
    [
        *(f"{name} closed" for name in ("run", "triage", "eval", "deblur", "upscale", "view", "resume", "export")),
        *(f"{name} secret.png" for name in ("view", "deblur", "triage", "run")),
        *(f"{command} secret.zip" for command in ("run", "process")),
    ],
)  # fmt: skip
def test_what_may_not_be_read_is_told_and_no_bug(
    words: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the system refuses an ordinary user; nothing is closed to root, as whom tests may run."""
    run_folder(place / "closed")
    (photos(place / "open", 1) / "0.jpg").rename(place / "secret.png")
    (place / "secret.zip").touch()

    def refuses(module: ModuleType, name: str, *, inside_only: bool = False) -> None:
        real = getattr(module, name)

        def refusing(path: object = ".", *arguments: object, **options: object) -> object:
            at = Path(path) if isinstance(path, str | Path) else Path()
            inside = (place / "closed") in (place / at).parents
            if inside or (not inside_only and at.name in ("closed", "secret.png", "secret.zip")):
                raise PermissionError(errno.EACCES, "Permission denied", str(at))
            return real(path, *arguments, **options)

        monkeypatch.setattr(module, name, refusing)

    refuses(os, "stat", inside_only=True)
    for module, name in ((os, "listdir"), (os, "scandir"), (io, "open"), (builtins, "open")):
        refuses(module, name)
    assert main(words.split()) == 3
    said = told(capsys)
    assert "Permission denied" in said.partition("error: ")[2] and words.split()[1] in said
    assert "bug" not in said and "damaged" not in said
    monkeypatch.undo()
    assert {path.name for path in place.iterdir()} == {"closed", "secret.png", "secret.zip", "open"}


def test_a_run_folder_that_may_not_be_written_to_asks_for_a_copy(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_folder(place / "desk")

    def refuse(path: object, *_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", refuse)
    assert main(["export", "desk", "-o", "desk.ply"]) == 2
    said = told(capsys)
    assert "cannot write desk/.lock: Permission denied" in said and "Copy the folder" in said
