"""The panel without a browser: what each control asks of the canvas, and what is downloaded."""

import io
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
from PIL import Image
from view_scene import NUM_FRAMES, content

from deblurgs.log import Log
from deblurgs.view import panel as module
from deblurgs.view.canvas import Canvas
from deblurgs.view.panel import WALK, Panel
from deblurgs.view.pictures import FRAME_KINDS, OVERLAYS, Painter


class Control(SimpleNamespace):
    """A control as the panel sees it; `use` is what a person does with it."""

    def use(self, *value: Any) -> None:
        if value:
            self.value = value[0]
        self.changed(SimpleNamespace(client=object()))

    def on_update(self, changed: Callable[[Any], None]) -> None:
        self.changed = changed

    on_click = on_update


class Gui(MagicMock):
    """Remembers the controls by their labels."""

    def made(self, label: str, *initial: Any, **options: Any) -> Control:
        control = self.controls[label] = Control(value=initial[0] if initial else None, **options)
        return control


@pytest.fixture
def panel() -> Panel:
    client = MagicMock()
    client.camera = SimpleNamespace(
        wxyz=np.array([1.0, 0, 0, 0]), position=np.zeros(3), fov=0.8, aspect=1.5, update_timestamp=0.0
    )
    gui = client.gui = Gui()
    gui.controls = {}
    gui.add_slider = lambda label, low, high, step, value, **_: gui.made(label, value)
    gui.add_dropdown = lambda label, choices, **_: gui.made(label, choices[0], choices=choices)
    gui.add_checkbox = lambda label, value, **_: gui.made(label, value)
    gui.add_number = lambda label, value, **_: gui.made(label, value)
    gui.add_button = lambda label, **_: gui.made(label)
    gui.add_button_group = lambda label, choices: gui.made(label, choices[0])
    canvas, shown = Canvas(client), content()
    canvas.painter = Painter(shown)
    return Panel(canvas, shown, Log(quiet=True))


def control(panel: Panel, label: str) -> Control:
    return panel.client.gui.controls[label]  # pyright: ignore[reportAttributeAccessIssue]


def downloaded(panel: Panel) -> tuple[str, bytes]:
    call: Any = panel.client.send_file_download
    call.assert_called_once()
    return call.call_args.args


def test_every_picture_of_a_frame_can_be_asked_for(panel: Panel) -> None:
    show, wanted = control(panel, "Show"), panel.canvas.wanted
    assert show.choices == (WALK, *FRAME_KINDS)
    for kind in FRAME_KINDS:
        show.use(kind)
        assert wanted.kind == kind
    show.use(WALK)
    assert wanted.kind is None


def test_the_wipe_shows_before_and_after(panel: Panel) -> None:
    control(panel, "Wipe").use(0.25)
    assert (panel.canvas.wanted.kind, panel.canvas.wanted.wipe) == ("before/after", 0.25)
    assert control(panel, "Show").value == "before/after"


def test_the_instant_belongs_to_the_sharp_picture_and_the_walk_only(panel: Panel) -> None:
    for kind, u in (("sharp", 0.9), ("observed", 0.5), (WALK, 0.9)):
        control(panel, "Show").use(kind)
        control(panel, "Exposure u").use(0.9)
        assert panel.canvas.wanted.u == u


def test_frames_are_stepped_through_in_a_ring(panel: Panel) -> None:
    step = control(panel, "Step")
    step.use("previous")
    assert panel.canvas.wanted.frame == NUM_FRAMES - 1 and panel.name.content == f"00{NUM_FRAMES - 1}\\.png"
    step.use("next")
    assert panel.canvas.wanted.frame == 0


def test_an_overlay_is_drawn_although_true_renders_are_off(panel: Panel) -> None:
    control(panel, "True render at rest").use(False)
    assert not panel.canvas.wanted.true_render
    assert control(panel, "Overlay").choices == OVERLAYS
    control(panel, "Overlay").use("depth")
    assert panel.canvas.wanted.true_render and panel.canvas.wanted.overlay == "depth"


@pytest.mark.parametrize("kind", [WALK, "observed"])
def test_a_still_is_what_is_shown(panel: Panel, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STILL_SIDE_PX", 90)
    control(panel, "Frame").use(2)
    control(panel, "Show").use(kind)
    control(panel, "Save a still").use()
    name, data = downloaded(panel)
    picture = np.asarray(Image.open(io.BytesIO(data)))
    assert name == "deblurgs-still.png"
    if kind == "observed":
        assert picture.shape == (64, 96, 3) and abs(int(picture[0, 0, 0]) - 0.4 * 255) <= 1
    else:
        assert picture.shape == (60, 90, 3) and picture.std() > 10


def test_a_recorded_path_is_handed_out_as_video(panel: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    import av

    monkeypatch.setattr(module, "VIDEO_SIDE_PX", 64)
    add, render = control(panel, "Add this view"), control(panel, "Render mp4")
    add.use()
    render.use()
    assert "at least two views" in panel.log.warnings[0]
    control(panel, "Clear").use()
    assert panel.keyframes == []
    for x in (-0.1, 0.1):
        panel.client.camera.position = np.array([x, 0.0, 0.0])
        add.use()
    control(panel, "Seconds").value = 0.5
    render.use()
    name, data = downloaded(panel)
    with av.open(io.BytesIO(data)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert name == "deblurgs-path.mp4" and len(frames) == 15 and not render.disabled
    assert np.abs(frames[0].astype(int) - frames[-1]).mean() > 3
