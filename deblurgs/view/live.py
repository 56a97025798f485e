"""The viewer of a training that runs: the scene every few seconds, the loss curve, pause and resume."""

import threading
import time
from collections.abc import Callable, Mapping

import numpy as np
import viser
from viser import uplot

from deblurgs.export.ply import SplatArrays
from deblurgs.log import Log
from deblurgs.scene.gaussians import Gaussians
from deblurgs.train.loop import Trainer
from deblurgs.view.calls import safely
from deblurgs.view.pose import view_of
from deblurgs.view.viewer import Viewer

REFRESH_S = 4.0
MAX_LIVE_SPLATS = 200_000
MAX_POINTS = 400
"""Points of the loss curve that a browser gets; older ones are thinned."""


class LiveView:
    """An observer of the training. `after_step` costs a look at the clock, and every `refresh_s` a copy of the
    Gaussians when a browser is there to see them; everything else happens in a thread of its own."""

    def __init__(
        self,
        viewer: Viewer,
        log: Log,
        *,
        stop: Callable[[], bool] = lambda: False,
        refresh_s: float = REFRESH_S,
    ) -> None:
        self.viewer, self.log, self.stop, self.refresh_s = viewer, log, stop, refresh_s
        self._resume = threading.Event()
        self._resume.set()
        self._next = 0.0
        self._started = False
        self._fresh: SplatArrays | None = None
        self._wake = threading.Event()
        self._losses: list[tuple[float, float]] = []
        self._build(viewer.server)
        threading.Thread(target=self._send, name="deblurgs-live", daemon=True).start()

    def _build(self, server: viser.ViserServer) -> None:
        with server.gui.add_folder("Training"):
            self._text = server.gui.add_markdown("waiting for the first steps")
            self._button = server.gui.add_button("Pause")
            start = np.array([0.0, 1.0])
            self._curve = server.gui.add_uplot(
                data=(start, np.zeros(2)), aspect=1.6,
                series=(uplot.Series(label="step"), uplot.Series(label="loss", stroke="#228be6", width=2)),
                scales={"x": uplot.Scale(time=False, auto=True), "y": uplot.Scale(auto=True)},
            )  # fmt: skip
        self._button.on_click(lambda _: self.toggle_pause())

    @property
    def paused(self) -> bool:
        return not self._resume.is_set()

    def toggle_pause(self) -> None:
        """The training stands still after its present step, or goes on."""
        if self.paused:
            self._resume.set()
            self._button.label = "Pause"
        else:
            self._resume.clear()
            self._button.label = "Resume"

    def after_step(self, trainer: Trainer) -> None:
        """Called by the training after each step."""
        now = time.monotonic()
        if now >= self._next or self.paused:
            self._next = now + self.refresh_s
            if not self._started:
                self._started = True
                self._place(trainer)
            if self.viewer.server.get_clients():
                self._fresh = splat_arrays(trainer.gaussians, trainer.config.antialiased)
                self._wake.set()
        while self.paused and not self.stop() and not self.viewer.closed:
            self._resume.wait(0.1)

    def report(self, line: Mapping[str, float]) -> None:
        """A line of metrics.jsonl: a point of the curve."""
        self._losses.append((float(line["step"]), float(line["loss"])))
        if len(self._losses) > MAX_POINTS:
            self._losses = self._losses[::2] + self._losses[-1:] * (len(self._losses) % 2 == 0)
        steps, losses = np.array(self._losses, np.float64).T
        if len(steps) > 1 and np.isfinite(losses).all():
            self._curve.data = (steps, losses)
        known = line.get("held_out_blocks_psnr")
        self._text.content = (
            f"step {int(line['step'])}, loss {line['loss']:.4f}, {int(line['num_gaussians'])} Gaussians"
            + ("" if known is None else f", held-out blocks {known:.2f} dB")
        )

    def finished(self) -> None:
        """The training is over; the viewer may stay."""
        self._resume.set()
        self._button.disabled = True

    def _place(self, trainer: Trainer) -> None:
        poses = trainer.trajectory.camera_from_world_sfm.detach().cpu().double().numpy()
        self.viewer.start_at(view_of(poses[0], trainer.training_cameras[0]), poses, 1.0)

    def _send(self) -> None:
        while not self.viewer.closed:
            if self._wake.wait(0.5):
                self._wake.clear()
                arrays = self._fresh
                if arrays is not None:
                    safely(lambda a=arrays: self.viewer.show_splats(a, MAX_LIVE_SPLATS), self.log)


def splat_arrays(gaussians: Gaussians, antialiased: bool) -> SplatArrays:
    """A copy of the Gaussians, for another thread."""
    t = {name: tensor.cpu().numpy() for name, tensor in gaussians.tensors().items()}
    return SplatArrays(
        t["means"], t["quats"], t["log_scales"], t["logit_opacities"], t["sh0"][:, 0], t["shN"], antialiased
    )
