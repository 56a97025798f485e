"""Help is quick and light: under a second, without torch, for every command."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = (
    "run", "process", "train", "resume", "render", "triage", "view", "export", "report", "eval", "demo", "doctor",
)  # fmt: skip
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


def loaded(result: subprocess.CompletedProcess[str]) -> set[str]:
    line = next(line for line in result.stderr.splitlines() if line.startswith("LOADED "))
    return set(line.split()[1:])


@pytest.mark.parametrize("arguments", [("--help",), *((name, "--help") for name in COMMANDS)], ids=" ".join)
def test_help_is_light_and_exits_with_zero(arguments: tuple[str, ...]) -> None:
    result = call(*arguments)
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


def test_the_main_help_names_every_command() -> None:
    text = call("--help").stdout
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
