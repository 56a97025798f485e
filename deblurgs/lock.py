"""A lock file that says who holds it. One process works in a run folder; a dead holder's lock is taken
over."""

import contextlib
import errno
import json
import os
import secrets
import socket
import time
from pathlib import Path
from typing import Any

from deblurgs.command import command_line
from deblurgs.errors import UsageError
from deblurgs.files import MANIFEST, explained_write_errors

# A process that dies between creating the file and filling it leaves an empty lock; a living one fills it at
# once.
_FILL_S = 5.0


class FolderLock:
    """Exclusive creation (O_EXCL) of `path`, which then holds pid, host and start time as JSON.

    The lock is stale when its process is gone on this host, or when the pid now belongs to a process that
    started at another moment. Locks of other hosts (shared folders) cannot be judged and are respected.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._text: str | None = None

    def acquire(self) -> None:
        """Raises UsageError naming the pid and host of the process that holds the lock."""
        for _ in range(20):
            if self._create():
                return
            self._clear_if_stale()
        raise UsageError(f"{self.path} cannot be taken: other processes keep competing for it. Try again.")

    def release(self) -> None:
        if self._text is None:
            return
        # Someone may have deleted the file by hand and a new holder created its own: only ours is removed.
        with contextlib.suppress(OSError):
            if self.path.read_text() == self._text:
                self.path.unlink()
        self._text = None

    def _create(self) -> bool:
        holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "process_start": _process_start(os.getpid()),
            "taken_unix_s": round(time.time(), 3),
            "token": secrets.token_hex(8),
        }
        text = json.dumps(holder)
        with explained_write_errors(self.path):
            try:
                descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                    raise
                used = (self.path.parent / MANIFEST).is_file()
                raise UsageError(
                    f"cannot write {self.path}: {error.strerror}, which work in a run folder needs. "
                    + (
                        "Copy the folder to a place where you may write, or begin another run"
                        if used
                        else "Begin the run elsewhere"
                    )
                    + " with --output DIR."
                ) from error
            with os.fdopen(descriptor, "w") as file:
                file.write(text)
        self._text = text
        return True

    def _clear_if_stale(self) -> None:
        try:
            text, age_s = self.path.read_text(), time.time() - self.path.stat().st_mtime
        except FileNotFoundError:
            return  # Released in the meantime.
        holder = _parse(text)
        if holder is None:
            # A clock that was set back puts the file into the future; it is as good as old.
            if abs(age_s) < _FILL_S:
                time.sleep(0.25)
                return
        elif not _is_stale(holder):
            raise UsageError(
                f"{self.path.parent} is in use by process {holder['pid']} on {holder['host']}. Wait until it "
                f"ends, or begin another run with --output DIR;  {command_line('view', self.path.parent)}  may look "
                f"at it meanwhile. (If that process is gone, delete {self.path}.)"
            )
        # Renaming lets exactly one of several waiting processes win. If the file was replaced by a new
        # holder's between our look and the rename, it is put back.
        aside = self.path.with_name(f"{self.path.name}.{secrets.token_hex(6)}")
        try:
            self.path.rename(aside)
        except FileNotFoundError:
            return
        if aside.read_text() != text:
            with contextlib.suppress(FileExistsError):
                self.path.hardlink_to(aside)
        aside.unlink()


def _parse(text: str) -> dict[str, Any] | None:
    try:
        holder = json.loads(text)
    except ValueError:
        return None
    valid = isinstance(holder, dict) and isinstance(holder.get("pid"), int) and "host" in holder
    return holder if valid else None


def _is_stale(holder: dict[str, Any]) -> bool:
    if holder["host"] != socket.gethostname():
        return False
    pid = holder["pid"]
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        return False  # It lives, as another user.
    started = _process_start(pid)
    return started is not None and holder.get("process_start") not in (None, started)


def _process_start(pid: int) -> int | None:
    """When the process started, in clock ticks since boot (Linux only); it tells a reused pid apart."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
        # The command name in parentheses may contain blanks; field 22 counts from after the last parenthesis.
        return int(status.rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None
