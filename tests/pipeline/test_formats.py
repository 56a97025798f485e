"""Exports and the report from a finished run folder: every format arrives, in one world, and overwrites nothing."""

import dataclasses
import json
import os
import shutil
import sys
import urllib.request
from pathlib import Path
from typing import get_args

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from small_run import CAMERA, make_run, open_run

from deblurgs.capture.dataset import load_capture
from deblurgs.capture.detect import detect_source
from deblurgs.capture.image import write_png
from deblurgs.cli import main
from deblurgs.config import TrainConfig
from deblurgs.errors import UsageError
from deblurgs.export.camera_path import read_camera_path
from deblurgs.export.colmap import read_colmap
from deblurgs.export.depth import read_depth
from deblurgs.export.ply import read_ply
from deblurgs.export.spz import read_spz
from deblurgs.export.transforms import read_transforms
from deblurgs.export.video import available_codec
from deblurgs.log import Log
from deblurgs.raster.api import rasterize
from deblurgs.render.render import sharp_view
from deblurgs.run import RunFolder
from deblurgs.scene.camera import Camera
from deblurgs.sfm.model import load_model
from deblurgs.stages import formats, observe, resume
from deblurgs.stages.data import training_set
from deblurgs.stages.formats import DEFAULT_NAMES, WRITERS, Format, Video, export
from deblurgs.stages.observe import Observers
from deblurgs.stages.render import camera_path_video, render, unique_stems
from deblurgs.stages.report import report
from deblurgs.stages.request import save_request
from deblurgs.stages.splats import FinishedScene, gaussians_from_arrays, load_finished
from deblurgs.stages.view import _latest_scene, run_content

LOG = Log(quiet=True)
NAMES = ["<script>alert(1)<script>.jpg", "b & c.jpg", "d.jpg", "e.jpg"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    with make_run(folder, NAMES) as run:
        render(run, LOG)
    return folder


def test_every_format_has_a_writer_and_a_place() -> None:
    assert set(WRITERS) == set(get_args(Format)) == {*DEFAULT_NAMES, "mp4"}


@pytest.mark.parametrize("kind", ["ply", "colmap"])
def test_a_run_without_a_scene_leaves_no_empty_folder(tmp_path: Path, kind: Format) -> None:
    with RunFolder(tmp_path / "run") as run, pytest.raises(UsageError):
        export(run, kind, LOG, tmp_path / "new" / "scene")
    assert not (tmp_path / "new").exists() and not (tmp_path / "run" / "export").exists()


def test_the_landmarks_are_points_of_the_scene_frame(folder: Path) -> None:
    with open_run(folder) as run:
        data = training_set(load_model(run.sfm), load_capture(run.path))
    assert data.landmarks is not None and len(data.landmarks) == data.num_frames
    for seen in data.landmarks:
        assert torch.cdist(seen, data.points).min(dim=1).values.max() < 1e-3


def test_all_formats_describe_the_world_of_sfm(folder: Path) -> None:
    with open_run(folder) as run:
        for kind in get_args(Format):
            export(run, kind, LOG, overwrite=True)
        out, poses = run.export, load_model(run.sfm).camera_from_world
    assert len(read_ply(out / "scene.ply")) == len(read_spz(out / "scene.spz")) == 40
    np.testing.assert_allclose(
        read_ply(out / "scene.ply").means, read_spz(out / "scene.spz").means, atol=1e-4
    )
    np.testing.assert_allclose(read_ply(out / "scene.ply").means, load_model(run.sfm).points, atol=1e-5)
    np.testing.assert_allclose(
        read_colmap(out / "colmap" / "sparse" / "0").camera_from_world, poses, atol=1e-6
    )
    for image, pose in zip(read_transforms(out / "nerfstudio" / "transforms.json"), poses, strict=True):
        np.testing.assert_allclose(image.camera_from_world, pose, atol=1e-6)
        assert (out / "nerfstudio" / image.file_path).is_file()
    path = read_camera_path(out / "camera_path.json")
    np.testing.assert_allclose(path.camera_from_world[:, 2, :3] @ [0, 0, 1], 1, atol=1e-5)
    factor = json.loads((out / "depth" / "depth.json").read_text())["png_per_world_unit"]
    depth = read_depth(next((out / "depth").glob("*.png")), factor)
    assert depth.shape == (CAMERA.height, CAMERA.width) and 2.5 < np.median(depth[depth > 0]) < 5.5


@pytest.mark.skipif(available_codec() is None, reason="no video encoder")
@pytest.mark.parametrize("video", get_args(Video))
def test_every_video_is_readable(folder: Path, tmp_path: Path, video: Video) -> None:
    import av

    copy = tmp_path / "run"
    shutil.copytree(folder, copy)
    for where, grey in (("frames", 0.2), ("renders/sharp", 0.8)):
        for path in (copy / where).glob("*.png"):
            write_png(path, np.full((CAMERA.height, CAMERA.width, 3), grey, np.float32))
    with open_run(copy) as run:
        target = export(run, "mp4", LOG, tmp_path / "a.mp4", video=video, slowdown=2, fps=10)
    with av.open(str(target)) as container:
        frames = [frame.to_ndarray(format="gray").astype(float) for frame in container.decode(video=0)]
    assert len(frames) == {"slow-motion": 6, "stabilised": 12}.get(video, 3)
    assert frames[0].shape == (42, 126 if video == "side-by-side" else 62)
    # Halves of the first and of the middle picture: the photo is dark, the sharp frame light.
    light = [bool(half.mean() > 110) for frame in frames[:2] for half in np.array_split(frame, 2, axis=1)]
    if video in ("slow-motion", "stabilised"):
        assert np.abs(frames[0] - frames[1]).mean() > 0.5, "the camera moves"
    else:
        assert light == {
            "sharp": [True] * 4, "side-by-side": [False, True] * 2, "wipe": [False, False, True, True],
        }[video]  # fmt: skip


def test_exported_cameras_are_a_source_again(folder: Path, tmp_path: Path) -> None:
    """The readers of sources were written for the files of other programs."""
    with open_run(folder) as run:
        model = load_model(run.sfm)
        file = export(run, "transforms", LOG, tmp_path / "nerfstudio") / "transforms.json"
        project = export(run, "colmap", LOG, tmp_path / "colmap")
    found = detect_source(file)
    assert found.kind == "transforms" and len(found.photos) == len(found.views) == 3
    by_stem = dict(zip(unique_stems(model.names), model.camera_from_world, strict=True))
    for name, view in found.views.items():
        assert (view.width, view.height, *view.params[:4]) == (
            CAMERA.width, CAMERA.height, CAMERA.fx, CAMERA.fy, CAMERA.cx, CAMERA.cy,
        )  # fmt: skip
        np.testing.assert_allclose(view.camera_from_world, by_stem[Path(name).stem], atol=1e-6)
    again = detect_source(project)
    assert again.kind == "colmap" and again.given_model == project / "sparse" / "0" and len(again.photos) == 3


def mixed_cameras(monkeypatch: pytest.MonkeyPatch) -> list[Camera]:
    """Give the first frame of the run a small upright picture of another lens; the other two keep theirs."""
    odd = Camera(31, 45, 70.0, 70.0, 15.5, 22.5)

    def mixed(run: RunFolder, log: Log) -> FinishedScene:
        finished = load_finished(run, log)
        cameras = [odd, *finished.model.cameras[1:]]
        return dataclasses.replace(finished, model=dataclasses.replace(finished.model, cameras=cameras))

    monkeypatch.setattr(formats, "load_finished", mixed)
    return [odd, CAMERA, CAMERA]


@pytest.mark.skipif(available_codec() is None, reason="no video encoder")
def test_every_exposure_of_slow_motion_is_seen_through_its_own_lens(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cameras = mixed_cameras(monkeypatch)
    with open_run(folder) as run:
        film = export(run, "mp4", LOG, tmp_path / "a.mp4", video="slow-motion", slowdown=1)
        scene = load_finished(run, LOG).scene
    shown = [f[: CAMERA.height, : CAMERA.width] for f in iio.imiter(film, plugin="pyav")]
    assert len(shown) == 3
    for i, (frame, camera) in enumerate(zip(shown, cameras, strict=True)):
        pose = scene.trajectory.all_at(0.5)[i].detach()
        expected = sharp_view(scene, pose, camera.fitted(CAMERA.width, CAMERA.height)).numpy()
        assert np.abs(frame / 255.0 - expected).mean() < 0.02, i
    other = sharp_view(scene, scene.trajectory.all_at(0.5)[0].detach(), CAMERA).numpy()
    assert np.abs(shown[0] / 255.0 - other).mean() > 0.03, "another lens would show"


@pytest.mark.skipif(available_codec() is None, reason="no video encoder")
@pytest.mark.parametrize("video", ["stabilised", "sharp", "side-by-side", "wipe"])
def test_a_film_has_the_size_of_most_frames(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, video: Video
) -> None:
    copy, (odd, *_) = tmp_path / "run", mixed_cameras(monkeypatch)
    shutil.copytree(folder, copy)
    log = Log(quiet=True)
    with open_run(copy) as run:
        for path in (run.sharp / f"{unique_stems(NAMES)[0]}.png", run.frames / "000000.png"):
            write_png(path, np.zeros((odd.height, odd.width, 3), np.float32))
        film = export(run, "mp4", log, tmp_path / "a.mp4", video=video)
        path = export(run, "camera-path", log, tmp_path / "a.json")
    frames = list(iio.imiter(film, plugin="pyav"))
    assert frames[0].shape[:2] == (42, 126 if video == "side-by-side" else 62)
    assert len(frames) == (12 if video == "stabilised" else 2)
    assert len(log.warnings) == (0 if video == "stabilised" else 1), log.warnings
    lens = read_camera_path(path).cameras[0]
    assert (lens.width, lens.height) == (CAMERA.width, CAMERA.height)
    assert lens.fy == pytest.approx(CAMERA.fy)


def test_a_camera_path_is_rendered(folder: Path) -> None:
    with open_run(folder) as run:
        source = export(run, "camera-path", LOG, folder / "calm.json", fps=1, overwrite=True)
        splat_file = export(run, "ply", LOG, folder / "calm.ply", overwrite=True)
        target = camera_path_video(run, source, LOG, overwrite=True)
    assert target == folder / "renders" / "calm.mp4"
    # Its pictures against ours from the same places, in the world of SfM, with the exported splats.
    path, arrays = read_camera_path(source), read_ply(splat_file)
    g = gaussians_from_arrays(arrays)
    shown = [frame[: CAMERA.height, : CAMERA.width] for frame in iio.imiter(target, plugin="pyav")]
    assert len(shown) == len(path.cameras) > 1
    for frame, pose, camera in zip(shown, path.camera_from_world, path.cameras, strict=True):
        with torch.no_grad():
            expected = rasterize(
                g.means, g.quats, g.scales, g.opacities, g.sh0, g.shN, torch.from_numpy(pose).float(), camera,
                antialiased=arrays.antialiased,
            ).image  # fmt: skip
        difference = np.abs(frame / 255.0 - expected.clamp(0, 1).numpy())
        assert difference.mean() < 0.02, difference.mean()


def test_what_exists_is_not_overwritten(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.spz").write_bytes(b"mine")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine").touch()
    with open_run(folder) as run:
        with pytest.raises(UsageError, match="--overwrite"):
            export(run, "spz", LOG, tmp_path / "a.spz")
        with pytest.raises(UsageError, match="--overwrite"):
            export(run, "colmap", LOG, tmp_path / "b")
        with pytest.raises(UsageError, match="is a file"):
            export(run, "colmap", LOG, tmp_path / "a.spz", overwrite=True)
    assert (tmp_path / "a.spz").read_bytes() == b"mine"


def test_the_report_of_a_run_escapes_names_and_gives_reasons(folder: Path) -> None:
    with open_run(folder) as run:
        page = report(run, LOG).read_text(encoding="utf-8")
    assert "<script>alert" not in page and "&lt;script&gt;alert(1)&lt;script&gt;.jpg" in page
    assert "too few matches" in page and "cannot be read" in page
    assert "deblurgs run &#x27;my clip.mp4&#x27;" in page
    assert page.count('<polyline points="') >= 3 * 10


def test_a_run_without_a_scene_has_a_report_too(tmp_path: Path) -> None:
    with make_run(tmp_path / "run", ["a.jpg", "b.jpg"]) as run:
        (run.checkpoint / "scene.safetensors").unlink()
        (run.sharp / "a.png").write_bytes((run.frames / "000000.png").read_bytes())
        run.trust_json.write_text(json.dumps({"made_by_network": ["a.jpg"]}))
        page = report(run, LOG).read_text(encoding="utf-8")
    assert "network alone" in page and "<iframe" not in page


def test_the_viewer_takes_the_pictures_of_a_copied_run_whatever_their_times(
    folder: Path, tmp_path: Path
) -> None:
    """A copy through a zip file or another machine writes the scene last as well as first."""
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    for path in (copy / "renders").rglob("*.png"):
        os.utime(path, (0, 0))
    scene = _latest_scene(copy)
    frames = run_content(copy, scene, LOG).frames
    assert frames is not None
    for kind in ("sharp", "support", "reblur"):
        assert frames.stored(kind, 0) is not None, kind
    # Pictures of an earlier training are older than the scene and their stage is outdated.
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["stages"]["render"]["status"] = "outdated"
    (copy / "manifest.json").write_text(json.dumps(manifest))
    frames = run_content(copy, scene, LOG).frames
    assert frames is not None and frames.stored("sharp", 0) is None


def test_the_viewer_shows_an_interrupted_training_of_a_copied_run(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    scene, partial = _latest_scene(copy), copy / "checkpoint" / "interrupted.safetensors"
    shutil.copy(scene, partial)
    os.utime(partial, (0, 0))
    assert _latest_scene(copy) == scene  # left over: the training has finished since
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["stages"]["train"]["status"] = "interrupted"
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert _latest_scene(copy) == partial


def test_training_without_compiled_kernels_is_refused_before_it_begins(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from deblurgs.raster import backend, native

    def rendered(*_: object) -> None:
        raise AssertionError("the slow reference would need minutes and gigabytes for a picture")

    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    monkeypatch.setattr(native, "load", lambda: (None, "the compiled library is missing"))
    monkeypatch.setattr(backend, "_fastest", rendered)
    before = (copy / "checkpoint" / "scene.safetensors").read_bytes()
    assert main(["train", str(copy), "--overwrite", "--device", "cpu"]) == 2
    said = " ".join(capfd.readouterr().err.split())
    assert "training needs the compiled kernels: the compiled library is missing" in said and "doctor" in said
    assert (copy / "checkpoint" / "scene.safetensors").read_bytes() == before


def test_resume_speaks_json(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A program that reads the events of `run --json` goes on reading after an interruption."""
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    with open_run(copy) as run:
        save_request(run)  # which asks for nothing more: frames and cameras are there
    assert main(["resume", str(copy), "--json"]) == 0
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert all("event" in line for line in lines)
    assert lines[-1]["event"] == "result" and lines[-1]["text"] == str(copy), lines


def test_resume_can_be_watched_as_run_can(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    with open_run(copy) as run:
        save_request(run, preset_name="fast", train=TrainConfig())
    seen: list[str] = []

    def trained(*_: object, observers: Observers, **__: object) -> None:
        seen.extend(type(observer).__name__ for observer in observers.active)
        address = next(
            word for word in capfd.readouterr().err.split() if word.startswith("http://127.0.0.1:")
        )
        with urllib.request.urlopen(address, timeout=20) as page:
            assert page.status == 200

    monkeypatch.setattr(resume, "train", trained)
    monkeypatch.setattr(observe, "find_spec", lambda _: object())
    monkeypatch.setattr(observe, "TensorBoardLog", FakeMonitor)
    asked = ["resume", str(copy), "--viewer", "--viewer-port", "0", "--monitor", "tensorboard"]
    assert main(asked) == 0
    assert sorted(seen) == ["FakeMonitor", "LiveView"] and FakeMonitor.ended
    assert (copy / "report.html").is_file()


class FakeMonitor:
    """Stands for one of an extra that may not be installed."""

    ended = False

    def __init__(self, run: RunFolder) -> None:
        self.run = run

    def finished(self) -> None:
        FakeMonitor.ended = True


@pytest.mark.parametrize("command", ["run", "train", "resume"])
def test_a_monitor_that_is_not_installed_is_told_before_the_work(
    command: str,
    folder: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    place = tmp_path / "run"
    source = folder / "frames" if command == "run" else place
    if command != "run":
        shutil.copytree(folder, place)
    before = sorted(place.rglob("*"))
    output = ["--output", str(place)] if command == "run" else []
    assert main([command, str(source), *output, "--monitor", "rerun"]) == 2
    assert "--monitor rerun needs an extra that is not installed" in " ".join(capfd.readouterr().err.split())
    assert sorted(place.rglob("*")) == before
