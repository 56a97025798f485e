"""What the canvas of one browser does at each tick, with a browser that only remembers what it was told."""

import time
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
from view_scene import content

from deblurgs.log import Log
from deblurgs.view.calls import safely
from deblurgs.view.canvas import REST_S, Canvas
from deblurgs.view.pictures import Painter


@pytest.fixture
def canvas() -> Canvas:
    """Its camera rests at the origin and looks along +z."""
    client = MagicMock()
    client.camera = SimpleNamespace(
        wxyz=np.array([1.0, 0, 0, 0]), position=np.zeros(3), fov=0.8, aspect=1.5,
        update_timestamp=time.time() - 2 * REST_S,
    )  # fmt: skip
    made = Canvas(client)
    made.painter = Painter(content())
    client.reset_mock()
    return made


def _told(canvas: Canvas) -> Any:
    """The browser that remembers."""
    return canvas.client


def test_a_render_that_fails_is_told_once_and_tried_again_after_a_move(
    canvas: Canvas, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("no such photo any more")

    monkeypatch.setattr(canvas.painter, "true_render", broken)
    log, client = Log(quiet=True), _told(canvas)
    for _ in range(5):
        safely(canvas.tick, log, client)
    assert client.add_notification.call_count == 1
    client.camera.update_timestamp += 0.01
    safely(canvas.tick, log, client)
    assert client.add_notification.call_count == 2


def test_who_asks_for_trust_is_told_to_wait_the_first_time(canvas: Canvas) -> None:
    canvas.wanted.overlay = "trust"
    canvas.tick()
    client = _told(canvas)
    note = client.add_notification
    assert note.call_count == 1 and note.call_args.kwargs["loading"]
    note.return_value.remove.assert_called_once()
    assert client.scene.set_background_image.call_count == 1
    client.camera.update_timestamp += 0.01
    canvas.tick()
    assert note.call_count == 1
    assert client.scene.set_background_image.call_count == 2
