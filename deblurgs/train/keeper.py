"""Checkpoints of a running training: written now and then, the last two kept, read back after a crash.

A checkpoint is `step-<n>.safetensors` with all tensors and, written after it, `step-<n>.json` with everything else and
the checksum of the first. One without its JSON, or with another checksum, does not count. Each carries the best state
so far besides the present one.
"""

import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from deblurgs.config import to_dict
from deblurgs.errors import UsageError
from deblurgs.files import plain_json, read_json, require_free_space, write_bytes_atomic, write_json_atomic
from deblurgs.log import Log
from deblurgs.run import changed_fields
from deblurgs.train.state import restore, state_of

if TYPE_CHECKING:
    from deblurgs.train.loop import Trainer

FORMAT = "deblurgs-checkpoint-1"
KEPT = 2
INTERVAL_S = 45.0
MOST_COST = 0.02
"""Share of the time that writing checkpoints may take; where the disk is slow they come less often."""


class Checkpoints:
    """Writes and finds the checkpoints of one training in `folder`.

    interval_s: time between two of them; 0 writes one after every step. note: further facts for the JSON, asked for at
    each writing (how long metrics.jsonl is), handed back by `resume`.
    """

    def __init__(
        self,
        folder: Path,
        log: Log,
        *,
        interval_s: float = INTERVAL_S,
        note: Callable[[], dict[str, Any]] = dict,
    ) -> None:
        self.folder, self.log, self.interval_s, self.note = folder, log, interval_s, note
        self.started = self.last_end = time.monotonic()
        self.cost_s = 0.0
        self.seconds_before = 0.0
        self.saved_step = -1

    def __call__(self, trainer: "Trainer", now: bool = False) -> None:
        """Write a checkpoint if it is time for one, or `now`. Raises ResourceError when the disk is full; the
        checkpoints before stay."""
        wait = max(self.interval_s, self.cost_s / MOST_COST)
        if trainer.step == self.saved_step or not (now or time.monotonic() - self.last_end >= wait):
            return
        begin = time.monotonic()
        self.write(trainer)
        self.last_end = time.monotonic()
        # At intervals of zero the caller wants every step, whatever it costs.
        self.cost_s = self.last_end - begin if self.interval_s > 0 else 0.0

    def write(self, trainer: "Trainer") -> Path:
        """Write one, then delete all but the last two. Returns the path of its JSON file."""
        tensors, data = state_of(trainer)
        blob = save(tensors)
        self.folder.mkdir(parents=True, exist_ok=True)
        require_free_space(self.folder, len(blob) + 2**20, "a checkpoint")
        name = f"step-{trainer.step:07d}"
        write_bytes_atomic(self.folder / f"{name}.safetensors", blob)
        header = {
            "format": FORMAT,
            "crc32": zlib.crc32(blob),
            "bytes": len(blob),
            "seconds": round(self.seconds_before + time.monotonic() - self.started, 3),
            "config": to_dict(trainer.config),
            "data": data_identity(trainer),
            "note": self.note(),
            "state": data,
        }
        target = self.folder / f"{name}.json"
        write_json_atomic(target, header)
        self.saved_step = trainer.step
        for path in self.found()[KEPT:]:
            _remove(path)
        return target

    def found(self) -> list[Path]:
        """The JSON files of all checkpoints, newest first."""
        return sorted(self.folder.glob("step-*.json"), reverse=True)

    def clear(self) -> None:
        """Forget all of them."""
        for path in (*self.folder.glob("step-*.json"), *self.folder.glob("step-*.safetensors")):
            path.unlink(missing_ok=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def resume(self, trainer: "Trainer") -> dict[str, Any] | None:
        """Bring a new trainer to the newest readable checkpoint; -> its note, None when there is none.

        A damaged one is named in a warning and the one before it is taken. Raises UsageError when a readable one
        belongs to other settings or other frames, with the differences.
        """
        # The training begins here; these checkpoints may have been set up long before it, ahead of another training.
        self.started = self.last_end = time.monotonic()
        for path in self.found():
            try:
                tensors, header = read_checkpoint(path)
            except ValueError as error:
                self.log.warn(f"the checkpoint {path.name} is passed over: {error}")
                continue
            require_same(path, header, trainer)
            try:
                restore(trainer, tensors, header["state"])
                self.seconds_before = trainer.seconds_before = float(header["seconds"])
                note = dict(header["note"])
            except (KeyError, TypeError, ValueError, RuntimeError, IndexError, AttributeError) as error:
                raise UsageError(
                    f"the checkpoint {path} does not fit this training ({type(error).__name__}: {error}). "
                    "Train from the start with `deblurgs train --overwrite`."
                ) from error
            self.saved_step = trainer.step
            return note
        return None


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and JSON of the checkpoint whose JSON file is `path`. Raises ValueError saying what is wrong with it."""
    try:
        header = read_json(path)
        if not isinstance(header, dict):
            raise ValueError("its JSON is not an object")
        if header.get("format") != FORMAT:
            raise ValueError(f"its format is {header.get('format')!r}, this version reads {FORMAT!r}")
        size, wanted = path.with_suffix(".safetensors").stat().st_size, header.get("bytes")
        if size != wanted:
            raise ValueError(f"{size} bytes of tensors instead of {wanted}")
        blob = path.with_suffix(".safetensors").read_bytes()
        if zlib.crc32(blob) != header.get("crc32"):
            raise ValueError("the checksum of its tensors is wrong")
        return load(blob), header
    except (OSError, SafetensorError, KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def require_same(path: Path, header: dict[str, Any], trainer: "Trainer") -> None:
    """Raise UsageError that lists every field in which a checkpoint's settings or frames differ from the trainer's."""
    mine = {"train": to_dict(trainer.config), "data": data_identity(trainer)}
    theirs = {"train": header.get("config"), "data": header.get("data")}
    changes = changed_fields(theirs, plain_json(mine))
    if changes:
        raise UsageError(
            f"the checkpoint {path} belongs to another training: {'; '.join(changes)[:2000]}. "
            "Repeat the command with the settings it was begun with, or go on with  deblurgs resume RUN ; "
            "deblurgs train RUN --overwrite  trains from the start."
        )


def data_identity(trainer: "Trainer") -> dict[str, Any]:
    """What tells one training set from another: its frames, and a checksum of its poses and points."""
    d = trainer.data
    crc = 0
    for tensor in (d.camera_from_world, d.points, d.colors, d.depths):
        crc = zlib.crc32(tensor.detach().cpu().contiguous().numpy().tobytes(), crc)
    return {
        "frames": list(d.names),
        "sizes": [[c.width, c.height] for c in trainer.training_cameras],
        "poses_and_points": crc,
    }


def _remove(path: Path) -> None:
    # First the JSON: what it vouches for must not vanish before it.
    path.unlink(missing_ok=True)
    path.with_suffix(".safetensors").unlink(missing_ok=True)
