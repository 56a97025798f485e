"""Frames and poses -> Gaussians and trajectories: the stage `train`."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from deblurgs.config import TrainConfig, to_dict
from deblurgs.errors import DeblurgsError
from deblurgs.log import Log
from deblurgs.run import RunFolder, StageStatus
from deblurgs.stages.data import training_set
from deblurgs.stages.observe import Observers

if TYPE_CHECKING:
    from collections.abc import Callable

    from deblurgs.sfm.model import SparseModel
    from deblurgs.train.data import TrainingSet
    from deblurgs.train.loop import Report, TrainedScene

SCENE_FILE = "scene.safetensors"
PARTIAL_FILE = "interrupted.safetensors"
"""What an interrupted training had reached; the last finished scene stays beside it until a new one is finished."""


def train(
    run: RunFolder,
    config: TrainConfig,
    log: Log,
    *,
    overwrite: bool = False,
    observers: Observers | None = None,
) -> None:
    """Frames and poses -> Gaussians and trajectories. observers watch and change nothing."""
    from deblurgs.capture.dataset import load_capture
    from deblurgs.sfm.model import load_model

    run.require_done("sfm", "process")
    watched = observers if observers is not None else Observers(log)

    def work() -> None:
        from deblurgs.interrupt import stop_on_first_interrupt
        from deblurgs.train.checkpoint import save_scene
        from deblurgs.train.loop import train as optimise
        from deblurgs.train.memory import check_memory, estimate_memory

        model = load_model(run.sfm)
        check_memory(estimate_memory(model.cameras, config), log)
        partial = run.checkpoint / PARTIAL_FILE
        partial.unlink(missing_ok=True)
        # The data are at training size already: reducing them again would train at a smaller one.
        data = training_set(model, load_capture(run.path), config)
        at_size = dataclasses.replace(config, downscale=1.0)
        with stop_on_first_interrupt() as stop:
            watched.stop = stop
            with run.metrics(append=False) as metrics:
                report = _reported(metrics.write, watched)
                scene = optimise(data, at_size, log, report, stop=stop, observe=watched.after_step)
            if not stop.requested:
                try:
                    scene, data = _with_lost_frames(run, model, scene, data, config, log, stop, watched)
                except DeblurgsError as error:
                    log.warn(f"the frames without a pose could not be looked for: {error}")
            if stop.requested:
                run.checkpoint.mkdir(exist_ok=True)
                save_scene(partial, scene, data.names, data.scene_from_sfm)
                log.warn(
                    f"training was interrupted after {scene.seconds:.0f} s.  deblurgs render {run.path}  shows what it "
                    "had reached; the same command trains again from the start."
                )
                raise KeyboardInterrupt
        for line in scene.timing():
            log.info(line)
        run.checkpoint.mkdir(exist_ok=True)
        save_scene(run.checkpoint / SCENE_FILE, scene, data.names, data.scene_from_sfm)

    run.stage("train", config, work, outputs=[run.checkpoint / SCENE_FILE], overwrite=overwrite)


def _with_lost_frames(
    run: RunFolder,
    model: "SparseModel",
    scene: "TrainedScene",
    data: "TrainingSet",
    config: TrainConfig,
    log: Log,
    stop: "Callable[[], bool]",
    observers: Observers,
) -> "tuple[TrainedScene, TrainingSet]":
    """The scene trained once more with the frames that its sharp renders helped to find; as it was if there are none.

    Whatever ends the second training early, the first scene stays, and the model in the run folder with it.
    """
    from deblurgs.capture.dataset import load_capture
    from deblurgs.sfm.model import save_model
    from deblurgs.stages.lost_frames import find_lost_frames
    from deblurgs.train.loop import train as optimise

    extended = find_lost_frames(run, model, scene, data.scene_from_sfm, log)
    more = len(extended.names) - len(model.names)
    if more == 0:
        return scene, data
    again = None
    try:
        if not stop():
            log.info(f"{more} more frames have a pose now: training again with them")
            second = training_set(extended, load_capture(run.path), config)
            with run.metrics(append=True) as metrics:
                again = optimise(
                    second, dataclasses.replace(config, downscale=1.0), log, _reported(metrics.write, observers),
                    stop=stop, observe=observers.after_step,
                )  # fmt: skip
            if not stop():
                return again, second
    finally:
        if again is None or stop():
            save_model(model, run.sfm)
    return scene, data


def _reported(write: "Report", observers: Observers) -> "Report":
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
    if run.status("train") == StageStatus.INTERRUPTED and partial.is_file():
        log.warn("the training was interrupted: this is what it had reached by then")
        return partial
    run.require_done("train", "train")
    return run.checkpoint / SCENE_FILE


def save_config(run: RunFolder, preset_name: str, config: TrainConfig, base: TrainConfig) -> None:
    """config.json: the preset and only what differs from it."""
    from deblurgs.files import write_json_atomic

    write_json_atomic(run.config_json, {"preset": preset_name, "train": to_dict(config, base)})
