"""The controls of one browser."""

from collections.abc import Callable
from typing import Any

from deblurgs.log import Log
from deblurgs.view.calls import safely
from deblurgs.view.canvas import Canvas
from deblurgs.view.content import Content
from deblurgs.view.path import path_video
from deblurgs.view.pictures import FRAME_KINDS, OVERLAYS
from deblurgs.view.pose import View, client_view

WALK = "3-D scene"
STILL_SIDE_PX = 1920
VIDEO_SIDE_PX = 1280


class Panel:
    """Builds the controls for what there is, and turns clicks into wishes of the canvas."""

    def __init__(self, canvas: Canvas, content: Content, log: Log) -> None:
        self.canvas, self.content, self.log = canvas, content, log
        self.client = canvas.client
        self.keyframes: list[View] = []
        if content.frames is not None:
            with self.client.gui.add_folder("Frames"):
                self._frame_controls()
        with self.client.gui.add_folder("View"):
            self._view_controls()
        with self.client.gui.add_folder("Camera path"):
            self._path_controls()

    def select(self, frame: int) -> None:
        """Fly to a frame, as a click on its frustum does."""
        self.frame.value = frame
        self._go(fly=True)

    def back_to_scene(self) -> None:
        """The user walked away from the frame that was shown."""
        if self.canvas.wanted.kind is not None:
            self.canvas.wanted.kind = None
            self.show.value = WALK

    def _on(self, handle: Any, work: Callable[[], Any], event: str = "on_update") -> None:
        """Call `work` for a change that the user made; changes made here do not come back."""

        def changed(happened: Any) -> None:
            if happened.client is not None:
                safely(work, self.log, self.client)

        getattr(handle, event)(changed)

    def _frame_controls(self) -> None:
        gui, frames = self.client.gui, self.content.frames
        assert frames is not None
        self.frame = gui.add_slider("Frame", 0, max(len(frames.names) - 1, 1), 1, 0)
        self.name = gui.add_markdown(_escaped(frames.names[0]))
        self.show = gui.add_dropdown(
            "Show", (WALK, *FRAME_KINDS), hint="Drag the canvas to walk on from here."
        )
        self.u = gui.add_slider(
            "Exposure u", 0.0, 1.0, 0.01, 0.5, hint="0: the shutter opens, 1: it closes. Moves the camera."
        )
        self.wipe = gui.add_slider("Wipe", 0.0, 1.0, 0.01, 0.5, hint="Left: observed, right: sharp.")
        previous_next = gui.add_button_group("Step", ("previous", "next"))
        fly = gui.add_button("Fly to this frame")
        self._on(self.frame, lambda: self._go(fly=False))
        self._on(self.show, lambda: self._go(fly=False))
        self._on(self.u, lambda: self._go(fly=False))
        self._on(self.wipe, self._wiped)
        self._on(fly, lambda: self._go(fly=True), "on_click")
        self._on(previous_next, lambda: self._step(1 if previous_next.value == "next" else -1), "on_click")

    def _wiped(self) -> None:
        self.show.value = "before/after"
        self._go(fly=False)

    def _step(self, by: int) -> None:
        assert self.content.frames is not None
        self.frame.value = (int(self.frame.value) + by) % len(self.content.frames.names)
        self._go(fly=False)

    def _go(self, *, fly: bool) -> None:
        """Move to the chosen frame and instant, and ask for the chosen picture."""
        assert self.content.frames is not None
        frame = min(int(self.frame.value), len(self.content.frames.names) - 1)
        shown = str(self.show.value)
        kind = FRAME_KINDS[FRAME_KINDS.index(shown)] if shown in FRAME_KINDS else None
        # The photo and its kin belong to the whole exposure, an instant to the walk and to the sharp render.
        u = float(self.u.value) if kind in (None, "sharp") else 0.5
        self.name.content = _escaped(self.content.frames.names[frame])
        wanted = self.canvas.wanted
        wanted.kind, wanted.frame, wanted.u, wanted.wipe = kind, frame, u, float(self.wipe.value)
        view = self.canvas.frame_view(frame, u)
        self.canvas.fly_to(view) if fly else self.canvas.jump_to(view)

    def _view_controls(self) -> None:
        gui = self.client.gui
        true_render = gui.add_checkbox(
            "True render at rest",
            True,
            hint="All colours and antialiasing, drawn by deblurgs when you stop moving.",
        )
        overlay = gui.add_dropdown(
            "Overlay", OVERLAYS if self.content.frames is not None else OVERLAYS[:2],
            hint="Trust: green where frames vouch for the detail, red where it is a guess, for every Gaussian: the "
            "mean of the frames that see it. A frame's support map has it for every pixel, blue and green together.",
        )  # fmt: skip
        frustums = gui.add_checkbox("Frames and paths", True, visible=self.content.frames is not None)
        still = gui.add_button("Save a still")

        def choose() -> None:
            self.canvas.wanted.frustums = bool(frustums.value)
            self.canvas.wanted.true_render = bool(true_render.value) or overlay.value != "none"
            self.canvas.wanted.overlay = overlay.value

        self._on(true_render, choose)
        self._on(overlay, choose)
        self._on(frustums, choose)
        self._on(still, self._save_still, "on_click")

    def _save_still(self) -> None:
        from io import BytesIO

        from PIL import Image

        painter, wanted = self.canvas.painter, self.canvas.wanted
        assert painter is not None
        if wanted.kind is None:
            image = painter.true_render(client_view(self.client), wanted.overlay, STILL_SIDE_PX).image
        else:
            image = painter.frame_picture(wanted.kind, wanted.frame, wanted.u, wanted.wipe)
        buffer = BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        self.client.send_file_download("deblurgs-still.png", buffer.getvalue(), save_immediately=True)

    def _path_controls(self) -> None:
        gui = self.client.gui
        add = gui.add_button("Add this view")
        clear = gui.add_button("Clear")
        seconds = gui.add_number("Seconds", 6.0, min=0.5, max=120.0, step=0.5)
        render = gui.add_button("Render mp4")
        state = gui.add_markdown("no views yet")

        def say() -> None:
            state.content = f"{len(self.keyframes)} views" if self.keyframes else "no views yet"

        def added() -> None:
            self.keyframes.append(client_view(self.client))
            say()

        def cleared() -> None:
            self.keyframes.clear()
            say()

        def rendered() -> None:
            if len(self.keyframes) < 2:
                raise ValueError("add at least two views first")
            painter, overlay = self.canvas.painter, self.canvas.wanted.overlay
            assert painter is not None
            render.disabled = True
            try:
                video = path_video(
                    list(self.keyframes), float(seconds.value),
                    lambda view: painter.true_render(view, overlay, VIDEO_SIDE_PX).image,
                    lambda share: setattr(state, "content", f"rendering: {share:.0%}"),
                )  # fmt: skip
            finally:
                render.disabled = False
                say()
            self.client.send_file_download("deblurgs-path.mp4", video, save_immediately=True)

        self._on(add, added, "on_click")
        self._on(clear, cleared, "on_click")
        self._on(render, rendered, "on_click")


def _escaped(name: str) -> str:
    """A file name as literal Markdown."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]()<>#+-.!|~&$" else c for c in name)
