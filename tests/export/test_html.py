"""The viewer page: whole, closed against names, asking for nothing, and really drawn by a browser."""

import re
from pathlib import Path

import numpy as np
import pytest
from browser import screenshot

from deblurgs.errors import CaptureError
from deblurgs.export.html import View, read_html, viewer_page, write_html
from deblurgs.export.ply import SplatArrays
from deblurgs.export.splat import encode_splat
from deblurgs.scene.camera import Camera

EVIL = "</script><script>alert(1)</script>&{{SCENE}}.png"


def two_blobs() -> SplatArrays:
    """A red blob on the left in front of a blue wall that fills the picture."""
    return SplatArrays(
        means=np.array([[-0.5, 0, 2], [0, 0, 4]], np.float32),
        quats_wxyz=np.array([[1, 0, 0, 0], [1, 0, 0, 0]], np.float32),
        log_scales=np.log(np.array([[0.2, 0.2, 0.2], [9, 9, 0.01]], np.float32)),
        logit_opacities=np.array([6, 6], np.float32),
        sh0=np.array([[1.7, -1.7, -1.7], [-1.7, -1.7, 1.7]], np.float32),
        shN=np.zeros((2, 0, 3), np.float32),
    )


def views(name: str = "a.png") -> list[View]:
    return [View(name, np.eye(4), Camera(400, 300, 300.0, 300.0, 200.0, 150.0))]


def test_the_scene_comes_back_from_the_page(tmp_path: Path) -> None:
    write_html(tmp_path / "a.html", two_blobs(), views())
    assert read_html(tmp_path / "a.html") == encode_splat(two_blobs())
    (tmp_path / "b.html").write_text("<p>something else")
    with pytest.raises(CaptureError, match=r"b\.html"):
        read_html(tmp_path / "b.html")


def test_names_stay_names_and_nothing_is_fetched() -> None:
    page = viewer_page(two_blobs(), views(EVIL), title=EVIL)
    assert "<script>alert" not in page and page.count("<script") == 2
    assert not re.search(r"https?://|(?:src|href)\s*=", page)


def test_only_the_most_important_gaussians_are_kept_when_asked() -> None:
    assert len(viewer_page(two_blobs(), views(), max_splats=1)) < len(viewer_page(two_blobs(), views()))


def test_a_browser_draws_the_scene(tmp_path: Path) -> None:
    write_html(tmp_path / "a.html", two_blobs(), views())
    pixels = screenshot(tmp_path / "a.html", tmp_path / "a.png", width=400, height=400)
    red = (pixels[..., 0] > 200) & (pixels[..., 1] < 60)
    blue = (pixels[..., 2] > 200) & (pixels[..., 1] < 60)
    # Red in front of blue on the left, blue on the right: order, colour and the sign of x.
    assert red[:, :200].sum() > 1000 and red[:, 220:].sum() == 0
    assert (blue[:, 220:] & ~red[:, 220:]).mean() > 0.3
    np.testing.assert_allclose(np.argwhere(red & ~blue).mean(0)[1], 200 - 0.25 * 300, atol=6)
