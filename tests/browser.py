"""Screenshots of local pages by a headless Chromium, where there is one."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def screenshot(page: Path, picture: Path, *, width: int, height: int) -> NDArray[np.uint8]:
    """[H,W,3] of what the page shows; written to `picture` as PNG. Skips the test without a browser."""
    from PIL import Image

    browser = next((found for name in _NAMES if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip("no Chromium on this machine")
    home = picture.parent / "browser-home"
    home.mkdir(exist_ok=True)
    done = subprocess.run(
        [
            browser, "--headless=new", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
            "--hide-scrollbars", "--force-device-scale-factor=1", "--disable-background-networking",
            f"--user-data-dir={home / 'profile'}", f"--window-size={width},{height}", "--virtual-time-budget=4000",
            f"--screenshot={picture}", page.resolve().as_uri(),
        ],
        capture_output=True, text=True, check=False, timeout=120, env={**os.environ, "HOME": str(home)},
    )  # fmt: skip
    assert picture.is_file(), done.stderr[-2000:]
    with Image.open(picture) as image:
        return np.asarray(image.convert("RGB"))
