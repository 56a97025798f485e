"""A real browser for the tests: headless Chromium with WebGL in software.

Debian and Ubuntu:  apt-get install chromium chromium-driver   and the Python package selenium (extra `dev`).
"""

import io
import shutil
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--use-gl=angle", "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader", "--window-size=640,420", "--mute-audio", "--disable-background-networking",
)  # fmt: skip
PATIENCE_S = 90.0
"""Software WebGL on a busy machine takes its time."""


class Page:
    """One open page of a viewer."""

    def __init__(self, url: str) -> None:
        selenium = pytest.importorskip("selenium.webdriver", reason="the Python package selenium is missing")
        chromium = (
            shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        )
        driver = shutil.which("chromedriver")
        if chromium is None or driver is None:
            pytest.skip("no Chromium with chromedriver: apt-get install chromium chromium-driver")
        from selenium.webdriver.chrome.service import Service

        options = selenium.ChromeOptions()
        options.binary_location = chromium
        for flag in FLAGS:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver: Any = selenium.Chrome(options=options, service=Service(driver))
        self.driver.get(url)

    def close(self) -> None:
        self.driver.quit()

    def elements(self, selector: str) -> list[Any]:
        return self.driver.find_elements("css selector", selector)

    def picture(self) -> NDArray[np.uint8]:
        """The canvas as the user sees it, left of the panel: [H,W,3]."""
        for _ in range(5):
            try:
                png = self.driver.get_screenshot_as_png()
                break
            except Exception:  # a renderer that is busy with WebGL answers late
                time.sleep(1.0)
        else:
            raise AssertionError("the browser gives no picture")
        image = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
        return image[:, : image.shape[1] // 2]

    def settled(self) -> NDArray[np.uint8]:
        """The picture once it no longer changes."""
        end, before = time.monotonic() + PATIENCE_S, self.picture()
        while time.monotonic() < end:
            time.sleep(2.0)
            now = self.picture()
            if np.array_equal(now, before):
                return now
            before = now
        pytest.fail(f"the picture still changes after {PATIENCE_S:.0f} s")

    def click(self, aim: Callable[[], tuple[int, int]], what: str, *, beside: tuple[int, int]) -> None:
        """Press on something in the scene that can be clicked, as a person does: point at it, see the hand, press.

        aim() -> pixels of the window, as far as is known now; beside: where there is nothing to click. A busy browser
        draws the scene long after the server has sent it, and tells its camera late; so the hand decides when to press,
        and the aim must still hold then.
        """
        from selenium.webdriver.common.actions.action_builder import ActionBuilder

        hand = "return [...document.querySelectorAll('canvas')].some(c => c.style.cursor === 'pointer')"
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            x, y = aim()
            point = ActionBuilder(self.driver)
            # What comes into sight under a pointer is not noticed before that has left and come back.
            point.pointer_action.move_to_location(*beside)
            point.pointer_action.pause(0.5)
            point.pointer_action.move_to_location(x, y)
            point.perform()
            until = time.monotonic() + 3.0
            while not (seen := self.driver.execute_script(hand)) and time.monotonic() < until:
                time.sleep(0.1)
            if seen and aim() == (x, y):
                press = ActionBuilder(self.driver)
                press.pointer_action.pointer_down()
                press.pointer_action.pointer_up()
                press.perform()
                return
        pytest.fail(f"not within {PATIENCE_S:.0f} s: the hand over {what}")

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait until something is true; fail with `what` otherwise."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            if holds():
                return
            time.sleep(0.5)
        logs = [line["message"] for line in self.driver.get_log("browser")][-5:]
        pytest.fail(f"not within {PATIENCE_S:.0f} s: {what}; the console says {logs}")

    def number_input(self, label: str) -> Any:
        """The text box of the slider with this label."""
        found = self.driver.find_elements(
            "xpath", f"//*[normalize-space(text())='{label}']/following::input[@type='text' or not(@type)][1]"
        )
        assert found, f"no slider {label!r}"
        return found[0]


def difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Mean absolute difference in values of 255."""
    return float(np.abs(a.astype(np.int16) - b.astype(np.int16)).mean())
