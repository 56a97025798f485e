"""What the measuring tools share: where a figure comes from, the JSON file it goes to, the table of a page."""

import argparse
import json
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

Results = dict[str, dict]


def commit() -> str:
    """The checkout's commit, with a plus sign where tracked files differ from it."""
    head = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    dirty = subprocess.run(
        ["git", "status", "--porcelain", "-uno"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "")


def today() -> str:
    return datetime.now(UTC).date().isoformat()


def write_between(docs: Path, begin: str, end: str, text: str) -> None:
    """Replace what stands between two marks of a page; ends the program where a mark is missing."""
    before, first, rest = docs.read_text(encoding="utf-8").partition(begin)
    _, second, after = rest.partition(end)
    if not first or not second:
        raise SystemExit(f"{docs} does not hold the marks {begin} and {end}")
    docs.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def capture_parser(description: str | None) -> argparse.ArgumentParser:
    """Arguments of a tool that measures captures one by one: CAPTURE... --json FILE [--docs PAGE]."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "captures", type=Path, nargs="*", metavar="CAPTURE", help="none: only write the table"
    )
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--docs", type=Path, help="file with the table's marks")
    return parser


def measure_captures(
    options: argparse.Namespace,
    measure: Callable[[Path], dict],
    table: Callable[[Results], str],
    begin: str,
    end: str,
) -> None:
    """Measure each capture of `capture_parser`'s options; results by the folder's name are stored after each, beside
    those that are there. Then the table is printed, and written between the marks of --docs."""
    results: Results = json.loads(options.json.read_text()) if options.json.exists() else {}
    for capture in options.captures:
        results[capture.resolve().name] = measure(capture)
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    if options.docs:
        write_between(options.docs, begin, end, table(results))
    print(table(results))
