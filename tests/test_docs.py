"""What the documentation says must be so: fields of files, messages, commands, links, pictures."""

import ast
import functools
import json
import re
import shlex
from pathlib import Path

import pytest

from deblurgs.evaluate.protocol import EvaluationScene, Row
from deblurgs.evaluate.table import as_json
from deblurgs.math.lie import se3_exp
from deblurgs.scene.transform import Similarity
from deblurgs.train.data import TrainingSet

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([
    *(path for path in ROOT.glob("*.md") if path.name != "CHANGELOG.md"), *(ROOT / "docs").glob("*.md"),
    *(ROOT / "examples").glob("*.md"), *(ROOT / "scenes").rglob("*.md"),
])  # fmt: skip
MAX_IMAGE_BYTES, MAX_IMAGES_BYTES = 200_000, 1_000_000
MAX_README_LINES = 200


def anchors(page: Path) -> set[str]:
    """What links to headings of a page look like on GitHub."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        place = (page.parent / file).resolve() if file else page
        assert place.exists(), f"{page}: {target}"
        if anchor and place.suffix == ".md":
            assert anchor in anchors(place), f"{page}: {target}; there is {sorted(anchors(place))}"


def test_every_page_is_in_the_index_and_the_index_in_the_readme() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert pages == set(re.findall(r"\]\(([\w-]+\.md)\)", index))
    assert "](docs/README.md)" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_pictures_are_used_and_small_and_the_readme_is_short() -> None:
    pictures = list((ROOT / "docs" / "images").iterdir())
    everything = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    for picture in pictures:
        assert f"images/{picture.name})" in everything, f"{picture.name} is shown nowhere"
        assert picture.stat().st_size <= MAX_IMAGE_BYTES, picture.name
    assert sum(picture.stat().st_size for picture in pictures) <= MAX_IMAGES_BYTES
    assert (ROOT / "README.md").read_text(encoding="utf-8").count("\n") <= MAX_README_LINES


HELP = ROOT / "tests" / "cli" / "help"
"""The snapshots of the help texts (tests/cli/test_help.py)."""


def commands() -> tuple[dict[str, str], dict[str, str]]:
    """Commands in code blocks and in the examples of help texts, which are whole; those in code spans, which may be
    cut. Line -> where it stands."""
    whole: dict[str, str] = {}
    mentioned: dict[str, str] = {}
    fenced = re.compile(r"^```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)
    for page in (*PAGES, *HELP.glob("*.txt")):
        text, where = page.read_text(encoding="utf-8"), str(page.relative_to(ROOT))
        blocks = [*fenced.findall(text), *re.findall(r"^(?: {4}|  )(deblurgs .*)$", text, re.MULTILINE)]
        lines = [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]
        spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", fenced.sub("", text))]
        whole |= {line: where for line in lines if re.match("deblurgs [a-z]", line)}
        mentioned |= {span: where for span in spans if re.match("deblurgs [a-z]", span)}
    return whole, mentioned


def test_commands_in_the_documentation_are_understood() -> None:
    """Commands, options, choices and ranges."""
    from deblurgs.cli.entry import parse

    whole, mentioned = commands()
    assert len(whole) > 40 and len(mentioned) > 30
    for line, where in whole.items():
        try:
            parse(shlex.split(line)[1:])
        except SystemExit as ended:
            pytest.fail(f"{where}: {line}: {ended}")
    for line, where in mentioned.items():
        name, *others = line.split()[1:]
        known = (HELP / f"{name}.txt").read_text(encoding="utf-8")
        assert all(option in known for option in others if option.startswith("--")), f"{where}: {line}"


def filled(node: ast.JoinedStr) -> str:
    """A formatted text with a NUL where a value is filled in."""
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "\0" for part in node.values)


@functools.cache
def templates() -> list[str]:
    """The texts in the sources, docstrings aside, with a NUL where a value is filled in."""
    found = (ROOT / "tools" / "setup").read_text(encoding="utf-8").splitlines()
    for path in sorted((ROOT / "deblurgs").rglob("*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        for node in nodes:
            if id(node) in docstrings:
                continue
            if isinstance(node, ast.JoinedStr):
                found.append(filled(node))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return [re.sub(" +", " ", text) for text in found]


def quoted_messages() -> list[str]:
    """Code spans of the page that are sentences, not commands, options or names; and all in the first column of a table
    of messages, however they begin."""
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    plain = ("deblurgs ", "pip ", "echo ", "--", "tools/", "masks/")
    keys = "\n".join(
        row.partition("|")[0]
        for table in re.findall(
            r"^\| (?:message|line|reason) \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", text, re.MULTILINE
        )
        for row in re.findall(r"^\| (.+)$", table, re.MULTILINE)
    )
    return [
        *(span for span in code_spans(text) if " " in span and not span.startswith(plain)),
        *(span for span in code_spans(keys) if span.startswith("--")),
    ]


def code_spans(text: str) -> list[str]:
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]


def test_every_message_of_the_troubleshooting_page_exists() -> None:
    """`...` stands for anything, values that are filled in included; all else must be there to the letter."""
    messages = quoted_messages()
    assert len(messages) > 80 and any(message.startswith("--max-frames ...:") for message in messages)
    for message in messages:
        assert is_said(message), f"no message of the program: {message}"


def is_said(message: str) -> bool:
    return any(fits(message, text) for text in templates())


def fits(message: str, text: str) -> bool:
    pieces = message.split("...")
    pattern = ".*?".join(map(re.escape, pieces))
    return all(piece in text for piece in pieces) and re.search(pattern, text, re.DOTALL) is not None


def test_messages_stand_under_the_exit_code_they_end_with() -> None:
    """Of those that an error of ours is raised with on the spot; most others are put together before."""
    from deblurgs import errors

    raised: list[tuple[str, int]] = []
    for path in sorted((ROOT / "deblurgs").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)):
                continue
            kind = getattr(errors, getattr(node.exc.func, "id", ""), None)
            for part in ast.walk(node.exc) if kind is not None else ():
                if isinstance(part, ast.JoinedStr):
                    raised.append((re.sub(" +", " ", filled(part)), kind.exit_code))
                elif isinstance(part, ast.Constant) and isinstance(part.value, str):
                    raised.append((re.sub(" +", " ", part.value), kind.exit_code))
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    checked = 0
    for code, section in re.findall(r"^## Exit code (\d+)(.*?)(?=^## )", page, re.DOTALL | re.MULTILINE):
        keys = "\n".join(re.findall(r"^\| (.+?) \|", section, re.MULTILINE))
        for message in (span for span in code_spans(keys) if " " in span):
            codes = {number for text, number in raised if fits(message, text)}
            assert not codes or int(code) in codes, f"{message!r} ends with {codes}, not {code}"
            checked += bool(codes)
    assert checked > 40


def test_a_message_that_nobody_says_is_noticed() -> None:
    assert is_said("no parallax: camera did not move (...). Depth needs")
    assert not is_said("no parallax: the camera did not move (...). Depth needs")
    assert not is_said("no parallax: camera did not move (all of them). Depth needs"), (
        "what is filled in needs dots"
    )


def test_every_export_has_a_reader_and_checks_that_exist() -> None:
    """The table in docs/exports.md."""
    from typing import get_args

    from deblurgs.stages.formats import Format

    text = (ROOT / "docs" / "exports.md").read_text(encoding="utf-8").partition("## Readers and checks")[2]
    rows = [
        [cell.strip() for cell in row.split("|")[1:-1]] for row in re.findall(r"^\| `.+$", text, re.MULTILINE)
    ]
    rows = rows[1:]  # the head
    assert [row[0].strip("`") for row in rows] == list(get_args(Format))
    for kind, reader, back, check in rows:
        file, _, name = reader.strip("`").partition(": ")
        assert reader == "`PyAV`" or name in functions(ROOT / "deblurgs" / file), f"{kind}: no {reader}"
        for tests in (back, check):
            named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", tests)
            assert named, f"{kind}: no test in {tests}"
            for place, test in named:
                assert test in functions(ROOT / place), f"{kind} names {place}::{test}, which does not exist"


def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_kind_of_error_has_a_section() -> None:
    from deblurgs import errors

    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    codes = {
        kind.exit_code
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.DeblurgsError)
    }
    for code in (*codes, errors.EXIT_INTERRUPTED):
        assert f"\n| {code} | " in text and f"\n## Exit code {code}: " in text, code


def test_every_field_and_word_of_the_self_check_is_documented() -> None:
    from deblurgs.render.trust import REASONS, FrameTrust
    from deblurgs.render.trust_report import as_json

    result = as_json([FrameTrust("a.png", 0.9, 0.4, 0.5, 0.1, 0.9, 0.01, 3.0, 2.0, ())])
    text = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    section = text.partition("## trust.json")[2].partition("\n## ")[0]
    documented = set(re.findall(r"`([a-z_]+)`", section))
    written = {*result, *result["frames"][0], *REASONS}
    assert written <= documented, f"undocumented: {sorted(written - documented)}"


def test_every_field_of_the_evaluation_result_is_documented() -> None:
    import torch

    scene = EvaluationScene(
        "ball", "given",
        TrainingSet([], [], [], se3_exp(torch.zeros(0, 6)), torch.zeros(0, 3), torch.zeros(0, 3), torch.zeros(0),
                    Similarity.identity()),
    )  # fmt: skip
    score = {"psnr": 1.0, "ssim": 0.5}
    row = Row(
        "plain",
        "novel",
        0,
        (3, 2),
        {"raw": score, "aligned": score, "refined": score},
        {},
        1.0,
        1.0,
        5,
        {"duty": 0.5, "readout": 0.1},
    )
    result = as_json(scene, [row], {"preset_config": {}, "failed": []})
    text = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    section = text.partition("## The result of `deblurgs eval`")[2].partition("\n## ")[0]
    documented = set(re.findall(r"`([a-z_]+)`", section))
    written = {*result, *result["machine"], *result["rows"][0], *result["rows"][0]["shutter"], *score}
    assert written <= documented, f"undocumented: {sorted(written - documented)}"


def test_the_table_of_results_is_that_of_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import bench_quality as bench

    results = json.loads((ROOT / "benchmarks" / "quality.json").read_text(encoding="utf-8"))
    shown = (ROOT / "README.md").read_text(encoding="utf-8").partition(bench.BEGIN)[2].partition(bench.END)[0]
    assert shown.strip() == bench.table(results).strip()
    assert "deblurgs" in shown
