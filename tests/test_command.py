"""Commands as they are printed."""

import ast
import re
import shlex
from pathlib import Path

import pytest

from deblurgs.command import command_line

PACKAGE = Path(__file__).resolve().parent.parent / "deblurgs"
COMMANDS = "run|process|train|resume|render|triage|view|export|report|upscale|eval|deblur"


def test_a_command_can_be_pasted_whatever_the_path() -> None:
    assert command_line("resume", Path("runs/desk")) == "deblurgs resume runs/desk"
    for path in ("/my runs/desk", "it's", "a;b", "$HOME", "*"):
        assert shlex.split(command_line("view", path, "--quiet")) == ["deblurgs", "view", path, "--quiet"]


@pytest.mark.parametrize(
    "path",
    sorted(PACKAGE.rglob("*.py")),
    ids=lambda path: path.relative_to(PACKAGE).as_posix(),
)
def test_no_message_builds_a_command_with_a_bare_path(path: Path) -> None:
    """`deblurgs resume {run.path}` breaks with a blank in the path; `command_line` quotes it."""
    source = path.read_text()
    bare = [
        ast.get_source_segment(source, node)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.JoinedStr)
        and re.search(rf"deblurgs ({COMMANDS})\b[^`;,.()<]*\{{\}}", text_of(node))
    ]
    assert not bare


def text_of(node: ast.JoinedStr) -> str:
    """The literal text of an f-string with {} for what is put in."""
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
