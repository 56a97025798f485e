"""What one browser sees: splats while it moves, the true render when it rests, or a picture of a frame."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import viser
from viser.transforms import SO3

from deblurgs.view.compose import letterboxed
from deblurgs.view.pose import View, client_view, view_of
from deblurgs.view.splats import BrowserSplats

if TYPE_CHECKING:  # torch comes with them, and the first picture does not wait for it
    from deblurgs.view.pictures import FrameKind, Overlay, Painter

REST_S = 0.25
"""A camera that did not move for so long rests."""
FLIGHT_S, FLIGHT_STEPS = 0.4, 12
_FAR_AWAY = 160.0  # the largest depth that a background can carry is 167


@dataclass
class Wanted:
    """What the panel asks for. kind None: walk through the scene."""

    kind: "FrameKind | None" = None
    frame: int = 0
    u: float = 0.5
    wipe: float = 0.5
    overlay: "Overlay" = "none"
    true_render: bool = True
    frustums: bool = True


class Canvas:
    """One client's canvas. `tick` is called by the viewer's loop only; the panel just changes `wanted`."""

    def __init__(self, client: viser.ClientHandle) -> None:
        self.client = client
        self.wanted = Wanted()
        self.painter: Painter | None = None
        self.frustums: viser.FrameHandle | None = None
        self._splats: viser.GaussianSplatHandle | None = None
        self._shown: object = None
        self._target: View | None = None
        self._flight_ends = 0.0
        self._show_nothing()

    def set_splats(self, splats: BrowserSplats) -> None:
        """Replace what this browser draws by itself."""
        visible = self._splats.visible if self._splats is not None else True
        self._splats = self.client.scene.add_gaussian_splats(
            "/splats", splats.centers, splats.covariances, splats.rgbs, splats.opacities, scale=splats.scale,
            visible=visible,
        )  # fmt: skip
        if not visible and self._shown is not None and self.wanted.kind is None:
            self._shown = None  # the true render shows what was there before

    def fly_to(self, view: View) -> None:
        """Move the browser's camera there within `FLIGHT_S`."""
        start, camera = client_view(self.client), self.client.camera
        self._flight_ends, self._target = time.time() + FLIGHT_S + 1.0, view
        here, there = SO3(start.wxyz), SO3(view.wxyz)
        turn = (here.inverse() @ there).log()
        for i in range(1, FLIGHT_STEPS + 1):
            share = i / FLIGHT_STEPS
            share = share * share * (3.0 - 2.0 * share)
            with self.client.atomic():
                camera.wxyz = (here @ SO3.exp(share * turn)).wxyz
                camera.position = (1.0 - share) * start.position + share * view.position
                camera.fov = (1.0 - share) * start.fov_y + share * view.fov_y
            self.client.flush()
            if i < FLIGHT_STEPS:
                time.sleep(FLIGHT_S / FLIGHT_STEPS)

    def jump_to(self, view: View) -> None:
        """Put the browser's camera there at once."""
        self._flight_ends, self._target = time.time() + 1.0, view
        with self.client.atomic():
            self.client.camera.wxyz = view.wxyz
            self.client.camera.position = view.position
            self.client.camera.fov = view.fov_y

    def frame_view(self, frame: int, u: float = 0.5) -> View:
        """The view of a frame's camera at an instant of its exposure, opened so far that the whole picture is seen."""
        from deblurgs.view.frames import exposure_pose

        assert self.painter is not None and self.painter.content.frames is not None
        frames = self.painter.content.frames
        view = view_of(exposure_pose(frames, frame, u), frames.cameras[frame])
        aspect = float(self.client.camera.aspect)
        if aspect < view.aspect:  # the canvas is narrower than the picture
            wider = 2.0 * np.arctan(np.tan(0.5 * view.fov_y) * view.aspect / aspect)
            view = View(view.wxyz, view.position, float(wider), aspect)
        return view

    def left_frame(self) -> bool:
        """Whether the user moved the camera away from the frame whose picture is shown."""
        if self._target is None or time.time() < self._flight_ends:
            return False  # where it was sent to, or on the way
        now = client_view(self.client)
        moved = float(np.linalg.norm(now.position - self._target.position))
        turned = 1.0 - abs(float(now.wxyz @ self._target.wxyz))
        if moved > 0.01 or turned > 1e-4:
            self._target = None
            return True
        return False

    def tick(self) -> None:
        """Bring the canvas to what is wanted; draws at most one picture."""
        wanted, painter = self.wanted, self.painter
        # At a frame's own place its frustum would cover all that there is to see.
        frustums = wanted.frustums and wanted.kind is None and self._target is None
        if self.frustums is not None and self.frustums.visible != frustums:
            self.frustums.visible = frustums
        aspect = round(float(self.client.camera.aspect), 3)
        if wanted.kind is not None and painter is not None:
            state = (painter, wanted.kind, wanted.frame, wanted.u, wanted.wipe, aspect)
            if state != self._shown:
                self._shown = state
                picture = painter.frame_picture(wanted.kind, wanted.frame, wanted.u, wanted.wipe)
                self._show_background(letterboxed(picture, aspect), None)
            return
        moved_at = float(self.client.camera.update_timestamp)
        if painter is None or not wanted.true_render or time.time() - moved_at < REST_S:
            if self._shown is not None:
                self._shown = None
                self._show_splats()
            return
        state = (painter, moved_at, wanted.overlay, aspect)
        if state != self._shown:
            # Before the work: what fails is told once, not at every tick.
            self._shown = state
            with self._told_to_wait(wanted.overlay == "trust" and not painter.knows_trust):
                rendered = painter.true_render(client_view(self.client), wanted.overlay)
            # Meanwhile the camera may have moved on.
            if float(self.client.camera.update_timestamp) == moved_at:
                self._show_background(rendered.image, rendered.depth)

    @contextmanager
    def _told_to_wait(self, long: bool) -> Iterator[None]:
        """A note in the browser while something takes seconds, so that it does not look like a click that was lost."""
        if not long:
            yield
            return
        note = self.client.add_notification(
            "Judging the scene", "Trust of every Gaussian, once; this takes a while.", loading=True,
            with_close_button=False,
        )  # fmt: skip
        self.client.flush()
        try:
            yield
        finally:
            note.remove()

    def _show_splats(self) -> None:
        with self.client.atomic():
            if self._splats is not None:
                self._splats.visible = True
            self._show_nothing()
        self.client.flush()

    def _show_nothing(self) -> None:
        """Black behind the splats, as in every render: where there is no scene, a rest must not change the picture."""
        self.client.scene.set_background_image(np.zeros((2, 2, 3), np.uint8))

    def _show_background(self, image: np.ndarray, depth: np.ndarray | None) -> None:
        """depth None: nothing of the scene is drawn before the picture."""
        if depth is None:
            depth = np.zeros((2, 2), np.float32)
        near = np.where(np.isfinite(depth), depth, _FAR_AWAY).astype(np.float32)
        with self.client.atomic():
            self.client.scene.set_background_image(image, format="jpeg", jpeg_quality=92, depth=near)
            if self._splats is not None:
                self._splats.visible = False
        self.client.flush()
