"""The run folder: where everything of one capture lies, who may write to it, and which stages are done.

Layout (docs/formats.md): frames/ test/ frames.json | sfm/ | checkpoint/ | renders/sharp renders/reblur |
export/ | trajectories.json metrics.jsonl config.json manifest.json. The folder may be moved, renamed or
copied: nothing in it refers to itself by an absolute path.
"""

import contextlib
import copy
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from deblurgs import __version__
from deblurgs.command import command_line
from deblurgs.errors import CaptureError, SfmError, UsageError
from deblurgs.files import (
    MANIFEST,
    TEMPORARY_PREFIX,
    JsonLines,
    explained_write_errors,
    plain_json,
    read_json,
    remove_forgotten_temporaries,
    write_bytes_atomic,
    write_json_atomic,
)
from deblurgs.lock import FolderLock
from deblurgs.log import Log
from deblurgs.machine import PeakMemory, num_threads, package_versions, python_version

STAGES = ("capture", "sfm", "train", "render", "export")
"""In the order in which they depend on each other: repeating one makes all later ones outdated."""

_COMMANDS = {
    **dict.fromkeys(("capture", "sfm"), ("process", "SOURCE", "--output")), "train": ("train",),
    **dict.fromkeys(("render", "export"), ("render",)),
}  # fmt: skip
"""What to give a run folder to for a stage that it lacks."""

_FORMAT = 1
_LOCK, _CONFIG = ".lock", "config.json"
_OURS = (_LOCK, TEMPORARY_PREFIX)
_BEGUN = (MANIFEST, _CONFIG, ".capture")
"""What lies in a run folder before anything has come out of a stage."""
_T = TypeVar("_T")
_VERSIONS = ("deblurgs", "torch", "numpy", "pycolmap")


class StageStatus(StrEnum):
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    OUTDATED = "outdated"


@dataclass(frozen=True)
class StagePlan:
    """Whether a stage has to work, and why, in words for the user."""

    needed: bool
    reason: str


class RunFolder:
    """One run folder, locked for this process between `__enter__` and `__exit__`.

        with RunFolder(path, log=log, command=sys.argv) as run:
            run.stage("capture", {"max_frames": 80}, lambda: capture(...))

    Raises UsageError when the path is something else than a run folder or an empty folder, when another
    process works in it, or when it was written by a newer version. A folder that was new goes again where the input
    or the command turns out to be wrong before any stage has left something in it.
    """

    def __init__(self, path: Path, *, log: Log | None = None, command: Sequence[str] | None = None) -> None:
        self.path = path
        self.log = log if log is not None else Log(quiet=True)
        self._command = list(command if command is not None else sys.argv)
        self._lock = FolderLock(path / _LOCK)
        self._manifest: dict[str, Any] = {}
        self._new, self._made = False, list[Path]()
        self._asked_before: bytes | None = None

    # Where things lie.
    @property
    def frames(self) -> Path:
        return self.path / "frames"

    @property
    def test(self) -> Path:
        return self.path / "test"

    @property
    def frames_json(self) -> Path:
        return self.path / "frames.json"

    @property
    def sfm(self) -> Path:
        return self.path / "sfm"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint"

    @property
    def renders(self) -> Path:
        return self.path / "renders"

    @property
    def sharp(self) -> Path:
        return self.path / "renders" / "sharp"

    @property
    def reblur(self) -> Path:
        return self.path / "renders" / "reblur"

    @property
    def support(self) -> Path:
        return self.path / "renders" / "support"

    @property
    def trust_json(self) -> Path:
        return self.path / "trust.json"

    @property
    def export(self) -> Path:
        return self.path / "export"

    @property
    def trajectories_json(self) -> Path:
        return self.path / "trajectories.json"

    @property
    def metrics_jsonl(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def config_json(self) -> Path:
        return self.path / _CONFIG

    @property
    def manifest_json(self) -> Path:
        return self.path / MANIFEST

    def __enter__(self) -> "RunFolder":
        self._check_or_create()
        self._lock.acquire()
        try:
            # Only the holder of the lock may judge which temporary files are forgotten ones.
            with explained_write_errors(self.path):
                remove_forgotten_temporaries(self.path)
            self._new = not self.manifest_json.exists()
            with contextlib.suppress(OSError):
                self._asked_before = self.config_json.read_bytes()
            self._manifest = self._read_manifest()
            self._manifest["command"] = self._command
            self._save()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, _: object, error: BaseException | None, *__: object) -> None:
        # What ran out of something or was interrupted can be resumed, and its settings are remembered for that.
        if not (self._new and isinstance(error, UsageError | CaptureError | SfmError)):
            self._lock.release()
            return
        with contextlib.suppress(OSError):
            if {item.name for item in self.path.iterdir()} <= {_LOCK, *_BEGUN}:
                for name in _BEGUN:
                    (self.path / name).unlink(missing_ok=True)
        self._lock.release()
        with contextlib.suppress(OSError):
            for place in self._made:
                place.rmdir()  # only an empty one can be removed

    def _check_or_create(self) -> None:
        with explained_write_errors(self.path):
            if self.path.exists() and not self.path.is_dir():
                raise UsageError(f"{self.path} is not a folder. Name another place with --output DIR.")
            self._made = [place for place in (self.path, *self.path.parents) if not place.exists()]
            self.path.mkdir(parents=True, exist_ok=True)
            foreign = any(not item.name.startswith(_OURS) for item in self.path.iterdir())
        if foreign and not self.manifest_json.is_file():
            raise UsageError(
                f"{self.path} is not empty and not a run folder (it has no manifest.json). "
                "Nothing was changed there; name a new folder with --output DIR."
            )
        self._refuse_links_that_leave()

    def _refuse_links_that_leave(self) -> None:
        """A run folder may come from someone else; a folder link in it would turn our writing to another place."""
        root = self.path.resolve()
        for place, folders, _ in os.walk(self.path, followlinks=False):
            for folder in (Path(place) / name for name in folders):
                if folder.is_symlink() and not folder.resolve().is_relative_to(root):
                    raise UsageError(
                        f"{folder} is a link to {folder.resolve()}, outside the run folder. "
                        "Remove the link, or name another folder with --output DIR."
                    )

    def _read_manifest(self) -> dict[str, Any]:
        if not self.manifest_json.exists():
            return {
                "format": _FORMAT,
                "created_utc": _now_utc(),
                "versions": {},
                "command": [],
                "stages": {},
            }
        advice = f"Choose another folder with --output DIR, or delete {self.manifest_json} to start again."
        try:
            manifest = read_json(self.manifest_json)
        except (ValueError, OSError) as error:
            raise UsageError(f"the run folder cannot be opened: {error}. {advice}") from error
        stages = manifest.get("stages") if isinstance(manifest, dict) else None
        if not isinstance(stages, dict) or not all(isinstance(entry, dict) for entry in stages.values()):
            raise UsageError(f"{self.manifest_json} is not a manifest of deblurgs. {advice}")
        if not isinstance(manifest.get("format"), int) or manifest["format"] > _FORMAT:
            raise UsageError(
                f"{self.path} was written by a newer deblurgs (manifest format {manifest.get('format')!r}, "
                f"this version reads up to {_FORMAT}). "
                "Update deblurgs or choose another folder with --output DIR."
            )
        return manifest

    def _save(self) -> None:
        self._manifest["versions"] = {"python": python_version(), **package_versions(_VERSIONS)}
        self._manifest["threads"] = num_threads()
        write_json_atomic(self.manifest_json, self._manifest)

    def look(self) -> "RunFolder":
        """Read the manifest without the lock, for those who only look: another process may be working here.

        Raises UsageError when it cannot be read.
        """
        self._manifest = self._read_manifest()
        return self

    @property
    def manifest(self) -> Mapping[str, Any]:
        """The manifest as it is on disk. Read only: stages write it."""
        return self._manifest

    def plan(
        self,
        name: str,
        config: Mapping[str, Any] | Any,
        *,
        outputs: Sequence[Path] = (),
        overwrite: bool = False,
    ) -> StagePlan:
        """Whether stage `name` has to work with this configuration; `outputs` must exist to count as done."""
        entry = self._manifest["stages"].get(name)
        if entry is None:
            return StagePlan(True, "not done yet")
        status = entry.get("status")
        if status != StageStatus.DONE:
            return StagePlan(True, f"the last attempt is {_told(status)}")
        if overwrite:
            return StagePlan(True, "--overwrite")
        changed = changed_fields(entry.get("config"), plain_json(config))
        if changed:
            return StagePlan(True, "changed: " + "; ".join(changed))
        missing = [path for path in outputs if not path.exists()]
        if missing:
            return StagePlan(True, "missing: " + ", ".join(str(path.name) for path in missing))
        return StagePlan(False, "done")

    def stage(
        self,
        name: str,
        config: Mapping[str, Any] | Any,
        work: Callable[[], _T],
        *,
        outputs: Sequence[Path] = (),
        overwrite: bool = False,
        harmless: Callable[[BaseException], bool] = lambda _: False,
    ) -> _T | None:
        """Run `work` unless this stage is done with the same configuration; returns its result or None.

        config: dataclass or mapping of exactly what influences the stage's files. Its failure or interruption
        is recorded in the manifest and the exception goes on. Later stages become outdated when it works.
        harmless: whether a failure came before anything was replaced: a stage that was done is done still then.
        """
        plan = self.plan(name, config, outputs=outputs, overwrite=overwrite)
        if not plan.needed:
            self.log.info(f"{name}: already done")
            return None
        if name in self._manifest["stages"]:
            self.log.info(f"{name}: repeated ({plan.reason})")
        before, held = copy.deepcopy(self._manifest["stages"]), _identities(outputs)
        try:
            with self._recorded(name, config):
                return work()
        except BaseException as error:
            was_done = before.get(name, {}).get("status") == StageStatus.DONE
            if was_done and held and held == _identities(outputs) and harmless(error):
                self._manifest["stages"] = before
                # This command has written down what it was asked for, which is not what the folder holds.
                if self._asked_before is not None:
                    write_bytes_atomic(self.config_json, self._asked_before)
                self._save_after({"status": StageStatus.FAILED})
                self.log.info(f"{name}: what {self.path} held before is kept")
            raise

    @contextmanager
    def _recorded(self, name: str, config: Mapping[str, Any] | Any) -> Iterator[None]:
        settings = plain_json(config)
        entry: dict[str, Any] = {
            "status": StageStatus.RUNNING,
            "started_utc": _now_utc(),
            "deblurgs": __version__,
            "command": self._command,
            "fingerprint": fingerprint(settings),
            "config": settings,
        }
        self._manifest["stages"][name] = entry
        self._mark_later_outdated(name)
        self._save()
        # Monotonic, because the wall clock may be set back while a stage works.
        started, memory, heard = time.monotonic(), PeakMemory(), len(self.log.warnings)
        try:
            yield
            entry["status"] = StageStatus.DONE
        except KeyboardInterrupt:
            entry["status"] = StageStatus.INTERRUPTED
            raise
        except BaseException as error:
            entry["status"] = StageStatus.FAILED
            entry["error"] = f"{type(error).__name__}: {error}"
            raise
        finally:
            entry["seconds"] = round(time.monotonic() - started, 3)
            entry["peak_memory_mb"] = round(memory.own_mb(), 1)
            entry["peak_child_memory_mb"] = round(memory.children_mb(), 1)
            entry["warnings"] = self.log.warnings[heard:]
            self._save_after(entry)

    def _save_after(self, entry: Mapping[str, Any]) -> None:
        try:
            self._save()
        except Exception as error:
            # When the stage itself failed (often for the same full disk) its own error is the one to show.
            if entry["status"] == StageStatus.DONE:
                raise
            self.log.warn(f"the manifest could not be updated: {error}")

    def _mark_later_outdated(self, name: str) -> None:
        if name not in STAGES:
            return
        for later in STAGES[STAGES.index(name) + 1 :]:
            entry = self._manifest["stages"].get(later)
            if entry is not None:
                entry["status"] = StageStatus.OUTDATED

    def status(self, name: str) -> StageStatus | None:
        """What became of stage `name` the last time; None when it was never begun."""
        known = self._manifest["stages"].get(name, {}).get("status")
        return StageStatus(known) if known in list(StageStatus) else None

    def require_done(self, name: str) -> None:
        """Raise UsageError unless stage `name` and those before it are done: which is not, and the command for it."""
        self.refuse_single_frames()
        for stage in STAGES[: STAGES.index(name) + 1]:
            entry = self._manifest["stages"].get(stage, {})
            status = entry.get("status", "not done yet")
            if status != StageStatus.DONE:
                words = ("resume",) if self._resumes(stage) else _COMMANDS[stage]
                first = command_line(*words, self.path)
                why = f" ({entry['error']})" if status == StageStatus.FAILED and "error" in entry else ""
                raise UsageError(
                    f"{self.path}: the stage {stage!r} is {_told(status)}{why}. Run  {first}  first."
                )

    def _resumes(self, stage: str) -> bool:
        """Whether `deblurgs resume` would do this stage: config.json tells what was asked for."""
        try:
            asked = read_json(self.config_json)
        except (OSError, ValueError):
            return False
        return isinstance(asked, dict) and ("source" if stage in ("capture", "sfm") else "preset") in asked

    def refuse_single_frames(self) -> None:
        """Raise UsageError where the frames were restored one by one, because no scene could be made of them."""
        if self.status("train") is None and self.status("single") == StageStatus.DONE:
            raise UsageError(
                f"{self.path} holds no scene: its frames were restored one by one, see {self.sharp} and report.html."
            )

    def metrics(self, *, append: bool = True) -> JsonLines:
        """metrics.jsonl, opened for one JSON object per line."""
        return JsonLines(self.metrics_jsonl, append=append)


def _told(status: str) -> str:
    """In words for the user. A killed process leaves its stage as running, which it is not."""
    return "unfinished" if status == StageStatus.RUNNING else status


def _identities(paths: Sequence[Path]) -> list[tuple[int, int]]:
    """Equal before and after for files that were not replaced."""
    found = [path.stat() for path in paths if path.exists()]
    return [(file.st_ino, file.st_mtime_ns) for file in found]


def fingerprint(config: Any) -> str:
    """SHA-256 of the configuration as canonical JSON: equal for equal settings on every machine."""
    text = json.dumps(plain_json(config), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def changed_fields(before: Any, after: Any, prefix: str = "") -> list[str]:
    """The fields in which two JSON configurations differ, as "name: old -> new" with dotted names."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        changes: list[str] = []
        for key in sorted({*before, *after}):
            name = f"{prefix}.{key}" if prefix else str(key)
            if key not in before:
                changes.append(f"{name}: unset -> {after[key]!r}")
            elif key not in after:
                changes.append(f"{name}: {before[key]!r} -> unset")
            else:
                changes += changed_fields(before[key], after[key], name)
        return changes
    return [] if before == after else [f"{prefix or 'config'}: {before!r} -> {after!r}"]


def _now_utc() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
