"""Cameras that the user brings: COLMAP models and pose files."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sfm_rendered as rendered
from conftest import Capture
from PIL import Image

from deblurgs.errors import SfmError
from deblurgs.log import Log
from deblurgs.scene.frame import Frame
from deblurgs.sfm import colmap
from deblurgs.sfm.stage import read_given_poses, register_test, run_sfm


@pytest.fixture(scope="module")
def full_model(capture: Capture, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A COLMAP model of all twelve images, held-out ones included, as published data sets ship it."""
    work_dir = tmp_path_factory.mktemp("full") / "sfm"
    run_sfm([replace(f, split="train") for f in capture.frames], work_dir, log=Log(quiet=True))
    return work_dir / "sparse" / "0"


def test_only_training_poses_are_taken_and_all_points_kept(
    capture: Capture, full_model: Path, tmp_path: Path
) -> None:
    log = Log(quiet=True)
    model = run_sfm(capture.frames, tmp_path / "sfm", given_model=full_model, log=log)
    assert model.names == [capture.frames[i].name for i in capture.train] and not log.warnings
    whole = colmap.read_model(full_model)
    assert len(model.points) == whole.num_points3D()
    written = colmap.read_model(tmp_path / "sfm" / "sparse" / "0")
    assert sorted(colmap.poses(written)) == model.names
    report = json.loads((tmp_path / "sfm" / "sfm.json").read_text())
    assert report["given"] is True and report["registered"] == 10
    # The poses of held-out frames are in the same world, but only on request.
    held_out = [f for f in capture.frames if f.split == "test"]
    views = read_given_poses(full_model, held_out, tmp_path / "eval", log=log)
    joined = np.concatenate([model.camera_from_world, [views.camera_from_world[f.name] for f in held_out]])
    assert rendered.pose_errors(joined, capture.true[[*capture.train, 3, 8]])[0] < 0.5
    with pytest.raises(SfmError, match="no features"):
        register_test(tmp_path / "sfm", capture.frames, held_out, tmp_path / "register", log=log)


def test_text_models_and_resized_images_are_accepted(
    capture: Capture, full_model: Path, tmp_path: Path
) -> None:
    text = tmp_path / "text"
    text.mkdir()
    # COLMAP's text format ends a name at the first blank, so such names cannot be in it.
    model = colmap.read_model(full_model)
    colmap.renamed(
        model, {i: f"data/{m.name.replace(' ', '_')}" for i, m in model.images.items()}
    ).write_text(text)
    frames = []
    for frame in capture.frames:
        path = tmp_path / frame.name.replace(" ", "_").replace(".png", ".jpg")
        with Image.open(frame.path) as image:
            image.resize((160, 120), Image.Resampling.LANCZOS).save(path, quality=95)
        frames.append(Frame(path.name, path, 160, 120, split=frame.split))
    model = run_sfm(frames, tmp_path / "sfm", given_model=text, log=Log(quiet=True))
    assert model.num_frames == 10 and model.cameras[0].width == 160
    assert model.cameras[0].fx == pytest.approx(rendered.FOCAL / 2, rel=0.02)


def test_missing_frames_and_images_are_named(capture: Capture, full_model: Path, tmp_path: Path) -> None:
    extra = Frame("new.png", capture.frames[0].path, rendered.WIDTH, rendered.HEIGHT)
    log = Log(quiet=True)
    model = run_sfm([*capture.frames[2:], extra], tmp_path / "sfm", given_model=full_model, log=log)
    assert [n for n, _ in model.failed] == ["new.png"]
    assert any(capture.frames[0].name in w and capture.frames[1].name in w for w in log.warnings)
    # Held-out images are expected in the model and not worth a warning.
    assert not any(capture.frames[3].name in w for w in log.warnings)


def test_images_of_another_shape_are_refused(capture: Capture, full_model: Path, tmp_path: Path) -> None:
    turned = [replace(f, width=f.height, height=f.width) for f in capture.frames]
    with pytest.raises(SfmError, match="another aspect ratio"):
        run_sfm(turned, tmp_path / "sfm", given_model=full_model, log=Log(quiet=True))


@pytest.mark.parametrize("damage", ["absent", "empty folder", "truncated", "foreign names", "no points"])
def test_unusable_models_are_refused_by_name(
    damage: str, capture: Capture, full_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    frames = capture.frames
    if damage != "absent":
        folder.mkdir()
    if damage in ("truncated", "foreign names", "no points"):
        shutil.copytree(full_model, folder, dirs_exist_ok=True)
    if damage == "truncated":
        (folder / "images.bin").write_bytes((folder / "images.bin").read_bytes()[:200])
    if damage == "foreign names":
        frames = [replace(f, name=f"other{i}.png") for i, f in enumerate(frames)]
    if damage == "no points":
        model = colmap.read_model(full_model)
        model.delete_all_points2D_and_points3D()
        model.write(folder)
    with pytest.raises(SfmError) as caught:
        run_sfm(frames, tmp_path / "sfm", given_model=folder, log=Log(quiet=True))
    assert str(folder) in str(caught.value)


def poses_file(path: Path, capture: Capture, **changes: Any) -> Path:
    data = {
        "width": rendered.WIDTH,
        "height": rendered.HEIGHT,
        "fx": rendered.FOCAL,
        "fy": rendered.FOCAL,
        "cx": rendered.WIDTH / 2,
        "cy": rendered.HEIGHT / 2,
        "frames": {f.name: p.tolist() for f, p in zip(capture.frames, capture.true, strict=True)},
    }
    path.write_text(json.dumps({**data, **changes}))
    return path


def test_points_are_triangulated_for_given_poses(capture: Capture, tmp_path: Path) -> None:
    path = poses_file(tmp_path / "poses.json", capture)
    model = run_sfm(capture.frames, tmp_path / "sfm", given_poses=path, log=Log(quiet=True))
    assert np.allclose(model.camera_from_world, capture.true[capture.train], atol=1e-9)
    assert model.cameras[0].fx == rendered.FOCAL
    # The points lie on the planes that were rendered: the wall, the floor or the tilted board.
    x, y, z = model.points.T
    off = np.minimum(np.abs(z - 6), np.abs(y - 1.2))
    off = np.minimum(off, np.abs((x - 0.9) * 0.6 - (z - 3.5) * 0.8))
    assert len(off) > 300 and np.quantile(off, 0.9) < 0.1
    held_out = [f for f in capture.frames if f.split == "test"]
    views = register_test(tmp_path / "sfm", capture.frames, held_out, tmp_path / "eval", log=Log(quiet=True))
    found = np.array([views.camera_from_world[f.name] for f in held_out])
    assert np.abs(found - capture.true[[3, 8]]).max() < 0.03


def test_wrong_poses_yield_an_error(capture: Capture, tmp_path: Path) -> None:
    shuffled = np.random.default_rng(0).permutation(len(capture.true))
    listing = {f.name: capture.true[i].tolist() for f, i in zip(capture.frames, shuffled, strict=True)}
    path = poses_file(tmp_path / "poses.json", capture, frames=listing)
    with pytest.raises(SfmError, match="do not fit the images"):
        run_sfm(capture.frames, tmp_path / "sfm", given_poses=path, log=Log(quiet=True))


@pytest.mark.parametrize(
    ("pose", "said"),
    [
        ([[float("nan")] * 4] * 4, "finite"),
        ([[2, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]], "no rotation"),
        ([[1, 0], [0, 1]], "4x4"),
        ("text", "4x4"),
    ],
)
def test_broken_poses_are_named(pose: Any, said: str, capture: Capture, tmp_path: Path) -> None:
    listing = {f.name: p.tolist() for f, p in zip(capture.frames, capture.true, strict=True)}
    listing["img 05.png"] = pose
    path = poses_file(tmp_path / "poses.json", capture, frames=listing)
    with pytest.raises(SfmError) as caught:
        run_sfm(capture.frames, tmp_path / "sfm", given_poses=path, log=Log(quiet=True))
    assert said in str(caught.value) and "img 05.png" in str(caught.value)


def test_photos_in_subfolders_find_their_poses_though_two_cameras_number_alike(
    capture: Capture, full_model: Path, tmp_path: Path
) -> None:
    """Two cameras' folders with equal file names, as multi-camera projects have them; frames are named `a__0.png`."""
    model = colmap.read_model(full_model)
    name_of = {f.name: f"{'ab'[i % 2]}/{i // 2}.png" for i, f in enumerate(capture.frames)}
    nested = tmp_path / "nested"
    nested.mkdir()
    colmap.renamed(model, {i: name_of[m.name] for i, m in model.images.items()}).write_binary(nested)
    frames = [replace(f, name=name_of[f.name].replace("/", "__")) for f in capture.frames]
    log = Log(quiet=True)
    found = run_sfm(frames, tmp_path / "sfm", given_model=nested, log=log)
    assert found.names == [frames[i].name for i in capture.train] and not found.failed and not log.warnings
    assert rendered.pose_errors(found.camera_from_world, capture.true[capture.train])[0] < 0.5


def test_every_view_may_have_its_own_lens(capture: Capture, tmp_path: Path) -> None:
    """Some photos are the middle of what a longer lens would have seen: equal in size, other in focal length."""
    frames, views, longer = [], {}, 1.25
    (tmp_path / "photos").mkdir()
    for i, (frame, pose) in enumerate(zip(capture.frames, capture.true, strict=True)):
        path, focal = frame.path, rendered.FOCAL
        if i % 3 == 1:
            with Image.open(path) as image:
                w, h = image.size
                box = tuple(0.5 * s * (1 + sign / longer) for sign in (-1, 1) for s in (w, h))
                path, focal = tmp_path / "photos" / f"{i}.png", focal * longer
                image.resize((w, h), Image.Resampling.BICUBIC, box=box).save(path)
        frames.append(replace(frame, path=path))
        params = [focal, focal, rendered.WIDTH / 2, rendered.HEIGHT / 2]
        views[frame.name] = {
            "model": "PINHOLE", "width": rendered.WIDTH, "height": rendered.HEIGHT, "params": params,
            "camera_from_world": pose.tolist(),
        }  # fmt: skip
    path = tmp_path / "poses.json"
    path.write_text(json.dumps({"views": views}))
    model = run_sfm(frames, tmp_path / "sfm", given_poses=path, log=Log(quiet=True))
    assert np.allclose(model.camera_from_world, capture.true[capture.train], atol=1e-9)
    assert [round(c.fx / rendered.FOCAL, 4) for c in model.cameras] == [
        longer if i % 3 == 1 else 1.0 for i in capture.train
    ]
    x, y, z = model.points.T
    off = np.minimum(np.abs(z - 6), np.abs(y - 1.2))
    off = np.minimum(off, np.abs((x - 0.9) * 0.6 - (z - 3.5) * 0.8))
    assert len(off) > 300 and np.quantile(off, 0.9) < 0.1
    for change in ({"model": "NO_SUCH"}, {"params": [1.0]}, {"params": [float("nan")] * 4}, {"width": -1}):
        path.write_text(json.dumps({"views": {**views, frames[0].name: views[frames[0].name] | change}}))
        with pytest.raises(SfmError, match="poses file"):
            run_sfm(frames, tmp_path / "bad", given_poses=path, log=Log(quiet=True))


@pytest.mark.slow
def test_two_devices_of_one_size_get_a_lens_each(capture: Capture, tmp_path: Path) -> None:
    frames = [
        replace(f, camera="Maker Two" if i % 2 else "Maker One", split="train")
        for i, f in enumerate(capture.frames)
    ]
    run_sfm(frames, tmp_path / "sfm", log=Log(quiet=True))
    written = colmap.read_model(tmp_path / "sfm" / "sparse" / "0")
    by_name = {image.name: image.camera_id for image in written.images.values()}
    ones = {by_name[f.name] for f in frames if f.camera == "Maker One"}
    twos = {by_name[f.name] for f in frames if f.camera == "Maker Two"}
    assert len(ones) == len(twos) == 1 and ones != twos
