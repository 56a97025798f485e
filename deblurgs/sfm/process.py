"""Runs the SfM worker as a child process: a native crash, a hang or a flood of memory must not take us along.

Request and result are JSON files in the working folder; arrays travel as files that the child writes. The child
leads its own process group, which is killed as a whole on Ctrl-C, SIGTERM, timeout, or any error here.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from deblurgs import errors
from deblurgs.log import Log

LOG_FILE = "sfm.log"
SAY_PREFIX = "[deblurgs] "
_ERROR_CLASSES = {
    c.__name__: c for c in (errors.UsageError, errors.CaptureError, errors.SfmError, errors.ResourceError)
}
_WORKER = "deblurgs.sfm.worker"
_POLL_S = 0.1
_GRACE_S = 2.0
_TAIL_LINES = 12


def run_child(
    job: str, request: dict[str, Any], folder: Path, *, log: Log, timeout_s: float | None = None
) -> dict[str, Any]:
    """Run one job of `deblurgs.sfm.worker` in `folder` and return its result.

    Warnings of the result are passed to `log`. Raises the error the child explains (SfmError, ResourceError,
    CaptureError, UsageError), or SfmError with the last log lines when the child crashed, was killed, or
    exceeded `timeout_s` seconds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    request_path, result_path = folder / "request.json", folder / "result.json"
    log_path = folder / LOG_FILE
    result_path.unlink(missing_ok=True)
    request_path.write_text(json.dumps({"job": job, **request}), encoding="utf-8")
    command = [sys.executable, "-m", _WORKER, str(request_path), str(result_path)]
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    with log_path.open("wb") as sink:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=_environment(),
            start_new_session=True,
        )
    timed_out = False
    try:
        with _terminate_kills(child):
            follow = _Follow(log_path, log)
            while child.poll() is None:
                if deadline is not None and time.monotonic() > deadline:
                    timed_out = True
                    break
                follow.forward()
                time.sleep(_POLL_S)
            follow.forward()
    finally:
        _kill_group(child)
    request_path.unlink(missing_ok=True)
    if timed_out:
        raise errors.SfmError(
            f"SfM was stopped after {timeout_s:.0f} s (time limit). Use fewer or smaller frames, or allow "
            f"more time. Last lines of {log_path}:\n{_tail(log_path)}"
        )
    return _read_result(child.returncode, result_path, log_path, log, request.get("memory_limit_mb"))


def _read_result(
    code: int, result_path: Path, log_path: Path, log: Log, memory_limit_mb: int | None
) -> dict[str, Any]:
    try:
        result = json.loads(result_path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        if code < 0 and memory_limit_mb is not None:
            # Native code rarely checks its allocations: under a limit it crashes where it would have grown.
            raise errors.ResourceError(
                f"SfM crashed under its memory limit of {memory_limit_mb} MB. Allow more, or use fewer or smaller "
                f"frames. Last lines ({log_path}):\n{_tail(log_path)}"
            ) from None
        raise errors.SfmError(_crash_text(code, log_path)) from None
    result_path.unlink(missing_ok=True)
    for warning in result.get("warnings", []):
        log.warn(warning)
    if "error" in result:
        kind = _ERROR_CLASSES.get(result["error"]["kind"])
        text = result["error"]["text"]
        if kind is None:
            raise errors.SfmError(
                f"The SfM process failed unexpectedly: {text} Please report this together with {log_path}. "
                f"Its last lines:\n{_tail(log_path)}"
            )
        raise kind(text)
    if code != 0:
        raise errors.SfmError(_crash_text(code, log_path))
    return result


def _crash_text(code: int, log_path: Path) -> str:
    how = f"ended with code {code}"
    advice = f"Please try again; if it happens again, report it together with {log_path}."
    if code < 0:
        try:
            how = f"was killed by {signal.Signals(-code).name}"
        except ValueError:
            how = f"was killed by signal {-code}"
        if -code == getattr(signal, "SIGKILL", 9):
            advice = (
                "The system does this when memory runs out: close other programs, or use fewer or smaller "
                "frames. Features already found are reused on the next try."
            )
    return f"The SfM process {how} before it had a result. {advice} Its last lines ({log_path}):\n{_tail(log_path)}"


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 8192))
            lines = file.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return "  (no log)"
    # Control characters of a foreign library must not reach the user's terminal.
    clean = ("".join(c for c in line if c.isprintable()) for line in lines[-_TAIL_LINES:])
    return "\n".join(f"  {line}" for line in clean) or "  (nothing was logged)"


def _environment() -> dict[str, str]:
    """Ours, with the folder of this package first on the path, so that an uninstalled checkout works too."""
    root = str(Path(__file__).resolve().parents[2])
    old = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": root if not old else os.pathsep.join([root, old])}


def _kill_group(child: "subprocess.Popen[bytes]") -> None:
    """Politely, then hard. Does nothing to a child that has ended, whose group could be someone else's
    by now."""
    for name, wait_s in (("SIGTERM", _GRACE_S), ("SIGKILL", None)):
        if child.poll() is not None:
            return
        try:
            if hasattr(os, "killpg"):
                os.killpg(child.pid, getattr(signal, name))
            else:
                child.kill()
            child.wait(wait_s)
        except (ProcessLookupError, PermissionError):
            child.wait()
        except subprocess.TimeoutExpired:
            continue


@contextmanager
def _terminate_kills(child: "subprocess.Popen[bytes]") -> Iterator[None]:
    """While inside, a SIGTERM that nobody handles kills the child first and then ends us as usual.

    A handler of the caller is left alone: it raises through our waiting loop, which ends the child as well.
    """
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def forward(number: int, _: FrameType | None) -> None:
        _kill_group(child)
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    signal.signal(signal.SIGTERM, forward)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


class _Follow:
    """Shows the user those lines of the child's log that are meant for them."""

    def __init__(self, path: Path, log: Log) -> None:
        self.path, self.log, self.position, self.rest = path, log, 0, b""

    def forward(self) -> None:
        with self.path.open("rb") as file:
            file.seek(self.position)
            text = self.rest + file.read()
            self.position = file.tell()
        *lines, self.rest = text.split(b"\n")
        for line in lines:
            shown = line.decode("utf-8", errors="replace")
            if shown.startswith(SAY_PREFIX):
                self.log.info(shown.removeprefix(SAY_PREFIX))
