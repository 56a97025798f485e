"""Whoever watches a training: the viewer, TensorBoard, rerun. None of them can end it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import count
from typing import TYPE_CHECKING, Any, Literal, Protocol

from deblurgs.errors import UsageError
from deblurgs.log import Log
from deblurgs.run import RunFolder

if TYPE_CHECKING:
    from deblurgs.train.loop import Trainer

MonitorName = Literal["tensorboard", "rerun"]


class Observer(Protocol):
    """Told what happens; see `deblurgs.train.loop.train` for `observe` and `report`."""

    def after_step(self, trainer: "Trainer") -> None: ...
    def report(self, line: Mapping[str, float]) -> None: ...
    def finished(self) -> None: ...


class Observers:
    """All of them as one. The first error of an observer is told, then it is asked no more."""

    def __init__(self, log: Log, observers: list[Observer] | None = None) -> None:
        self.log, self.active = log, list(observers or [])
        self.stop: Callable[[], bool] = lambda: False

    def stop_requested(self) -> bool:
        """Whether the training was asked to stop: one that stands still must not wait for ever."""
        return self.stop()

    def after_step(self, trainer: "Trainer") -> None:
        self._tell(lambda o: o.after_step(trainer))

    def report(self, line: Mapping[str, float]) -> None:
        self._tell(lambda o: o.report(line))

    def finished(self) -> None:
        self._tell(lambda o: o.finished())

    def _tell(self, what: Callable[[Observer], None]) -> None:
        for observer in list(self.active):
            try:
                what(observer)
            except Exception as error:
                self.active.remove(observer)
                self.log.warn(f"{type(observer).__name__} stopped watching the training: {error}")


class TensorBoardLog:
    """Scalars of metrics.jsonl in RUN/tensorboard; `tensorboard --logdir RUN` shows them. Steps that are made again
    take the place of those before."""

    def __init__(self, run: RunFolder) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UsageError(_missing("tensorboard", error)) from error
        self._open = lambda step: SummaryWriter(str(run.path / "tensorboard"), purge_step=step)
        self.writer: SummaryWriter | None = None

    def after_step(self, trainer: "Trainer") -> None:
        pass

    def report(self, line: Mapping[str, float]) -> None:
        step = int(line["step"])
        if self.writer is None:
            self.writer = self._open(step)
        for name, value in line.items():
            if name != "step":
                self.writer.add_scalar(f"train/{name}", value, step)

    def finished(self) -> None:
        if self.writer is not None:
            self.writer.close()


class RerunLog:
    """Scalars, Gaussian centres and camera paths in RUN/training.rrd; `rerun RUN/training*.rrd` shows them. A training
    that goes on has another file, training-2.rrd and so forth, and is the same recording."""

    EVERY = 200

    def __init__(self, run: RunFolder) -> None:
        try:
            import rerun  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise UsageError(_missing("rerun", error)) from error
        self.rr, self.run = rerun, run
        self.recording: Any = None

    def after_step(self, trainer: "Trainer") -> None:
        recording = self._opened(trainer.step)
        if trainer.step % self.EVERY:
            return
        import numpy as np
        import torch

        from deblurgs.math.sh import sh0_to_rgb

        with torch.no_grad():
            # The training may happen on a GPU; rerun reads host memory.
            t = {name: tensor.cpu() for name, tensor in trainer.gaussians.tensors().items()}
            u = torch.linspace(0.0, 1.0, 9, device=trainer.device)
            poses = trainer.trajectory(trainer.trajectory.frame_numbers, u).cpu()
        centres = -np.einsum("fuji,fuj->fui", poses[..., :3, :3].numpy(), poses[..., :3, 3].numpy())
        rgb = sh0_to_rgb(t["sh0"][:, 0]).clamp(0.0, 1.0)
        recording.set_time("step", sequence=trainer.step)
        recording.log(
            "scene/gaussians", self.rr.Points3D(t["means"].numpy(), colors=(rgb * 255).byte().numpy())
        )
        recording.log("scene/exposures", self.rr.LineStrips3D(list(centres)))

    def report(self, line: Mapping[str, float]) -> None:
        recording = self._opened(int(line["step"]))
        recording.set_time("step", sequence=int(line["step"]))
        for name, value in line.items():
            if name != "step":
                recording.log(f"train/{name}", self.rr.Scalars(float(value)))

    def finished(self) -> None:
        if self.recording is not None:
            self.recording.flush()

    def _opened(self, step: int) -> Any:
        """The recording, begun with the first step that is seen: what is there stays while nothing is trained."""
        if self.recording is None:
            target, others = self.run.path / "training.rrd", sorted(self.run.path.glob("training-*.rrd"))
            if step <= 1:
                for path in others:
                    path.unlink()
            elif target.exists():
                number = next(n for n in count(2) if not (self.run.path / f"training-{n}.rrd").exists())
                target = self.run.path / f"training-{number}.rrd"
            name = f"{self.run.path.resolve().name} {self.run.manifest.get('created_utc', '')}"
            self.recording = self.rr.RecordingStream("deblurgs", recording_id=name)
            self.recording.save(str(target))
        return self.recording


@contextmanager
def watching(
    run: RunFolder, log: Log, *, viewer: bool, port: int, monitors: tuple[MonitorName, ...]
) -> Iterator[Observers]:
    """Observers for a training as the command line asks for them; closed at the end, the viewer with them.

    Raises UsageError when an extra does not load; `require_monitors` looks for it earlier.
    """
    observers = Observers(log, make_monitors(monitors, run))
    if not viewer:
        with _finished(observers):
            yield observers
        return
    from deblurgs.stages.view import start_viewer

    view = start_viewer(log, host="127.0.0.1", port=port, allow_remote=False)
    try:
        log.info(f"viewer: {view.url}")
        from deblurgs.view.live import LiveView

        observers.active.append(LiveView(view, log, stop=observers.stop_requested))
        with _finished(observers):
            yield observers
    finally:
        view.close()


@contextmanager
def _finished(observers: Observers) -> Iterator[None]:
    try:
        yield
    finally:
        observers.finished()


def require_monitors(names: tuple[MonitorName, ...]) -> None:
    """Raises UsageError where an extra is not installed. Quick: nothing is imported."""
    for name in names:
        if find_spec(name) is None:
            raise UsageError(_missing(name, ModuleNotFoundError(f"No module named {name!r}")))


def make_monitors(names: tuple[MonitorName, ...], run: RunFolder) -> list[Observer]:
    """Raises UsageError when an extra does not load."""
    makers: dict[str, Callable[[RunFolder], Observer]] = {"tensorboard": TensorBoardLog, "rerun": RerunLog}
    return [makers[name](run) for name in dict.fromkeys(names)]


def _missing(name: str, error: ImportError) -> str:
    return (
        f"--monitor {name} needs an extra that is not installed ({error}). "
        "Install it with  pip install 'deblurgs[log]'"
    )
