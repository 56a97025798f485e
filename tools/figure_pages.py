"""Pictures of the pages that deblurgs makes, taken by a headless Chromium: the report and the viewer.

Debian and Ubuntu:  apt-get install chromium chromium-driver   and the Python package selenium (extra `dev`).
"""

import io
import time
from pathlib import Path

import numpy as np
from bench_view import open_browser
from PIL import Image

from deblurgs.log import Log
from deblurgs.stages.view import open_viewer

REPORT_PX, VIEWER_PX = (1180, 900), (1180, 720)
PATIENCE_S = 180.0
"""Software WebGL on a busy machine takes its time."""


def browser_pictures(run: Path, output: Path) -> None:
    """report.jpg: the top of the run's report. viewer.jpg: the viewer as it opens, with a true render at rest."""
    driver = open_browser()
    try:
        driver.set_window_size(*REPORT_PX)
        driver.get((run / "report.html").resolve().as_uri())
        driver.execute_script("document.documentElement.style.scrollbarWidth = 'none'")
        time.sleep(2.0)
        save(snapshot(driver), output / "report.jpg")
        viewer = open_viewer(run, Log(quiet=True), port=0)
        try:
            driver.set_window_size(*VIEWER_PX)
            driver.get(viewer.url)
            wait_for_panel(driver)
            # The notice that this browser draws in software is no part of the picture.
            for button in driver.find_elements("css selector", "[class*=Notification-closeButton]"):
                driver.execute_script("arguments[0].click()", button)
            save(settled(driver), output / "viewer.jpg")
        finally:
            viewer.close()
    finally:
        driver.quit()


def wait_for_panel(driver) -> None:
    end = time.monotonic() + PATIENCE_S
    while not driver.find_elements("xpath", "//*[text()='Exposure u']"):
        if time.monotonic() > end:
            raise SystemExit(f"the viewer's controls did not come within {PATIENCE_S:.0f} s")
        time.sleep(0.5)


def settled(driver) -> Image.Image:
    """The window once five looks in a row, a second apart, show the same: splats drawn, true render in their place."""
    end, same, last = time.monotonic() + PATIENCE_S, 0, snapshot(driver)
    while same < 5 and time.monotonic() < end:
        time.sleep(1.0)
        now = snapshot(driver)
        same = same + 1 if np.abs(np.asarray(now, float) - np.asarray(last, float)).mean() < 0.05 else 0
        last = now
    return last


def snapshot(driver) -> Image.Image:
    return Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")


def save(picture: Image.Image, path: Path) -> None:
    picture.save(path, quality=85, optimize=True)
