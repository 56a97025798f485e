"""Writing files so that a crash, a full disk or a second Ctrl-C never leaves half a file behind.

Every output is first written to a temporary file in the same folder, flushed to the disk and then renamed
over the target. The temporary names start with `TEMPORARY_PREFIX`; a run folder removes forgotten ones when
it is opened.
"""

import contextlib
import dataclasses
import enum
import errno
import json
import math
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from deblurgs.errors import CaptureError, ResourceError, UsageError

TEMPORARY_PREFIX = ".deblurgs-tmp-"
RUNS, DEBLURRED, UPSCALED = "deblurgs_runs", "deblurred", "deblurgs_upscaled"
"""Folders beside the caller into which commands write when no other place is named."""

MANIFEST = "manifest.json"
"""Tells a run folder from any other."""

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
# torch reports a full disk as RuntimeError and safetensors as its own SafetensorError: only their texts tell
# what happened, so a RuntimeError of any other kind stays the bug it is.
_FULL_TEXTS = (
    "PytorchStreamWriter",
    "unexpected pos",
    "No space left",
    "File too large",
    "Disk quota exceeded",
    "requested and",  # numpy: "120000 requested and 872 written", an OSError without a number
    "os error 28",
    "os error 27",
    "os error 122",
)


@contextmanager
def explained_write_errors(path: Path) -> Iterator[None]:
    """Turn what a full disk or a protected folder raises into one message about `path`.

    Raises ResourceError for a full disk, an exhausted quota or a file size limit (OSError, torch's
    RuntimeError, SafetensorError); UsageError for a folder that is read-only, missing or not a folder.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise _disk_full(path, error) from error
        if error.errno in _FORBIDDEN:
            raise UsageError(
                f"cannot write {path}: {error.strerror or error}. "
                "Choose a folder that you may write to with --output DIR."
            ) from error
        if error.errno in (errno.ENOTDIR, errno.ENOENT, errno.ENAMETOOLONG, errno.ELOOP):
            raise UsageError(
                f"cannot write {path}: {error.strerror or error}. Choose another place with --output DIR."
            ) from error
        if error.errno is None and any(text in str(error) for text in _FULL_TEXTS):
            raise _disk_full(path, error) from error
        raise
    except Exception as error:
        known = isinstance(error, RuntimeError) or type(error).__name__ == "SafetensorError"
        if known and any(text in str(error) for text in _FULL_TEXTS):
            raise _disk_full(path, error) from error
        raise


def _disk_full(path: Path, error: BaseException) -> ResourceError:
    free = ""
    with contextlib.suppress(OSError):
        free = f" ({shutil.disk_usage(path.parent).free / 2**20:.0f} MB free there)"
    return ResourceError(
        f"could not write {path}: {error}{free}. What was written before is kept: free some space and repeat "
        "the command, or choose another disk with --output DIR."
    )


def checked_target(path: Path, *, overwrite: bool = True) -> Path:
    """The regular file that writing to `path` would create or replace.

    Renaming over a device node, FIFO or socket would destroy it, and a link may lead out of the folder that
    the user named; both are refused (UsageError), as is an existing file without `overwrite`. A link to a
    file in the same folder is followed.
    """
    target = path
    if path.is_symlink():
        with explained_write_errors(path):
            folder = path.parent.resolve(strict=True)
        try:
            target = path.resolve()
        except (OSError, RuntimeError) as error:
            raise UsageError(
                f"cannot write {path}: it is a link that leads in a circle. Remove it."
            ) from error
        if target.parent != folder:
            raise UsageError(
                f"refusing to write {path}: it is a link to {target}, outside its folder. "
                "Remove the link or name the real file."
            )
    with explained_write_errors(path):
        try:
            mode = target.lstat().st_mode
        except FileNotFoundError:
            return target
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file (a device, pipe or socket)"
        raise UsageError(f"refusing to write {path}: it is {kind}. Name another file.")
    if not overwrite:
        raise UsageError(f"{path} exists already. Use --overwrite to replace it, or name another place.")
    return target


@contextmanager
def atomic_path(path: Path, *, overwrite: bool = True) -> Iterator[Path]:
    """A temporary path beside `path`, with the same suffix, that replaces `path` when the block ends well.

    When the block raises (KeyboardInterrupt included) the temporary file is removed and `path` is untouched.
    The result has the permissions of the user's umask even when the writer creates private files (safetensors
    does). The parent folder must exist. Raises as `checked_target` and `explained_write_errors`.
    """
    target = checked_target(path, overwrite=overwrite)
    # The suffix is kept because writers choose the format by it; the name is shortened to stay under 255
    # bytes.
    temporary = target.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(6)}{target.suffix}")
    with explained_write_errors(path):
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
        os.close(descriptor)
        try:
            yield temporary
            temporary.chmod(mode)
            _flush_to_disk(temporary)
            temporary.replace(target)
            _flush_to_disk(target.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _flush_to_disk(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:  # Folders cannot be opened on Windows; the rename itself is atomic there too.
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot flush folders; a full disk, however, is sometimes only told here.
        if error.errno in _FULL or error.errno == errno.EIO:
            raise
    finally:
        os.close(descriptor)


def write_bytes_atomic(path: Path, data: bytes, *, overwrite: bool = True) -> None:
    """Write `data` to `path`, completely or not at all. Raises as `atomic_path`."""
    with atomic_path(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(data)


def write_json_atomic(path: Path, value: Any, *, overwrite: bool = True) -> None:
    """Write `value` as indented JSON, completely or not at all. See `plain_json` for what is accepted."""
    text = json.dumps(plain_json(value), indent=1, ensure_ascii=False, allow_nan=False)
    write_bytes_atomic(path, (text + "\n").encode("utf-8", "surrogateescape"), overwrite=overwrite)


def read_json(path: Path, *, max_bytes: int = 64 * 2**20) -> Any:
    """Parse a JSON file of at most `max_bytes`.

    Raises ValueError that names the file when it is larger, not UTF-8, not JSON or nested too deeply (callers
    turn it into the error of their room), OSError when it cannot be read.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise ValueError(f"{path} has {size} bytes, more than the limit of {max_bytes} for such a file")
        data = file.read(max_bytes + 1)
    try:
        return json.loads(data.decode("utf-8"))
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deeply to be a valid file") from error
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error


def plain_json(value: Any) -> Any:
    """`value` as plain JSON data.

    Dataclasses become objects, paths forward-slash text, enums their value, numpy and torch numbers and
    arrays plain numbers and lists, tuples and sets lists. NaN and infinities become null, because JSON has no
    words for them and one bad number must not make a whole file unreadable.
    """
    if isinstance(value, enum.Enum):
        return plain_json(value.value)
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_json(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((plain_json(item) for item in value), key=repr)
    if isinstance(value, os.PathLike):
        return Path(value).as_posix()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: plain_json(getattr(value, item.name)) for item in dataclasses.fields(value)}
    to_list = getattr(value, "tolist", None)
    if callable(to_list):
        return plain_json(to_list())
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


class JsonLines:
    """Appends one JSON object per line, e.g. metrics.jsonl. Every line is handed to the system at once.

    A kill can cut the last line at most; `read_json_lines` skips such a line.
    """

    def __init__(self, path: Path, *, append: bool = True) -> None:
        self.path = checked_target(path)
        with explained_write_errors(path):
            cut = append and _ends_inside_a_line(self.path)
            self._file: TextIO = self.path.open("a" if append else "w", encoding="utf-8", buffering=1)
            if cut:
                self._file.write("\n")

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record. Raises ResourceError when the disk is full."""
        line = json.dumps(plain_json(record), ensure_ascii=False, allow_nan=False)
        with explained_write_errors(self.path):
            self._file.write(line + "\n")

    def close(self) -> None:
        with explained_write_errors(self.path):
            self._file.close()

    def __enter__(self) -> "JsonLines":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _ends_inside_a_line(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            if file.seek(0, os.SEEK_END) == 0:
                return False
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except FileNotFoundError:
        return False


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """All complete records of a JSON-lines file; lines that a kill has cut are skipped."""
    records: list[dict[str, Any]] = []
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            with contextlib.suppress(ValueError):
                record = json.loads(line)
                if isinstance(record, dict):
                    records.append(record)
    return records


def not_allowed(error: PermissionError) -> CaptureError:
    """What to tell about a file or folder that is closed to us."""
    return CaptureError(
        f"cannot open {error.filename}: {error.strerror}. Allow yourself to use it, or name a copy of yours."
    )


@contextmanager
def made_folder(folder: Path) -> Iterator[None]:
    """`folder` and those above it, made where they are missing; what was made goes again when the block raises and
    nothing has come into it. Raises as `explained_write_errors`."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    with explained_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            for place in missing:
                place.rmdir()  # only an empty one can be removed
        raise


def require_free_space(folder: Path, needed_bytes: int, purpose: str) -> None:
    """Refuse to start what cannot be finished. Raises ResourceError with both numbers.

    folder may not exist yet: the nearest existing parent decides which disk is asked.
    """
    existing = folder.absolute()
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if free < needed_bytes:
        raise ResourceError(
            f"{purpose} needs about {needed_bytes / 2**20:.0f} MB in {folder}, but only "
            f"{free / 2**20:.0f} MB are free. Free some space or choose another disk with --output DIR."
        )


def remove_forgotten_temporaries(folder: Path) -> int:
    """Delete temporary files that a killed process left below `folder`; links are not followed. Returns how
    many."""
    count = 0
    for root, _, names in os.walk(folder, followlinks=False):
        for name in names:
            if name.startswith(TEMPORARY_PREFIX):
                Path(root, name).unlink(missing_ok=True)
                count += 1
    return count


def is_run_folder(folder: Path) -> bool:
    """Whether deblurgs made this folder and works in it: by what its manifest says, or, where that is damaged, by what
    lies beside it."""
    manifest = folder / MANIFEST
    try:
        if not manifest.is_file():
            return False
        told = read_json(manifest)
    except (OSError, ValueError):
        return (folder / "frames.json").exists() or (folder / ".capture").exists()
    return isinstance(told, dict) and isinstance(told.get("stages"), dict)


def same_file(a: Path, b: Path) -> bool:
    """Whether both paths lead to one file or folder that is there."""
    try:
        return a.samefile(b)
    except OSError:
        return False
