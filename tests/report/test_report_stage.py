"""report.html from run folders in every state: videos, unfinished runs, frames that the network restored alone."""

import re
from pathlib import Path

import numpy as np
import pytest

from deblurgs.capture.dataset import Capture, save_capture
from deblurgs.capture.image import write_png
from deblurgs.errors import UsageError
from deblurgs.files import write_json_atomic
from deblurgs.log import Log
from deblurgs.report.data import Candidate
from deblurgs.run import RunFolder
from deblurgs.scene.camera import Camera
from deblurgs.scene.frame import Frame
from deblurgs.sfm.model import SparseModel, save_model
from deblurgs.stages import report as stage

LOG = Log(quiet=True)
CAMERA = Camera(32, 24, 30.0, 30.0, 16.0, 12.0)


def picture(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(path, np.random.default_rng(seed).random((CAMERA.height, CAMERA.width, 3)).astype(np.float32))
    return path


def stored(folder: Path, names: list[str]) -> Capture:
    frames = [
        Frame(n, picture(folder / "frames" / f"{i}.png", i), CAMERA.width, CAMERA.height, None, 0.5)
        for i, n in enumerate(names)
    ]
    capture = Capture("images", frames)
    save_capture(capture, folder)
    return capture


def opened(folder: Path, **statuses: str) -> RunFolder:
    folder.mkdir(parents=True, exist_ok=True)
    stages = {name: {"status": status, "config": {}} for name, status in statuses.items()}
    write_json_atomic(
        folder / "manifest.json", {"format": 1, "stages": stages, "command": [], "versions": {}}
    )
    return RunFolder(folder, log=LOG, command=["deblurgs", "report"])


def single(folder: Path, frames: list[str]) -> None:
    write_json_atomic(
        folder / "renders" / "single.json",
        {"format": "deblurgs-single", "version": 1, "made_by": "network", "reason": "no overlap.", "frames": frames},
    )  # fmt: skip


def page(run: RunFolder) -> str:
    return stage.report(run, LOG).read_text(encoding="utf-8")


def candidates(run: RunFolder, capture: Capture) -> dict[str, Candidate]:
    return {c.name: c for c in stage._candidates(run, capture, None)}


def test_candidates_without_a_name_are_no_photos(tmp_path: Path) -> None:
    capture = stored(tmp_path, ["frame_000000.png", "frame_000004.png"])
    rows = [
        {"name": "frame_000000.png", "index": 0, "sharpness": 0.25},
        {"index": 2, "sharpness": 0.1},
        {"name": None},
        "odd",
    ]
    write_json_atomic(tmp_path / "triage.json", {"candidates": rows})
    with opened(tmp_path) as run:
        found = candidates(run, capture)
        assert "None" not in re.findall(r'class="file">([^<]*)<', page(run))
    assert list(found) == ["frame_000000.png", "frame_000004.png"]
    assert found["frame_000000.png"].sharpness == 0.25 and found["frame_000004.png"].sharpness == 0.5


def test_blur_probabilities_come_from_triage(tmp_path: Path) -> None:
    capture = stored(tmp_path, ["a.jpg", "b.jpg"])
    frames = [{"name": "a.jpg", "probability": 0.75}, {"name": "b.jpg", "probability": None}]
    write_json_atomic(tmp_path / "triage.json", {"candidates": [{"name": "a.jpg"}], "frames": frames})
    with opened(tmp_path) as run:
        found = candidates(run, capture)
        assert "blur 75 %" in page(run)
    assert (found["a.jpg"].blur_probability, found["b.jpg"].blur_probability) == (0.75, None)


@pytest.mark.parametrize("status", ["running", "interrupted", "outdated", "failed"])
def test_an_unfinished_run_has_a_report_without_a_scene(tmp_path: Path, status: str) -> None:
    capture = stored(tmp_path, ["a.jpg", "b.jpg"])
    (tmp_path / "sfm").mkdir()
    save_model(
        SparseModel(
            ["a.jpg"], [CAMERA], [capture.frames[0].path], np.eye(4)[None], np.ones((1, 3)),
            np.zeros((1, 3), np.uint8), np.ones(1, np.float32), [np.zeros(1, int)], [("b.jpg", "too few matches")],
        ),
        tmp_path / "sfm",
    )  # fmt: skip
    # A scene of an earlier training lies there, and what was thought of its frames.
    write_json_atomic(tmp_path / "trust.json", {"trust": 0.87, "num_reliable": 2})
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "scene.safetensors").write_bytes(b"of an earlier training")
    with opened(tmp_path, capture="done", sfm="done", train=status) as run:
        html = page(run)
    assert "<iframe" not in html and "1 of 2" in html and "too few matches" in html
    assert "87 %" not in html and "2 of 0" not in html


def test_frames_restored_singly_are_shown_as_the_networks(tmp_path: Path) -> None:
    stored(tmp_path, ["a.jpg", "a.png", "c.jpg"])
    for stem in ("a_jpg", "a_png", "c"):
        picture(tmp_path / "renders" / "sharp" / f"{stem}.png")
    single(tmp_path, ["a.jpg", "a.png", "c.jpg"])
    old = {"trust": 0.87, "num_reliable": 3, "frames": [{"name": "a.jpg", "trust": 0.87, "path_px": 9.0}]}
    write_json_atomic(tmp_path / "trust.json", old)
    states = {"capture": "done", "sfm": "failed", "train": "outdated", "render": "outdated", "single": "done"}
    with opened(tmp_path, **states) as run:
        html = page(run)
    assert html.count('"badge bad">network alone') == 3 and html.count('class="frame"') == 3
    assert "no overlap." in html and "87 %" not in html and "9 px of blur" not in html


def test_a_rendered_scene_takes_over_from_single_frames(tmp_path: Path) -> None:
    stored(tmp_path, ["a.jpg"])
    picture(tmp_path / "renders" / "sharp" / "a.png")
    single(tmp_path, ["a.jpg"])
    with opened(tmp_path, capture="done", single="done", render="done") as run:
        assert "network alone" not in page(run)


def test_too_few_photos_have_a_report_from_the_pictures_alone(tmp_path: Path) -> None:
    picture(tmp_path / "renders" / "sharp" / "p0.png")
    single(tmp_path, ["p0.png", "gone.png", "../../p0.png"])
    with opened(tmp_path, capture="failed", single="done") as run:
        html = page(run)
    assert "p0.png" in html and "gone.png" not in html and "network alone" in html
    assert 'id="sheet"' not in html and "Before and after" not in html
    # Frames of an earlier source say nothing about these.
    stored(tmp_path, ["p0.png", "earlier.jpg"])
    with opened(tmp_path, capture="failed", single="done") as run:
        assert "earlier.jpg" not in page(run)


def test_a_folder_without_frames_is_one_clear_error(tmp_path: Path) -> None:
    with opened(tmp_path, capture="failed") as run, pytest.raises(UsageError, match="process"):
        stage.report(run, LOG)


def test_lost_frames_are_found_under_the_name_that_render_gave(tmp_path: Path) -> None:
    """a.png has no camera; a.jpg has one. Their pictures differ in more than their suffix."""
    capture = stored(tmp_path, ["a.jpg", "a.png"])
    for stem in ("a_jpg", "a_png"):
        picture(tmp_path / "renders" / "sharp" / f"{stem}.png")
    model = SparseModel(
        ["a.jpg"], [CAMERA], [capture.frames[0].path], np.eye(4)[None], np.ones((1, 3)),
        np.zeros((1, 3), np.uint8), np.ones(1, np.float32), [np.zeros(1, int)], [("a.png", "too few matches")],
    )  # fmt: skip
    trust = {"made_by_network": ["a.png"]}
    with opened(tmp_path, capture="done", sfm="done", render="done") as run:
        stems = stage._stems(run, model, trust)
        frames = stage._network_frames(run, capture, trust, stems)
    assert stems["a.jpg"] == "a_jpg" and [f.sharp.name for f in frames] == ["a_png.png"]
