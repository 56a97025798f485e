"""Frames and poses -> Gaussians and trajectories: the stage `train`."""

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deblurgs.command import command_line
from deblurgs.config import TrainConfig
from deblurgs.errors import DivergedError, UsageError
from deblurgs.files import plain_json
from deblurgs.log import Log
from deblurgs.raster.devices import DeviceName, resolve
from deblurgs.run import RunFolder, StageStatus, changed_fields
from deblurgs.stages.data import training_set
from deblurgs.stages.observe import Observers

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from deblurgs.train.data import TrainingSet
    from deblurgs.train.loop import Report
    from deblurgs.train.trained import TrainedScene

SCENE_FILE = "scene.safetensors"
PARTIAL_FILE = "interrupted.safetensors"
"""What an interrupted training had reached; the last finished scene stays beside it until a new one is finished."""
CHECKPOINT_EVERY_S = 45.0
UNFINISHED = (StageStatus.RUNNING, StageStatus.INTERRUPTED, StageStatus.FAILED)
"""Of a stage that was begun and not finished. `running` means killed: who asks holds the lock."""


def refuse_other_settings(run: RunFolder, config: TrainConfig) -> None:
    """Raise UsageError with the differences when there are checkpoints of a training with other settings."""
    entry = run.manifest["stages"].get("train", {})
    kept = [*(run.checkpoint / "steps").glob("step-*.json"), *run.checkpoint.glob("again/plan.json")]
    if run.status("train") not in UNFINISHED or not kept:
        return
    changes = changed_fields(entry.get("config"), plain_json(config))
    if changes:
        raise UsageError(
            f"the unfinished training in {run.path} was begun with other settings: {'; '.join(changes)}.  "
            f"{command_line('resume', run.path)}  goes on with those;  "
            f"{command_line('train', run.path, '--overwrite')}  with yours trains from the start."
        )


@dataclass(frozen=True)
class Circumstances:
    """Under which a training happens. checkpoint_every: seconds between checkpoints. place: where it is computed."""

    log: Log
    checkpoint_every: float
    place: "torch.device"
    observers: Observers


class Passage:
    """One training of a run folder with its checkpoints and its part of metrics.jsonl."""

    def __init__(self, run: RunFolder, folder: Path, at_size: TrainConfig, around: Circumstances) -> None:
        """folder: of the checkpoints. at_size: the settings for data that are at training size."""
        from deblurgs.train.keeper import Checkpoints

        self.run, self.at_size, self.around, self.log = run, at_size, around, around.log
        self.checkpoints = Checkpoints(
            folder,
            self.log,
            interval_s=around.checkpoint_every,
            note=lambda: {"metrics_bytes": metrics_bytes(run)},
        )

    def train(
        self, data: "TrainingSet", stop: "Callable[[], bool]", *, metrics_before: int = 0
    ) -> "TrainedScene":
        """From the last checkpoint, or from the start. metrics_before: bytes of metrics.jsonl that are not ours."""
        from deblurgs.train.loop import Trainer

        observers = self.around.observers
        observers.stop = stop
        trainer = Trainer(
            data.to(self.around.place), self.at_size, self.log, stop=stop, keep=self.checkpoints,
            observe=observers.after_step,
        )  # fmt: skip
        note = self.checkpoints.resume(trainer)
        if note is not None:
            self.log.info(f"training goes on from step {trainer.step} of {self.at_size.total_steps}")
        shorten(self.run.metrics_jsonl, metrics_before if note is None else int(note["metrics_bytes"]))
        with self.run.metrics() as metrics:
            trainer.report = reported(metrics.write, observers)
            return trainer.train()


def train(
    run: RunFolder,
    config: TrainConfig,
    log: Log,
    *,
    overwrite: bool = False,
    checkpoint_every: float = CHECKPOINT_EVERY_S,
    device: DeviceName = "auto",
    observers: Observers | None = None,
) -> None:
    """Frames and poses -> Gaussians and trajectories.

    checkpoint_every: seconds between two checkpoints. A training that was killed or interrupted goes on from its last
    one; it must have the same settings (UsageError lists the differences). overwrite trains from the start.
    observers watch and change nothing.
    """
    from deblurgs.capture.dataset import load_capture
    from deblurgs.sfm.model import load_model

    run.require_done("sfm")
    begun = run.status("train") in UNFINISHED
    if not overwrite:
        refuse_other_settings(run, config)

    def work() -> None:
        from deblurgs.interrupt import stop_on_first_interrupt
        from deblurgs.stages.second_training import SecondTraining
        from deblurgs.train.checkpoint import save_scene
        from deblurgs.train.losses import require_kernels
        from deblurgs.train.memory import check_memory, estimate_memory

        place = resolve(device)
        if place.type == "cpu":
            require_kernels()  # now: without them the first picture alone would take minutes and gigabytes
        log.info(f"training on the {'GPU' if place.type == 'cuda' else 'CPU'}")
        # The data are at training size already: reducing them again would train at a smaller one.
        at_size = dataclasses.replace(config, downscale=1.0)
        around = Circumstances(
            log, checkpoint_every, place, Observers(log) if observers is None else observers
        )
        first = Passage(run, run.checkpoint / "steps", at_size, around)
        second = SecondTraining(run, config, around)
        partial = run.checkpoint / PARTIAL_FILE
        if overwrite or not begun:
            first.checkpoints.clear()
            second.clear()
            partial.unlink(missing_ok=True)
        model = load_model(run.sfm)
        check_memory(estimate_memory(model.cameras, config), log)
        with stop_on_first_interrupt() as stop:
            if second.begun:
                scene, data = second.resume(stop)
            else:
                data = training_set(model, load_capture(run.path), config)
                try:
                    scene = first.train(data, stop)
                except DivergedError:
                    first.checkpoints.clear()  # going on from there would end the same way
                    raise
                if not stop.requested:
                    scene, data = second.train_if_frames_are_found(model, scene, data, stop)
            run.checkpoint.mkdir(exist_ok=True)
            if stop.requested:
                save_scene(partial, scene, data.names, data.scene_from_sfm)
                raise KeyboardInterrupt(
                    f"training was interrupted after {scene.seconds:.0f} s.  {command_line('render', run.path)}  shows "
                    f"what it had reached;  {command_line('resume', run.path)}  (or the same command again) goes on "
                    "from there."
                )
        for line in scene.timing():
            log.info(line)
        save_scene(run.checkpoint / SCENE_FILE, scene, data.names, data.scene_from_sfm)
        first.checkpoints.clear()
        second.clear()
        partial.unlink(missing_ok=True)

    run.stage("train", config, work, outputs=[run.checkpoint / SCENE_FILE], overwrite=overwrite)


def metrics_bytes(run: RunFolder) -> int:
    """How long metrics.jsonl is by now."""
    return run.metrics_jsonl.stat().st_size if run.metrics_jsonl.is_file() else 0


def shorten(path: Path, size: int) -> None:
    """Cut a file to at most `size` bytes: what was written after a checkpoint will be written again."""
    if path.is_file() and path.stat().st_size > size:
        os.truncate(path, size)


def reported(write: "Report", observers: Observers) -> "Report":
    """Lines of metrics.jsonl for the file and for those who watch."""

    def report(line: dict[str, float]) -> None:
        write(line)
        observers.report(line)

    return report


def scene_path(run: RunFolder, log: Log) -> Path:
    """The scene to show: the finished one, or what the last training had reached when it was interrupted.

    Raises UsageError when there is neither.
    """
    partial = run.checkpoint / PARTIAL_FILE
    if run.status("train") in UNFINISHED and partial.is_file():
        log.warn("the training was interrupted: this is what it had reached by then")
        return partial
    run.require_done("train")
    return run.checkpoint / SCENE_FILE
