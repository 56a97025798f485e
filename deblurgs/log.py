"""Console output and warnings as data. Progress goes to stderr, results to stdout.

Warnings are collected so that stages can write them into their JSON files and the CLI can repeat them at the end.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Console

console = Console(stderr=True, highlight=False)


class Ticker(Protocol):
    """What a progress bar offers to the code that works."""

    def update(self, done: int, note: str = "") -> None: ...


@dataclass
class Log:
    """Where a stage reports to. `quiet` silences everything except warnings and errors."""

    quiet: bool = False
    warnings: list[str] = field(default_factory=list)

    def info(self, text: str) -> None:
        if not self.quiet:
            console.print(text, markup=False)

    def warn(self, text: str) -> None:
        """Report once now and keep it for the manifest."""
        if text not in self.warnings:
            self.warnings.append(text)
            console.print(f"warning: {text}", style="yellow", markup=False)

    @contextmanager
    def progress(self, title: str, total: int) -> Iterator[Ticker]:
        """A live bar with ETA on a terminal, a plain line every ~10 % elsewhere."""
        if self.quiet:
            yield _Silent()
        elif console.is_terminal and os.environ.get("TERM") != "dumb":
            with _Bar(title, total) as bar:
                yield bar
        else:
            yield _Plain(title, total)


class _Silent:
    def update(self, done: int, note: str = "") -> None:
        pass


class _Plain:
    def __init__(self, title: str, total: int) -> None:
        self.title, self.total, self.next = title, max(total, 1), 0.0

    def update(self, done: int, note: str = "") -> None:
        share = done / self.total
        if share >= self.next or done == self.total:
            self.next = share + 0.1
            print(f"{self.title}: {done}/{self.total} {note}".rstrip(), file=sys.stderr, flush=True)


class _Bar:
    def __init__(self, title: str, total: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"), console=console, transient=False,
        )  # fmt: skip
        self.task = self.progress.add_task(title, total=total, note="")

    def __enter__(self) -> "_Bar":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def update(self, done: int, note: str = "") -> None:
        self.progress.update(self.task, completed=done, note=note)
