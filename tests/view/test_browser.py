"""The viewer in a real browser. Skipped with a reason where there is none."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from browser_page import Page, difference
from view_scene import content, splat_arrays

from deblurgs.log import Log
from deblurgs.view.frames import exposure_pose
from deblurgs.view.live import LiveView
from deblurgs.view.pose import View, client_view, view_of
from deblurgs.view.viewer import Viewer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def viewer() -> Iterator[Viewer]:
    shown = Viewer(port=0, log=Log(quiet=True))
    start = View(np.array([1.0, 0, 0, 0]), np.array([0.0, 0, -0.3]), 0.8, 1.5)
    shown.start_at(start, np.eye(4)[None], 1.0)
    shown.show_splats(splat_arrays())
    yield shown
    shown.close()


@pytest.fixture(scope="module")
def page(viewer: Viewer) -> Iterator[Page]:
    opened = Page(viewer.url)
    yield opened
    opened.close()


def coloured(page: Page) -> float:
    """Share of saturated pixels: colours like those of the scene, not only a grid of lines or a notice."""
    picture = page.picture()
    return float((picture.max(axis=2).astype(int) - picture.min(axis=2) > 40).mean())


def test_page_loads_and_the_splats_are_drawn(viewer: Viewer, page: Page) -> None:
    page.until(lambda: bool(page.elements("canvas")), "a canvas")
    page.until(lambda: len(viewer.server.get_clients()) == 1, "a connection")
    page.until(lambda: coloured(page) > 0.1, "a picture that is not blank")


@pytest.mark.parametrize("frame", [1, 2])
def test_a_click_on_a_frustum_flies_to_its_frame(frame: int) -> None:
    """The mouse on the canvas itself, where a person sees the frustum."""
    shown = Viewer(port=0, log=Log(quiet=True))
    start = View(np.array([1.0, 0, 0, 0]), np.array([0.0, 0, -0.3]), 0.8, 1.5)
    shown.start_at(start, np.eye(4)[None], 1.0)
    seen = content()
    shown.set_content(seen)
    page = Page(shown.url)
    try:
        page.until(lambda: len(shown._canvases) == 1, "a connection")
        canvas = next(iter(shown._canvases.values()))
        page.until(lambda: canvas._shown is not None and canvas.frustums is not None, "the scene at rest")
        frames, camera = seen.frames, canvas.client.camera
        assert frames is not None
        there = view_of(exposure_pose(frames, frame, 0.5), frames.cameras[frame])
        # The middle of the frustum's picture, drawn 0.025 before the frame's camera.
        middle = there.position + np.array([0.0, 0.0, 0.02])

        def aim() -> tuple[int, int]:
            point = client_view(canvas.client).camera_from_world() @ np.append(middle, 1.0)
            box = page.driver.execute_script(
                "return document.querySelector('canvas').getBoundingClientRect()"
            )
            focal_px = 0.5 * box["height"] / np.tan(0.5 * camera.fov)
            x = box["x"] + 0.5 * box["width"] + focal_px * point[0] / point[2]
            y = box["y"] + 0.5 * box["height"] + focal_px * point[1] / point[2]
            return round(x), round(y)

        page.click(aim, f"the frustum of frame {frame}", beside=(8, 8))
        page.until(lambda: canvas.wanted.frame == frame, "the frame at the server")
        page.until(lambda: np.allclose(camera.position, there.position, atol=1e-3), "the camera at its place")
    finally:
        page.close()
        shown.close()


def test_sliders_move_the_picture_and_the_true_render_matches_the_splats(viewer: Viewer, page: Page) -> None:
    page.until(lambda: len(viewer.server.get_clients()) == 1, "a connection")
    page.until(lambda: coloured(page) > 0.1, "the splats")
    before = page.settled()
    viewer.set_content(content())
    page.until(lambda: bool(page.driver.find_elements("xpath", "//*[text()='Exposure u']")), "the controls")
    canvas = next(iter(viewer._canvases.values()))
    canvas.wanted.frustums = False
    page.until(lambda: canvas._shown is not None, "a true render at rest")
    # The browser's splats and ours are the same scene: covariances survived 16 bits, axes and background agree.
    rested = page.settled()
    assert 0.0 < difference(rested, before) < 10.0

    def set_u(value: str) -> None:
        box = page.number_input("Exposure u")
        page.driver.execute_script("arguments[0].scrollIntoView()", box)
        box.click()
        box.send_keys("\ue009a\ue000", value, "\ue007")  # select all, type, enter

    set_u("0")
    page.until(lambda: canvas.wanted.u == 0.0, "the slider's value at the server")
    page.until(lambda: canvas._shown is not None, "a render")
    opening = page.settled()
    set_u("1")
    page.until(lambda: canvas.wanted.u == 1.0, "the slider's value at the server")
    page.until(lambda: difference(page.picture(), opening) > 5.0, "another picture for another instant")
    pose = next(iter(viewer.server.get_clients().values())).camera
    page.until(
        lambda: abs(2 * np.arcsin(pose.wxyz[2])) == pytest.approx(0.1, abs=0.01), "the camera at u = 1"
    )


def test_a_training_is_seen_and_paused_in_the_browser() -> None:
    shown = Viewer(port=0, log=Log(quiet=True))
    live = LiveView(shown, Log(quiet=True), refresh_s=0.5)
    page = Page(shown.url)
    try:
        page.until(lambda: len(shown.server.get_clients()) == 1, "a connection")
        frames = content().frames
        assert frames is not None
        s = frames.scene
        trainer: Any = SimpleNamespace(
            step=50, gaussians=s.gaussians, trajectory=s.trajectory, config=s.config,
            training_cameras=s.training_cameras,
        )  # fmt: skip
        live.after_step(trainer)
        page.until(lambda: coloured(page) > 0.1, "the scene")
        assert "step 150, loss" not in page.driver.page_source
        for step in (50, 100, 150):
            live.report({"step": step, "loss": 5.0 / step, "num_gaussians": 300})
        page.until(lambda: "step 150, loss 0.0333" in page.driver.page_source, "the figures")
        curve = page.elements(".uplot canvas")[0]
        assert len(curve.screenshot_as_png) > 1000 and curve.size["width"] > 50
        button = page.driver.find_element("xpath", "//button[.//*[text()='Pause'] or text()='Pause']")
        page.driver.execute_script("arguments[0].click()", button)
        page.until(lambda: live.paused, "the pause")
        page.until(lambda: "Resume" in page.driver.page_source, "the way on")
    finally:
        page.close()
        shown.close()


def test_a_broken_callback_is_told_and_ends_nothing(viewer: Viewer, page: Page) -> None:
    page.until(lambda: bool(page.driver.find_elements("xpath", "//*[text()='Render mp4']")), "the controls")
    button = page.driver.find_element("xpath", "//button[.//*[text()='Render mp4'] or text()='Render mp4']")
    page.driver.execute_script("arguments[0].click()", button)
    page.until(
        lambda: bool(page.driver.find_elements("xpath", "//*[contains(text(), 'at least two views')]")),
        "the error in the browser",
    )
    assert any("at least two views" in text for text in viewer.log.warnings)
    assert len(viewer.server.get_clients()) == 1


def test_a_page_from_elsewhere_gets_no_connection(viewer: Viewer, page: Page) -> None:
    """A data: page has the origin "null", like any sandboxed page of the web."""
    page.driver.switch_to.new_window("tab")
    page.driver.get("data:text/html,<title>elsewhere</title>")
    outcome = page.driver.execute_async_script(
        "const done = arguments[0];"
        f"const s = new WebSocket('ws://127.0.0.1:{viewer.port}/', 'viser-v1.1.1');"
        "s.onopen = () => done('open'); s.onerror = () => done('refused');"
    )
    assert outcome == "refused"
    page.driver.close()
    page.driver.switch_to.window(page.driver.window_handles[0])
