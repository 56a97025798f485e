"""docs/reliability.md promises a test or a reason for each of its cases; this holds it to that."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROW = re.compile(r"^\| (\d+) \| (.+?) \| (.+?) \| (.+) \|$", re.MULTILINE)
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def test_every_case_has_a_test_that_exists_or_a_reason() -> None:
    rows = ROW.findall((ROOT / "docs" / "reliability.md").read_text(encoding="utf-8"))
    assert [int(number) for number, *_ in rows] == list(range(1, 87))
    functions: dict[str, set[str]] = {}
    for number, _, _, tests in rows:
        named = NAMED.findall(tests)
        assert named or tests.startswith("Why no test"), f"case {number} has neither"
        for file, name in named:
            if file not in functions:
                tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
                functions[file] = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
            assert name in functions[file], f"case {number} names {file}::{name}, which does not exist"
