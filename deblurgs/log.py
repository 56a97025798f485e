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

    def update(self, done: int, note: str = "", share: float | None = None) -> None:
        """share: of the work, 0 to 1, where steps cost different times; None: `done` of the total."""
        ...


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


class _Remaining:
    """How long the rest takes, if it goes on as it went."""

    def __init__(self, total: int) -> None:
        self.total, self.start = total, time.monotonic()
        self._from: tuple[float, float] | None = None

    def after(self, now: float, done: int, share: float | None) -> float | None:
        """Seconds that are left; None while nobody can know."""
        if not self.total:
            return None
        share = done / self.total if share is None else share
        if self._from is None:
            # Work that goes on from a checkpoint did not do all of it in this time.
            self._from = (now, share) if done > 1 else (self.start, 0.0)
        since, before = self._from
        if done >= self.total:
            return 0.0
        return (now - since) * (1 - share) / (share - before) if share > before else None


class _Events:
    """Progress at most twice a second, with the first and the last step."""

    def __init__(self, stage: str, total: int) -> None:
        self.stage, self.total, self.remaining = stage, total, _Remaining(total)
        self.next = 0.0

    def update(self, done: int, note: str = "", share: float | None = None) -> None:
        now = time.monotonic()
        left = self.remaining.after(now, done, share)
        if now < self.next and done != self.total:
            return
        self.next, elapsed = now + 0.5, now - self.remaining.start
        write_event(
            "progress", stage=self.stage, done=done, total=self.total or None, elapsed_s=round(elapsed, 2),
            eta_s=None if left is None else round(left, 1), note=note,
        )  # fmt: skip


class _Silent:
    def update(self, done: int, note: str = "", share: float | None = None) -> None:
        pass


class _Plain:
    def __init__(self, title: str, total: int) -> None:
        self.title, self.total, self.next = title, total, 0.0
        self.remaining = _Remaining(total)

    def update(self, done: int, note: str = "", share: float | None = None) -> None:
        if not self.total:
            if done == 1 or done % 10 == 0:
                print(f"{self.title}: {done} {note}".rstrip(), file=sys.stderr, flush=True)
            return
        left = self.remaining.after(time.monotonic(), done, share)
        # Lines come by what is done, not by the work: coarse steps would else be told in one.
        told = done / self.total
        if told >= self.next or done == self.total:
            self.next = told + 0.1
            eta = f"  {_clock(left)} left" if left is not None and left >= 1.0 else ""
            print(f"{self.title}: {done}/{self.total} {note}".rstrip() + eta, file=sys.stderr, flush=True)


class _Bar:
    def __init__(self, title: str, total: int) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.total, self.begun = total, False
        self.progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[count]}"), TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"), console=console, transient=False,
        )  # fmt: skip
        self.task = self.progress.add_task(title, total=total or None, note="", count=self._count(0))

    def _count(self, done: int) -> str:
        return f"{done:{len(str(self.total))}d}/{self.total or '?'}"

    def __enter__(self) -> "_Bar":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def update(self, done: int, note: str = "", share: float | None = None) -> None:
        work = done if share is None or not self.total else share * self.total
        if not self.begun and done > 1:
            # From a checkpoint: what was done before says nothing about the speed.
            self.progress.reset(self.task, completed=int(work))
        self.begun = True
        self.progress.update(self.task, completed=work, note=note, count=self._count(done))


def _clock(seconds: float) -> str:
    """3725 -> "1:02:05", 65 -> "1:05"."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}" if hours else f"{m}:{s:02d}"
