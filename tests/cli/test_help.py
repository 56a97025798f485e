"""Help is quick and light (under a second, without torch, for every command) and reads as it was written.

The texts lie in tests/cli/help/. After a change that is meant, write them anew and look at the difference:

    DEBLURGS_WRITE_HELP=1 python -m pytest tests/cli/test_help.py -k reads
"""

import ast
import functools
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = (
    "run", "process", "train", "resume", "render", "triage", "view", "export", "report", "upscale", "eval", "deblur",
    "demo", "doctor",
)  # fmt: skip
SNAPSHOTS = Path(__file__).parent / "help"
FRAMES = str.maketrans(dict.fromkeys("│╭╮╰╯─•", ""))
LIMIT_S = 1.0
HEAVY = ("torch", "pycolmap", "av", "scipy", "PIL", "imageio", "safetensors", "viser")

# A heavy import is recorded by the interpreter itself, also when it happens inside a function.
_CALL = """
import sys
from deblurgs.cli import main
try:
    code = main(sys.argv[1:])
finally:
    loaded = sorted({name.partition(".")[0] for name in sys.modules})
    print("LOADED " + " ".join(loaded), file=sys.stderr)
sys.exit(code)
"""


def call(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _CALL, *arguments],
        capture_output=True, text=True, cwd=ROOT, check=False, timeout=60, stdin=subprocess.DEVNULL,
        env={**os.environ, "COLUMNS": "120", **(env or {})},
    )  # fmt: skip


@functools.cache
def help_of(command: str | None) -> subprocess.CompletedProcess[str]:
    return call(*filter(None, (command, "--help")), env={"COLUMNS": "100", "NO_COLOR": "1"})


def loaded(result: subprocess.CompletedProcess[str]) -> set[str]:
    line = next(line for line in result.stderr.splitlines() if line.startswith("LOADED "))
    return set(line.split()[1:])


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_is_light_and_exits_with_zero(command: str | None) -> None:
    result = help_of(command)
    assert result.returncode == 0, result.stderr
    assert "usage: deblurgs" in result.stdout
    assert not loaded(result) & set(HEAVY)


def test_help_is_quick() -> None:
    """Processor seconds of the child: equal to the waiting time on a quiet machine, and fair on a busy one."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    call("--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert seconds < LIMIT_S


def words(text: str) -> str:
    """What is said, without frames and line breaks: these depend on the terminal, and words may be cut by them."""
    return "".join(text.translate(FRAMES).split())


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_reads_as_it_was_written(command: str | None) -> None:
    text, snapshot = help_of(command).stdout, SNAPSHOTS / f"{command or 'deblurgs'}.txt"
    if os.environ.get("DEBLURGS_WRITE_HELP"):
        SNAPSHOTS.mkdir(exist_ok=True)
        snapshot.write_text("".join(f"{line.rstrip()}\n" for line in text.splitlines()), encoding="utf-8")
    assert words(text) == words(snapshot.read_text(encoding="utf-8")), f"{snapshot}: see {__file__}"


def test_the_snapshots_are_those_of_the_commands() -> None:
    assert {path.stem for path in SNAPSHOTS.iterdir()} == {"deblurgs", *COMMANDS}


@pytest.mark.parametrize("columns", [50, 80])
def test_help_says_the_same_on_narrower_terminals(columns: int) -> None:
    text = call("export", "--help", env={"COLUMNS": str(columns), "NO_COLOR": "1"}).stdout
    assert words(text) == words(help_of("export").stdout)
    below = text.rpartition("╯")[2]
    assert below.strip() and max(map(len, below.splitlines())) <= columns


def test_every_command_shows_how_it_is_used() -> None:
    for command in COMMANDS:
        examples = help_of(command).stdout.partition("\nExample")[2].splitlines()[1:]
        assert examples and all(line.startswith("  deblurgs ") for line in examples), command
        assert f"  deblurgs {command}" in examples[0]


def test_line_breaks_in_help_texts_stand_after_punctuation() -> None:
    """They are kept in the output, where a break in the middle of a phrase looks like a mistake."""
    package = ROOT / "deblurgs"
    for path in [*(package / "cli").glob("*.py"), package / "config.py", package / "stages" / "process.py"]:
        for owner in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(owner, ast.ClassDef):
                continue
            for statement in owner.body[1:]:
                if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                    lines = [t.rstrip() for t in str(statement.value.value).splitlines() if t.strip()]
                    assert all(
                        line.rstrip().endswith(tuple(".,:;")) for line in lines[:-1] if line.strip()
                    ), f"{path}:{statement.lineno}"


def test_the_main_help_names_every_command() -> None:
    text = help_of(None).stdout
    assert all(f" {name} " in text for name in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "clip.mp4", "--presett", "fast"), "--preset"),
        (("run", "clip.mp4", "--preset", "fastest"), "fast"),
        (("run",), "source"),
        (("paint", "clip.mp4"), "run"),
    ],
)
def test_wrong_usage_exits_with_two_and_suggests(arguments: tuple[str, ...], words: str) -> None:
    result = call(*arguments)
    assert result.returncode == 2
    assert words in (result.stderr + result.stdout).lower()
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("runn", "clip.mp4"), "there is no command 'runn'. Did you mean  deblurgs run clip.mp4"),
        (("paint", "clip.mp4"), "there is no command 'paint'. The commands are run, process,"),
        (("run", "clip.mp4", "--train.steps", "60"), "train: steps must be 3 numbers, one for each of the scales"),
        (("run", "clip.mp4", "--checkpoint-every=-3"), "--checkpoint-every must be from 0 to 86400"),
        (("train", "desk", "--viewer-port", "99999"), "--viewer-port must be from 0 to 65535"),
    ],
)  # fmt: skip
def test_wrong_usage_is_told_in_words_of_the_user(arguments: tuple[str, ...], words: str) -> None:
    """Not in those of the parser: no name of its insides, and the help of the command that was given."""
    result = call(*arguments)
    assert result.returncode == 2
    said = " ".join(result.stderr.partition("LOADED")[0].translate(FRAMES).split())
    assert " ".join(words.translate(FRAMES).split()) in said
    assert "tyro" not in said
    if arguments[0] in COMMANDS:
        assert f"deblurgs {arguments[0]} --help" in said


def test_a_misspelled_option_is_compared_with_those_of_its_command() -> None:
    said = call("train", "desk", "--presett", "fast").stderr
    assert "--preset" in said and "deblurgs train --help" in said and "deblurgs eval" not in said


def test_help_works_on_a_poor_terminal() -> None:
    poor = {"TERM": "dumb", "LANG": "C", "LC_ALL": "C", "NO_COLOR": "1", "PYTHONUTF8": "0", "COLUMNS": "40"}
    result = call("run", "--help", env=poor)
    assert result.returncode == 0, result.stderr
    assert "\x1b" not in result.stdout


def test_help_into_a_closed_pipe_is_no_traceback() -> None:
    command = (
        f"{sys.executable!r} -c 'from deblurgs.cli import main; import sys; sys.exit(main([\"--help\"]))'"
    )
    result = subprocess.run(
        ["bash", "-c", f"{command} | head -c 1"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        timeout=60,
    )
    assert "Traceback" not in result.stderr


def test_the_package_itself_is_the_command_too() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "deblurgs", "--help"], capture_output=True, text=True, cwd=ROOT, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0 and done.stdout.split()[:2] == ["usage:", "deblurgs"]


def test_without_a_command_the_first_steps_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from deblurgs.cli import main

    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2 and "deblurgs run clip.mp4" in capsys.readouterr().out
    monkeypatch.chdir(tmp_path)
    Path("my clip.mp4").touch()
    assert main(["my clip.mp4"]) == 2
    assert "deblurgs run 'my clip.mp4'" in " ".join(capsys.readouterr().err.split())
