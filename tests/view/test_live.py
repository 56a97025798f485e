"""Watching a training: the picture follows, pause holds, and nothing that goes wrong in here stops it."""

import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from view_scene import content

from deblurgs.config import TrainConfig
from deblurgs.errors import UsageError
from deblurgs.log import Log
from deblurgs.stages import observe
from deblurgs.view.live import LiveView
from deblurgs.view.viewer import Viewer


@pytest.fixture
def viewer():
    opened = Viewer(port=0, log=Log(quiet=True))
    yield opened
    opened.close()


def fake_trainer() -> SimpleNamespace:
    frames = content().frames
    assert frames is not None
    s = frames.scene
    return SimpleNamespace(
        step=1, gaussians=s.gaussians, trajectory=s.trajectory, config=TrainConfig(),
        training_cameras=s.training_cameras, device=torch.device("cpu"),
    )  # fmt: skip


def test_pause_holds_the_training_until_resume_or_stop(viewer: Viewer) -> None:
    stop = threading.Event()
    live = LiveView(viewer, Log(quiet=True), stop=stop.is_set)
    trainer = fake_trainer()
    live.after_step(trainer)  # not paused: returns at once
    live.toggle_pause()
    worker = threading.Thread(target=live.after_step, args=(trainer,))
    worker.start()
    worker.join(0.4)
    assert worker.is_alive() and live.paused
    live.toggle_pause()
    worker.join(5)
    assert not worker.is_alive()
    live.toggle_pause()
    worker = threading.Thread(target=live.after_step, args=(trainer,))
    worker.start()
    stop.set()  # Ctrl-C while it stands still
    worker.join(5)
    assert not worker.is_alive()


def test_the_curve_follows_the_metrics_and_stays_small(viewer: Viewer) -> None:
    live = LiveView(viewer, Log(quiet=True))
    for step in range(50, 60_000, 50):
        live.report({"step": step, "loss": 1.0 / step, "num_gaussians": 100})
    steps, losses = live._curve.data
    assert len(steps) <= 401 and steps[-1] == 59_950
    assert losses[-1] == pytest.approx(1.0 / 59_950)
    assert (steps[1:] > steps[:-1]).all()
    assert "step 59950" in live._text.content


def test_a_step_costs_next_to_nothing(viewer: Viewer) -> None:
    live, trainer = LiveView(viewer, Log(quiet=True)), fake_trainer()
    live.after_step(trainer)
    start = time.process_time()
    for _ in range(1000):
        live.after_step(trainer)
    assert time.process_time() - start < 0.5


def test_an_observer_that_fails_is_dropped_and_told() -> None:
    class Broken:
        def after_step(self, trainer: object) -> None:
            raise RuntimeError("no")

        def report(self, line: object) -> None: ...

        def finished(self) -> None: ...

    log = Log(quiet=True)
    observers = observe.Observers(log, [Broken()])
    for _ in range(3):
        observers.after_step(fake_trainer())  # pyright: ignore[reportArgumentType]
    assert log.warnings == ["Broken stopped watching the training: no"]


def test_a_missing_extra_is_one_clear_error(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    import sys

    from deblurgs.run import RunFolder

    for name in ("tensorboard", "rerun"):
        monkeypatch.setitem(sys.modules, "torch.utils.tensorboard" if name == "tensorboard" else name, None)
        with pytest.raises(UsageError, match=r"deblurgs\[log\]"):
            observe.make_monitors((name,), RunFolder(tmp_path))


def test_monitors_write_files_that_others_read(tmp_path) -> None:
    pytest.importorskip("tensorboard", reason="extra `log` is not installed")
    pytest.importorskip("rerun", reason="extra `log` is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from deblurgs.run import RunFolder

    log = Log(quiet=True)
    observers = observe.Observers(log, observe.make_monitors(("tensorboard", "rerun"), RunFolder(tmp_path)))
    trainer = fake_trainer()
    trainer.step = 200
    observers.after_step(trainer)  # pyright: ignore[reportArgumentType]
    observers.report({"step": 200, "loss": 0.25})
    observers.finished()
    assert log.warnings == []
    found = EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    assert [(e.step, e.value) for e in found.Scalars("train/loss")] == [(200, 0.25)]
    assert (tmp_path / "training.rrd").stat().st_size > 1000


def watch(folder: Path, name: observe.MonitorName, steps: list[int]) -> None:
    """What a command that trains these steps tells a monitor."""
    from deblurgs.run import RunFolder

    log = Log(quiet=True)
    observers = observe.Observers(log, observe.make_monitors((name,), RunFolder(folder)))
    trainer = fake_trainer()
    for trainer.step in steps:
        observers.after_step(trainer)  # pyright: ignore[reportArgumentType]
        if trainer.step % 100 == 0:
            observers.report({"step": trainer.step, "loss": 1.0 / trainer.step})
    observers.finished()
    assert log.warnings == []


def test_rerun_keeps_what_was_recorded_before_an_interruption(tmp_path: Path) -> None:
    pytest.importorskip("rerun", reason="extra `log` is not installed")

    def recordings() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in tmp_path.glob("*.rrd")}

    watch(tmp_path, "rerun", [1, 100, 200])
    first = recordings()
    assert list(first) == ["training.rrd"]
    watch(tmp_path, "rerun", [])  # a finished training is not repeated
    assert recordings() == first
    watch(tmp_path, "rerun", [151, 200, 300])
    assert recordings().keys() == {"training.rrd", "training-2.rrd"}
    assert recordings()["training.rrd"] == first["training.rrd"]
    watch(tmp_path, "rerun", [1, 100])  # from the start
    assert recordings().keys() == {"training.rrd"} and recordings() != first


def test_tensorboard_shows_one_curve_of_an_interrupted_training(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="extra `log` is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def curve() -> list[int]:
        found = EventAccumulator(str(tmp_path / "tensorboard"))
        found.Reload()
        return [event.step for event in found.Scalars("train/loss")]

    watch(tmp_path, "tensorboard", [1, 100, 200, 300])
    time.sleep(1.1)  # files are read in the order of the seconds in their names
    watch(tmp_path, "tensorboard", [151, 200, 300, 400])
    assert curve() == [100, 200, 300, 400]
    time.sleep(1.1)
    watch(tmp_path, "tensorboard", [1, 100, 200])
    assert curve() == [100, 200]


def test_rerun_asks_for_the_paths_where_the_training_happens(tmp_path) -> None:
    """`meta` stands for a GPU: a trajectory there takes no frame numbers and instants from host memory."""
    pytest.importorskip("rerun", reason="extra `log` is not installed")
    from deblurgs.run import RunFolder

    away, asked = torch.device("meta"), []

    class Trajectory:
        frame_numbers = torch.arange(4, device=away)

        def __call__(self, frames: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
            asked.append((frames.device, u.device))
            return torch.eye(4).expand(len(frames), len(u), 4, 4)

    trainer = fake_trainer()
    trainer.step, trainer.device, trainer.trajectory = 200, away, Trajectory()
    observe.RerunLog(RunFolder(tmp_path)).after_step(trainer)  # pyright: ignore[reportArgumentType]
    assert asked == [(away, away)]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_training_on_a_gpu_can_be_watched(viewer: Viewer, tmp_path) -> None:
    from deblurgs.run import RunFolder

    trainer = fake_trainer()
    trainer.step, trainer.device = 200, torch.device("cuda")
    trainer.gaussians, trainer.trajectory = trainer.gaussians.to("cuda"), trainer.trajectory.to("cuda")
    LiveView(viewer, Log(quiet=True)).after_step(trainer)  # pyright: ignore[reportArgumentType]
    pytest.importorskip("rerun", reason="extra `log` is not installed")
    observe.RerunLog(RunFolder(tmp_path)).after_step(trainer)  # pyright: ignore[reportArgumentType]
