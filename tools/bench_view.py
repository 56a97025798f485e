"""How long `deblurgs view RUN` takes to its first picture, in a browser that is open already.

    python tools/bench_view.py RUN [--json benchmarks/view.json]

Times run from the start of the command: `address_s` until the server answers, `splats_s` until the browser has drawn
something that is not blank, `all_s` until the controls for the frames are there. The browser is headless Chromium with
WebGL in *software* (Debian: chromium, chromium-driver; Python: selenium), so drawing is far slower than on any GPU, and
frames per second are not measured. On a machine with other work to do look at `address_cpu_s` and `splats_cpu_s`, the
processor seconds of the command itself until then.
"""

import argparse
import io
import os
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from PIL import Image
from results import commit

from deblurgs.files import write_json_atomic
from deblurgs.machine import package_versions

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    driver = open_browser()
    try:
        times = measure(arguments.run, driver)
    finally:
        driver.quit()
    result = {
        "what": "deblurgs view: seconds from the start of the command, headless Chromium with software WebGL",
        "date_utc": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit(),
        "live_refresh_of_30000_gaussians": refresh_cost(),
        "machine": machine(), "versions": package_versions(("deblurgs", "viser", "torch")), **times,
    }  # fmt: skip
    for name, value in (times | result["live_refresh_of_30000_gaussians"]).items():
        print(f"{name:12} {value}")
    if arguments.json:
        write_json_atomic(arguments.json, result)


def measure(run: Path, driver) -> dict[str, float]:
    start = time.perf_counter()
    command = [sys.executable, "-m", "deblurgs.cli", "view", str(run), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            address = time.perf_counter() - start
            address_cpu = processor_seconds(process.pid)
            driver.get(url)
            while picture(driver)[:, :300].std() < 10.0:
                time.sleep(0.05)
            splats = time.perf_counter() - start
            splats_cpu = processor_seconds(process.pid)
            while not driver.find_elements("xpath", "//*[text()='Exposure u']"):
                time.sleep(0.05)
            return {
                "address_s": round(address, 2),
                "splats_s": round(splats, 2),
                "all_s": round(time.perf_counter() - start, 2),
                "address_cpu_s": round(address_cpu, 2),
                "splats_cpu_s": round(splats_cpu, 2),
            }
        finally:
            process.terminate()


def refresh_cost(num_gaussians: int = 30_000) -> dict[str, float]:
    """What the viewer of a training works for every refresh, and its share of the time between two."""
    import torch

    from deblurgs.scene.gaussians import Gaussians
    from deblurgs.view.live import REFRESH_S, splat_arrays
    from deblurgs.view.splats import browser_splats

    generator = torch.Generator().manual_seed(0)
    points = torch.rand(num_gaussians, 3, generator=generator)
    gaussians = Gaussians(
        means=points, quats=torch.randn(num_gaussians, 4, generator=generator), log_scales=points - 4.0,
        logit_opacities=points[:, 0], sh0=points[:, None], shN=torch.zeros(num_gaussians, 8, 3),
    )  # fmt: skip
    browser_splats(splat_arrays(gaussians, False))
    start = time.process_time()
    for _ in range(5):
        browser_splats(splat_arrays(gaussians, False))
    seconds = (time.process_time() - start) / 5
    return {"refresh_cpu_s": round(seconds, 4), "refresh_share": round(seconds / REFRESH_S, 4)}


def processor_seconds(pid: int) -> float:
    """What a process has worked so far (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def open_browser():
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or "chromium"
    for flag in (
        "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--use-gl=angle", "--use-angle=swiftshader",
        "--enable-unsafe-swiftshader", "--window-size=640,420",
    ):  # fmt: skip
        options.add_argument(flag)
    return webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))


def picture(driver) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB"))


def machine() -> str:
    import platform

    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors, load {load:.1f}"


if __name__ == "__main__":
    main()
