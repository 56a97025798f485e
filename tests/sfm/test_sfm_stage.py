"""Structure from motion end to end, through the child process, on rendered captures with known cameras."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sfm_rendered as rendered
from conftest import Capture
from PIL import Image

from deblurgs.errors import SfmError
from deblurgs.log import Log
from deblurgs.scene.frame import Frame
from deblurgs.sfm import jobs
from deblurgs.sfm.model import SparseModel, load_model
from deblurgs.sfm.stage import register_test, run_sfm, undistort_like

RAYS = rendered.pinhole_rays()


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def noisy(image: np.ndarray, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 2, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def test_cameras_of_a_good_capture_are_found(
    capture: Capture, reconstructed: tuple[Path, SparseModel]
) -> None:
    work_dir, model = reconstructed
    rotation_deg, centre_share = rendered.pose_errors(model.camera_from_world, capture.true[capture.train])
    assert rotation_deg < 0.5 and centre_share < 0.01
    assert model.names == [capture.frames[i].name for i in capture.train]
    assert model.image_paths == [capture.frames[i].path for i in capture.train]
    assert model.cameras[0].fx == pytest.approx(rendered.FOCAL, rel=0.02)
    assert (model.cameras[0].width, model.cameras[0].height) == (rendered.WIDTH, rendered.HEIGHT)
    assert all(len(o) > 50 and (model.depths(i) > 0).all() for i, o in enumerate(model.observations))
    report = json.loads((work_dir / "sfm.json").read_text())
    assert report["registered"] == report["total"] == 10 and report["given"] is False
    assert report["undistorted_frames"] == 0 and report["error_px"] < 0.5
    assert report["median_triangulation_deg"] > 5 and report["tried"][0]["kept"]
    assert (work_dir / "sparse" / "0" / "images.bin").is_file() and not (work_dir / "work").exists()
    again = load_model(work_dir)
    assert again.names == model.names and (again.points == model.points).all()


def test_points_project_where_they_were_seen(reconstructed: tuple[Path, SparseModel]) -> None:
    _, model = reconstructed
    camera = model.cameras[4]
    x = model.points[model.observations[4]] @ model.camera_from_world[4, :3, :3].T
    x = x + model.camera_from_world[4, :3, 3]
    pixel = x[:, :2] / x[:, 2:] * [camera.fx, camera.fy] + [camera.cx, camera.cy]
    assert (pixel > 0).all() and (pixel < [camera.width, camera.height]).all()
    # The colour under the projection is the colour of the point, so pixel centres and axes are right.
    image = np.asarray(Image.open(model.image_paths[4]))
    shown = image[pixel[:, 1].astype(int), pixel[:, 0].astype(int)].astype(float)
    assert np.median(np.abs(shown - model.colors[model.observations[4]])) < 12


def test_held_out_images_are_registered_without_touching_the_model(
    capture: Capture, reconstructed: tuple[Path, SparseModel], tmp_path: Path
) -> None:
    work_dir, model = reconstructed
    before = hashes(work_dir)
    held_out = [f for f in capture.frames if f.split == "test"]
    stranger = rendered.save([rendered.render(capture.true[2], RAYS, seed=9)], tmp_path / "other", "other")
    views = register_test(
        work_dir, capture.frames, [*held_out, *stranger], tmp_path / "eval", log=Log(quiet=True)
    )
    assert hashes(work_dir) == before
    assert set(views.camera_from_world) == {f.name for f in held_out}
    assert stranger[0].name in views.failed
    joined = np.concatenate([model.camera_from_world, [views.camera_from_world[f.name] for f in held_out]])
    rotation_deg, centre_share = rendered.pose_errors(joined, capture.true[[*capture.train, 3, 8]])
    assert rotation_deg < 0.5 and centre_share < 0.01
    assert views.cameras[held_out[0].name] == model.cameras[0]


def test_held_out_images_never_reach_sfm(
    capture: Capture, reconstructed: tuple[Path, SparseModel], tmp_path: Path
) -> None:
    """Deleting the held-out files first changes nothing: they are not even opened.

    Held to 1e-3: one held-out frame that takes part moves the cameras by 0.05 and more and adds 8 % of points. Two runs
    on the same photos were seen to differ once, by 5e-5, with every seed fixed, and not in a bit in several hundred
    others. The cause is not known.
    """
    work_dir, model = reconstructed
    frames = [
        f if f.split == "train" else replace(f, path=tmp_path / "gone" / f.name) for f in capture.frames
    ]
    again = run_sfm(frames, tmp_path / "sfm", log=Log(quiet=True))
    assert again.names == model.names
    np.testing.assert_allclose(again.camera_from_world, model.camera_from_world, rtol=0, atol=1e-3)
    assert len(again.points) == pytest.approx(len(model.points), rel=0.01)
    text = b"".join(p.read_bytes() for p in (work_dir / "sparse").rglob("*.bin"))
    assert all(f.name.encode() not in text for f in capture.frames if f.split == "test")


def test_known_distortion_is_found_and_removed(tmp_path: Path) -> None:
    k = 0.15
    poses = rendered.arc(10)
    rays = rendered.distorted_rays(k)
    frames = rendered.save([rendered.render(p, rays) for p in poses], tmp_path / "in")
    work_dir = tmp_path / "sfm"
    model = run_sfm(frames, work_dir, log=Log(quiet=True))
    report = json.loads((work_dir / "sfm.json").read_text())
    assert report["distortion"]["kept"] and report["distortion"]["k"][0] == pytest.approx(k, abs=0.03)
    assert report["undistorted_frames"] == model.num_frames == 10
    camera = model.cameras[5]
    assert model.image_paths[5] == work_dir / "images" / "img 05.png"
    # Against the same view rendered by the pinhole camera that is claimed.
    x, y = np.meshgrid(np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5)
    ideal_rays = np.stack(
        [(x - camera.cx) / camera.fx, (y - camera.cy) / camera.fy, np.ones_like(x)], axis=-1
    )
    ideal = rendered.render(poses[5], ideal_rays).astype(float)
    undistorted = np.asarray(Image.open(model.image_paths[5])).astype(float)
    original = np.asarray(Image.open(frames[5].path)).astype(float)

    def error(image: np.ndarray) -> float:
        return float(np.sqrt(((image - ideal) ** 2).mean()))

    assert error(undistorted) < 0.6 * error(original)
    paths = undistort_like(work_dir, frames[:2], tmp_path / "twins", log=Log(quiet=True))
    assert paths[frames[0].name].read_bytes() == model.image_paths[0].read_bytes()


def test_mixed_sizes_get_their_own_cameras(capture: Capture, tmp_path: Path) -> None:
    frames = []
    for i, frame in enumerate(capture.frames):
        if i % 2:
            path = tmp_path / frame.name
            with Image.open(frame.path) as image:
                image.resize((256, 192), Image.Resampling.LANCZOS).save(path)
            frame = Frame(frame.name, path, 256, 192)
        frames.append(replace(frame, split="train"))
    model = run_sfm(frames, tmp_path / "sfm", log=Log(quiet=True))
    assert model.num_frames == 12 and not model.failed
    assert model.cameras[0].fx == pytest.approx(rendered.FOCAL, rel=0.04)
    assert model.cameras[1].fx == pytest.approx(rendered.FOCAL * 0.8, rel=0.04)
    assert rendered.pose_errors(model.camera_from_world, capture.true)[0] < 1.0


def test_an_unreadable_and_a_blank_image_are_left_out_with_a_warning(
    capture: Capture, tmp_path: Path
) -> None:
    corrupt, blank = tmp_path / "corrupt.png", tmp_path / "blank.png"
    corrupt.write_bytes(capture.frames[0].path.read_bytes()[:300])
    Image.new("RGB", (320, 240), (90, 90, 90)).save(blank)
    frames = [*capture.frames, *(Frame(p.name, p, 320, 240) for p in (corrupt, blank))]
    log = Log(quiet=True)
    model = run_sfm(frames, tmp_path / "sfm", log=log)
    reasons = dict(model.failed)
    assert model.num_frames == 10 and set(reasons) == {"corrupt.png", "blank.png"}
    assert "features" in reasons["blank.png"]
    assert any("corrupt.png" in w and "blank.png" in w for w in log.warnings)


def test_the_larger_of_two_scenes_is_used_with_a_warning(capture: Capture, tmp_path: Path) -> None:
    other = [rendered.render(p, RAYS, seed=5) for p in rendered.arc(8)[2:6]]
    frames = [*capture.frames, *rendered.save(other, tmp_path / "other", "other")]
    log = Log(quiet=True)
    model = run_sfm(frames, tmp_path / "sfm", log=log)
    assert model.names == [capture.frames[i].name for i in capture.train]
    assert len(model.failed) == 4 and "separate model of 4 frames" in model.failed[0][1]
    assert any("disconnected models" in w and "10 frames" in w for w in log.warnings)


def test_a_second_model_of_frames_that_the_first_has_too_is_no_news() -> None:
    assert jobs._warnings(16, 16, [], [2]) == []
    said = jobs._warnings(10, 14, [("a.png", "separate model of 4 frames")], [4])
    assert any("2 disconnected models" in w and "10 frames" in w for w in said)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        pytest.param(
            [np.full((240, 320, 3), 128, np.uint8)] * 5,
            ["no features", "5 of 5 images have 0 keypoints"],
            id="blank",
        ),
        pytest.param(
            [noisy(rendered.render(rendered.arc(3)[1], RAYS), i) for i in range(5)],
            ["no parallax", "camera did not move"],
            id="identical",
        ),
        pytest.param(
            [noisy(rendered.render(p, RAYS), i) for i, p in enumerate(rendered.turns(6))],
            ["no parallax", "only turned", "triangulation angle"],
            id="pure rotation",
        ),
        pytest.param(
            [rendered.render(rendered.arc(3)[1], RAYS, seed=10 + i) for i in range(5)],
            ["disconnected"],
            id="unrelated",
        ),
        pytest.param([rendered.render(p, RAYS) for p in rendered.arc(2)], ["Too few frames", "2"], id="two"),
    ],
)
def test_failures_are_named(images: list[np.ndarray], said: list[str], tmp_path: Path) -> None:
    frames = rendered.save(images, tmp_path / "in")
    with pytest.raises(SfmError) as caught:
        run_sfm(frames, tmp_path / "sfm", log=Log(quiet=True))
    assert all(s in str(caught.value) for s in said), str(caught.value)
    assert not (tmp_path / "sfm" / "sfm.json").exists()


def test_real_blur_of_the_rendered_desk(shared_data: Path, tmp_path: Path) -> None:
    """Half of synth_desk's blurred frames (median blur 11 px) against its exact mid-exposure poses."""
    desk = shared_data / "synth_desk"
    if not desk.is_dir():
        pytest.skip(f"{desk} is absent")
    cameras = json.loads((desk / "cameras.json").read_text())
    frames = [Frame(p.name, p, 480, 320) for p in sorted((desk / "images").iterdir())[::2]]
    model = run_sfm(frames, tmp_path / "sfm", log=Log(quiet=True))
    assert model.num_frames >= 13
    truth = {f["name"]: np.linalg.inv(np.array(f["c2w"])) for f in cameras["frames"]}
    true = np.array([truth[n] for n in model.names])
    rotation_deg, centre_share = rendered.pose_errors(model.camera_from_world, true)
    assert rotation_deg < 4.0 and centre_share < 0.06
    assert model.cameras[0].fx == pytest.approx(cameras["fl_x"], rel=0.06)


@pytest.mark.parametrize("k", [0.0, 0.15])
def test_transparent_parts_give_no_features_and_their_masks_follow_the_lens(k: float, tmp_path: Path) -> None:
    """Rubbish of the same kind in every frame, at the same place: features there would hold the camera still."""
    rays = rendered.distorted_rays(k) if k else RAYS
    poses = rendered.arc(8)
    sticker = rendered.texture(7)[:90, :120].astype(np.uint8)
    images = [rendered.render(p, rays) for p in poses]
    for image in images:
        image[40:130, 60:180] = sticker
    frames = rendered.save(images, tmp_path / "in")
    opaque = np.full((240, 320), 255, np.uint8)
    opaque[40:130, 60:180] = 0
    masks = {}
    for i, frame in enumerate(frames):
        masks[frame.name] = tmp_path / f"mask{i}.png"
        Image.fromarray(opaque).save(masks[frame.name])
    model = run_sfm(frames, tmp_path / "sfm", masks=masks, log=Log(quiet=True))
    assert model.num_frames == 8
    rotation_deg, centre_share = rendered.pose_errors(model.camera_from_world, np.array(poses))
    assert rotation_deg < 1.0 and centre_share < 0.03
    assert set(model.masks) == {f.name for f in frames}
    for f, frame in enumerate(frames):
        mask = np.asarray(Image.open(model.masks[frame.name])) > 0
        shown = np.asarray(Image.open(model.image_paths[f]))
        assert mask.shape == shown.shape[:2]
        assert (
            (model.image_paths[f] == frame.path)
            == (k == 0.0)
            == (model.masks[frame.name] == masks[frame.name])
        )
        x = np.c_[model.points[model.observations[f]], np.ones(len(model.observations[f]))]
        x = (x @ model.camera_from_world[f].T)[:, :3]
        c = model.cameras[f]
        px = (x[:, :2] / x[:, 2:] * [c.fx, c.fy] + [c.cx, c.cy]).astype(int).clip(0, [319, 239])
        assert mask[px[:, 1], px[:, 0]].mean() > 0.98
        assert mask.mean() > 0.7 and not mask[85, 120]
