"""Console output and warnings as data. Progress goes to stderr, results to stdout.

Warnings are collected so that stages can write them into their JSON files and the CLI can repeat them at the end.
With `events` everything is a JSON object on its own line of stdout instead (docs/formats.md, "Events").
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Console

console = Console(stderr=True, highlight=False, emoji=False)


def say(text: str, style: str | None = None) -> None:
    """A line on stderr. Long ones are not broken: a command or a path in them can be copied, from a terminal too."""
    console.print(text, style=style, markup=False, soft_wrap=True)


class Ticker(Protocol):
    """What a progress bar offers to the code that works."""

    def update(self, done: int, note: str = "") -> None: ...


@dataclass
class Log:
    """Where a stage reports to. `quiet` silences everything except warnings and errors; `events` says all of it as JSON
    on stdout, and `quiet` then leaves out what is neither a warning nor a result."""

    quiet: bool = False
    warnings: list[str] = field(default_factory=list)
    events: bool = False

    def info(self, text: str) -> None:
        if self.quiet:
            return
        if self.events:
            write_event("info", text=text)
        else:
            say(text)

    def result(self, text: str) -> None:
        """What the command was called for: on stdout, also when quiet."""
        if self.events:
            write_event("result", text=text)
        else:
            print(text, flush=True)

    def warn(self, text: str) -> None:
        """Report once now and keep it for the manifest."""
        if text not in self.warnings:
            self.warnings.append(text)
            if self.events:
                write_event("warning", text=text)
                return
            say(f"warning: {text}", "yellow")

    @contextmanager
    def progress(self, title: str, total: int) -> Iterator[Ticker]:
        """A live bar with ETA on a terminal, a plain line every ~10 % elsewhere. total: 0 when nobody knows."""
        if self.quiet:
            yield _Silent()
        elif self.events:
            yield _Events(title, total)
        elif console.is_terminal and os.environ.get("TERM") != "dumb":
            with _Bar(title, total) as bar:
                yield bar
        else:
            yield _Plain(title, total)


def write_event(event: str, **fields: object) -> None:
    """One JSON object with `event` and the time on a line of stdout. Numbers that are not finite become null."""
    from deblurgs.files import plain_json

    line = json.dumps(
        plain_json({"event": event, "time_s": round(time.time(), 3), **fields}), allow_nan=False
    )
    print(line, flush=True)


class _Events:
    """Progress at most twice a second, with the first and the last step."""

    def __init__(self, stage: str, total: int) -> None:
        self.stage, self.total = stage, total
        self.start, self.next = time.monotonic(), 0.0

    def update(self, done: int, note: str = "") -> None:
        now = time.monotonic()
        if now < self.next and done != self.total:
            return
        self.next, elapsed = now + 0.5, now - self.start
        left = elapsed * (self.total - done) / done if done and self.total else None
        write_event(
            "progress", stage=self.stage, done=done, total=self.total or None, elapsed_s=round(elapsed, 2),
            eta_s=None if left is None else round(left, 1), note=note,
        )  # fmt: skip


class _Silent:
    def update(self, done: int, note: str = "") -> None:
        pass


class _Plain:
    def __init__(self, title: str, total: int) -> None:
        self.title, self.total, self.next = title, total, 0.0
        self.start = time.monotonic()

    def update(self, done: int, note: str = "") -> None:
        if not self.total:
            if done == 1 or done % 10 == 0:
                print(f"{self.title}: {done} {note}".rstrip(), file=sys.stderr, flush=True)
            return
        share = done / self.total
        if share >= self.next or done == self.total:
            self.next = share + 0.1
            left = (
                (time.monotonic() - self.start) * (self.total - done) / done if 0 < done < self.total else 0.0
            )
            eta = f"  {_clock(left)} left" if left >= 1.0 else ""
            print(f"{self.title}: {done}/{self.total} {note}".rstrip() + eta, file=sys.stderr, flush=True)


class _Bar:
    def __init__(self, title: str, total: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"), console=console, transient=False,
        )  # fmt: skip
        self.task = self.progress.add_task(title, total=total or None, note="")

    def __enter__(self) -> "_Bar":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def update(self, done: int, note: str = "") -> None:
        self.progress.update(self.task, completed=done, note=note)


def _clock(seconds: float) -> str:
    """3725 -> "1:02:05", 65 -> "1:05"."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}" if hours else f"{m}:{s:02d}"
