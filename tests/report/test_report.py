"""report.html: complete, closed against names, below its size, readable without scripts, and looked at in a browser."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import screenshot
from browser_page import Page
from PIL import Image

from deblurgs.export.html import View
from deblurgs.export.ply import SplatArrays
from deblurgs.report.curves import line_chart
from deblurgs.report.data import Candidate, ReportData, ReportFrame
from deblurgs.report.frames import telling_frames
from deblurgs.report.markup import name, text
from deblurgs.report.page import report_page
from deblurgs.scene.camera import Camera

ROOT = Path(__file__).resolve().parents[2]
EVIL = "<script>alert(1)</script>\u202egpj.&\"'"


def splats(n: int = 2) -> SplatArrays:
    rng = np.random.default_rng(0)
    return SplatArrays(
        means=np.stack([rng.uniform(-1, 1, n), rng.uniform(-1, 1, n), np.full(n, 4.0)], 1).astype(np.float32),
        quats_wxyz=np.tile(np.array([[1, 0, 0, 0]], np.float32), (n, 1)),
        log_scales=np.zeros((n, 3), np.float32), logit_opacities=np.full(n, 5, np.float32),
        sh0=np.tile(np.array([[-1.7, 1.7, -1.7]], np.float32), (n, 1)), shN=np.zeros((n, 0, 3), np.float32),
    )  # fmt: skip


def data(folder: Path, count: int = 3, size: tuple[int, int] = (90, 60), **changes: Any) -> ReportData:
    rng = np.random.default_rng(1)
    frames = []
    for i in range(count):
        paths = [folder / f"{kind}{i}.png" for kind in ("observed", "sharp", "support")]
        for path, colour in zip(paths, ((200, 40, 40), (40, 40, 200), None), strict=True):
            noise = rng.integers(0, 255, (size[1], size[0], 3))
            picture = noise if colour is None else np.full((size[1], size[0], 3), colour)
            Image.fromarray(picture.astype(np.uint8)).save(path)
        trust = {
            "trust": 0.4 + 0.1 * i, "own": 0.3, "recovered": 0.1 + 0.1 * i, "guessed": 0.6 - 0.1 * i,
            "support": 0.7 + 0.1 * i, "path_px": 5.0 * i, "reliable": i > 0, "reasons": [] if i else ["unseen"],
        }  # fmt: skip
        frames.append(
            ReportFrame(
                f"{i}{EVIL}",
                paths[0],
                paths[1],
                paths[2],
                *size,
                [np.array([[5.0, 5], [9, 8], [14, 9]])],
                trust,
            )
        )
    fields: dict[str, Any] = {
        "title": EVIL, "command": f"deblurgs run {EVIL}", "frames": frames,
        "candidates": [
            *(Candidate(f.name, f.observed, True, True, 0.5, 0.25) for f in frames),
            Candidate("lost.jpg", None, True, False, 0.1, None, f"no matches {EVIL}"),
        ],
        "metrics": [{"step": s, "loss": 1 / s, "held_out_blocks_psnr": 20 + s / 10} for s in (1, 50, 100)],
        "sfm": {"error_px": 0.8, "tried": [{"rung": "fine", "kept": True, "seconds": {"map": 2.0}}, "odd"]},
        "manifest": {"stages": {"train": {"status": "done", "seconds": 61.0, "peak_memory_mb": 412.0,
                                          "warnings": [EVIL]}}, "versions": {"deblurgs": "1"}},
        "config": {"preset": EVIL}, "trust": {"trust": 0.5, "num_reliable": 2, "reasons": {"unseen": "never seen"}},
        "splats": splats(), "views": [View(EVIL, np.eye(4), Camera(90, 60, 60.0, 60.0, 45.0, 30.0))],
    }  # fmt: skip
    return ReportData(**(fields | changes))


class Outline(HTMLParser):
    """Tags that are really opened, and attributes that point somewhere."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.unlabelled: list[str] = []
        self.growing: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        named = dict(attrs)
        self.addresses += [named[k] or "" for k in ("src", "href", "action", "poster", "data") if k in named]
        # A picture that loads when it comes into sight moves what is below it, and a link leads to the wrong place.
        if tag == "img" and named.get("loading") == "lazy" and not {"width", "height"} <= named.keys():
            self.growing.append(named.get("alt") or "")
        if (tag == "img" and "alt" not in named) or (
            tag in ("input", "iframe") and not ("aria-label" in named or "title" in named)
        ):
            self.unlabelled.append(tag)


def test_the_page_is_whole_and_asks_for_nothing(tmp_path: Path) -> None:
    page = report_page(data(tmp_path))
    outline = Outline(page)
    assert outline.tags.count("script") == 1 and not outline.unlabelled and not outline.growing
    assert all(a.startswith(("#", "data:image/jpeg;base64,")) for a in outline.addresses)
    assert not re.search(r"https?://|url\(|@import", page)
    for part in ("compare", "scene", "evidence", "learning", "sheet", "cameras", "cost", "reproduce"):
        assert f'<section id="{part}"' in page and f'href="#{part}"' in page
    for words in ("never seen", "no matches", "1 min 01 s", "412 MB", "look twice", "blur 25 %"):
        assert words in page


def test_every_map_has_its_figures_and_they_are_explained(tmp_path: Path) -> None:
    """Trust (recorded and agreed upon) and support (recorded) stand beside the map that shows both."""
    page = report_page(data(tmp_path))
    assert "Blue and green together are the trust of a pixel" in page
    articles = re.findall(r'<article class="frame">.*?</article>', page, re.DOTALL)
    assert len(articles) == 3
    for i, article in enumerate(articles):
        assert article.count("<img") == 2 and f"<strong>{40 + 10 * i} % trust</strong>" in article
        assert f"recorded by any photo {70 + 10 * i} %" in article
        assert "sharp in this frame 30 %" in article and f"a guess {60 - 10 * i} %" in article


def test_names_stay_names(tmp_path: Path) -> None:
    page = report_page(data(tmp_path))
    assert "<script>alert" not in page and "\u202e" not in page
    assert len(name("x" * 10_000)) < 200
    assert text("a\x00\u202eb<") == "ab&lt;"


def test_missing_and_odd_parts_leave_the_rest(tmp_path: Path) -> None:
    bare = data(
        tmp_path, metrics=[{"step": "x"}, {}], sfm={}, manifest={}, config={}, trust={}, splats=None, views=[],
        candidates=[], frames=[],
    )  # fmt: skip
    assert "<iframe" not in report_page(bare)
    broken = data(tmp_path)
    (tmp_path / "observed1.png").write_bytes(b"no picture")
    assert report_page(broken).count('class="frame"') == 2


def test_pictures_shrink_until_the_page_fits(tmp_path: Path) -> None:
    many = data(tmp_path, count=12, size=(640, 420))
    large = len(report_page(many).encode())
    small = len(report_page(many, max_bytes=large * 2 // 3).encode())
    assert small <= large * 2 // 3


def test_the_frames_shown_are_the_telling_ones(tmp_path: Path) -> None:
    frames = data(tmp_path, count=8).frames
    chosen = telling_frames(frames, 4)
    assert len(chosen) == 4 and frames[0] in chosen and frames[6] in chosen and frames[7] in chosen
    assert chosen == sorted(chosen, key=frames.index) and telling_frames([], 4) == []


def test_a_chart_needs_two_finite_points() -> None:
    assert line_chart([(1, 2.0)], title="a", unit="") == ""
    assert line_chart([(1, float("nan")), (2, 0)], title="a", unit="") == ""
    chart = line_chart([(1, 2.0), (2, 2.0)], title="a", unit="b")
    assert "nan" not in chart and chart.count("<polyline") == 1


def axis(chart: str) -> list[str]:
    return re.findall(r'text-anchor="end">(-?[\d.e+-]+)</text>', chart)


def test_a_chart_has_round_levels_that_fit() -> None:
    count = line_chart([(50, 570), (800, 4232), (1600, 10_000), (2400, 20_000)], title="Gaussians", unit="")
    assert axis(count)[:-1] == ["0", "5000", "10000", "15000", "20000"]
    psnr = line_chart([(50, 21.3), (2400, 31.6)], title="PSNR", unit="dB")
    assert axis(psnr)[:-1] == ["20", "25", "30", "35"]
    loss = line_chart([(50, 0.39), (2400, 0.00774)], title="Loss", unit="logarithmic", log=True)
    assert axis(loss)[:-1] == ["0.005", "0.01", "0.02", "0.05", "0.1", "0.2", "0.5"]
    flat = line_chart([(1, 2.0), (2, 2.0)], title="a", unit="")
    assert all(len(level) <= 6 for chart in (count, psnr, loss, flat) for level in axis(chart)[:-1])


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb, as WCAG 2 defines it."""
    values = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(theme: int) -> None:
    css = (ROOT / "deblurgs" / "report" / "report.css").read_text(encoding="utf-8")
    blocks = [
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", b)) for b in re.findall(r":root \{([^}]*)\}", css)
    ]
    assert len(blocks) == 2
    colour = blocks[0] | blocks[theme]
    pairs = [("good", "good-soft"), ("bad", "bad-soft"), ("ink", "accent-soft")]
    pairs += [(text, behind) for text in ("ink", "quiet", "accent") for behind in ("paper", "card")]
    for front, behind in pairs:
        a, b = sorted((luminance(colour[front]), luminance(colour[behind])))
        assert (b + 0.05) / (a + 0.05) >= 4.5, f"{front} on {behind}"


def test_the_keyboard_moves_the_bar(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(report_page(data(tmp_path)), encoding="utf-8")
    page = Page((tmp_path / "report.html").as_uri())
    try:
        slider = page.elements(".stage input")[0]

        def bar() -> str:
            return page.driver.execute_script(
                "return getComputedStyle(arguments[0].parentNode).getPropertyValue('--at')", slider
            )

        page.driver.execute_script("arguments[0].focus()", slider)
        assert bar() == "50%"
        slider.send_keys("\ue012" * 5)  # to the left
        assert bar() == "45%" and slider.get_attribute("aria-valuetext") == "55 percent sharp"
        slider.send_keys("\ue010")  # End
        assert bar() == "100%"
        # Tab leads from one slider to the next, and the one that has the keyboard is marked.
        slider.send_keys("\ue004")
        second = page.elements(".stage input")[1]
        assert page.driver.execute_script("return document.activeElement") == second
        outline = page.driver.execute_script(
            "return getComputedStyle(arguments[0].parentNode).outlineStyle", second
        )
        assert outline == "solid"
    finally:
        page.close()


@pytest.mark.parametrize("width", [1200, 500])
def test_a_browser_shows_sliders_and_scene(tmp_path: Path, width: int) -> None:
    (tmp_path / "report.html").write_text(report_page(data(tmp_path)), encoding="utf-8")
    pixels = screenshot(tmp_path / "report.html", tmp_path / "r.png", width=width, height=2400).astype(int)
    red = (pixels[..., 0] > 150) & (pixels[..., 1] < 90) & (pixels[..., 2] < 90)
    blue = (pixels[..., 2] > 150) & (pixels[..., 0] < 90) & (pixels[..., 1] < 90)
    green = (pixels[..., 1] > 150) & (pixels[..., 0] < 90) & (pixels[..., 2] < 90)
    # The sliders stand in the middle: as much of the sharp (blue) as of the observed (red) picture.
    assert blue.sum() > 10_000 and 0.5 < blue.sum() / red.sum() < 2
    rows = blue.sum(axis=1) > 100
    assert (red[rows].argmax(axis=1) < blue[rows].argmax(axis=1)).all(), "observed belongs left of the bar"
    assert green.sum() > 3_000, "the 3-D view is blank"
    # Only the bar of links may run on to the right; it scrolls by itself.
    assert (pixels[:, -3:] > 200).all(axis=(1, 2)).mean() > 0.98, "something hangs out of the page"
