"""The renderer against explicit sums of sharp renders: exposure, rolling shutter, and a whole tiny capture.

Needs Blender's bpy; scenes/README.md tells how to run this in its environment.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from scenes.generator import poses, textures
from scenes.generator.make import Settings, make_capture
from scenes.generator.plan import Video
from scenes.generator.shutter import Shutter, row_weights

pytest.importorskip(
    "bpy", reason="Blender's Python module is not installed (extra `scenes`, Python 3.11 only)"
)
pytestmark = pytest.mark.slow

WIDTH, HEIGHT, FOCAL = 72, 48, 75.0


def turning(count: int) -> np.ndarray:
    """A camera that turns right by 12 px and moves a little, not uniformly in time."""
    s = np.linspace(-1.0, 1.0, count)
    xi = np.zeros((count, 6))
    xi[:, 4] = 0.08 * (s + 0.3 * s**2)
    xi[:, 0] = 0.01 * s
    return poses.look_at(np.array([0.0, -2.0, 0.5]), np.array([0.0, 0.0, 0.5])) @ poses.exp(xi)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((a - b) ** 2)))


def test_blur_and_rolling_shutter_are_means_of_sharp_renders() -> None:
    from scenes.generator.blender import Studio

    studio = Studio(WIDTH, HEIGHT, FOCAL, 192, 1)
    try:
        cover = studio.material(textures.print_(np.random.default_rng(1)), projection="UV")
        studio.sheet(cover, (3.0, 2.4), (0.0, 0.3, -0.6), upright=True)
        studio.box(
            studio.material(textures.cloth(np.random.default_rng(2))), (0.3, 0.3, 0.5), (0.2, 0, 0.3), 20
        )
        path = turning(33)
        blurred, rolling = studio.render(path, 1), studio.render(path, 2, row_share=0.25)
        studio.scene.cycles.samples = 8
        sharp = np.stack([studio.render(pose, 10 + i) for i, pose in enumerate(path)])
    finally:
        studio.close()
    assert 0.05 < blurred.mean() < 1.0

    def mean(shutter: Shutter) -> np.ndarray:
        return np.einsum("hn,nhwc->hwc", row_weights(shutter, HEIGHT, 33), sharp)

    whole, rows = mean(Shutter(1.0)), mean(Shutter(0.25, 0.75))
    assert psnr(blurred, whole) > 38.0
    assert psnr(rolling, rows) > 34.0
    upside_down = np.einsum("hn,nhwc->hwc", row_weights(Shutter(0.25, 0.75), HEIGHT, 33)[::-1], sharp)
    assert psnr(rolling, rows) > psnr(rolling, upside_down) + 8.0, "rows are read from top to bottom"
    assert psnr(rolling, rows) > psnr(rolling, whole) + 6.0


def test_a_tiny_capture_is_complete_and_follows_from_its_seed(tmp_path: Path) -> None:
    settings = Settings(
        "desk", 2, (48, 32), views=3, test_views=1, path_px=3.0, exposure_s=0.04, readout_s=0.05,
        video=Video(10.0, 0.2), exposure_ev=0.3, balance_ev=0.1, jpeg=90, samples=2,
    )  # fmt: skip
    for name in ("a", "b"):
        make_capture(settings, tmp_path / name, 1, lambda text: None)
    files = {p.relative_to(tmp_path / "a").as_posix() for p in (tmp_path / "a").rglob("*.*")}
    assert files == {
        "cameras.json", *(f"images/{i:03d}.jpg" for i in range(3)), *(f"sharp/{i:03d}.png" for i in range(3)),
        "test/003.png",
    }  # fmt: skip
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file
    truth = json.loads((tmp_path / "a" / "cameras.json").read_text())
    assert truth["duty"] == pytest.approx(0.4) and truth["path_px"]["median"] == pytest.approx(3.0, abs=0.01)
    with pytest.raises(FileExistsError):
        make_capture(settings, tmp_path / "a", 1, lambda text: None)
