"""Bundle adjustment of a rolling shutter on simulated clips with known truth."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rolling_scene
import sfm_rendered as rendered
import torch

from deblurgs.log import Log
from deblurgs.sfm import colmap
from deblurgs.sfm.rolling import refine as refining
from deblurgs.sfm.rolling.path import windows
from deblurgs.sfm.rolling.problem import linearised, residuals
from deblurgs.sfm.rolling.refine import refine
from deblurgs.sfm.rolling.tracks import Refined
from deblurgs.sfm.stage import RollingShutter, run_sfm


def test_the_path_goes_through_all_poses_and_follows_a_cubic() -> None:
    times = torch.tensor([0.0, 1.0, 1.5, 3.0, 4.0, 5.0, 6.5, 7.0, 8.0], dtype=torch.float64)
    for frame, window in enumerate(windows(times)):
        value, slope = window.weights(window.times)
        assert torch.allclose(value, torch.eye(len(window.times), dtype=torch.float64), atol=1e-12)
        at = torch.linspace(-0.4, 0.4, 5, dtype=torch.float64)
        value, slope = window.weights(at)
        own = times[window.frames]
        assert torch.allclose(value @ (2.0 + 0.5 * own), 2.0 + 0.5 * (times[frame] + at))
        assert torch.allclose(slope @ (2.0 + 0.5 * own), torch.full_like(at, 0.5))
        eps = 1e-6
        numeric = (window.weights(at + eps)[0] - window.weights(at - eps)[0]) / (2 * eps)
        assert torch.allclose(slope, numeric, atol=1e-7)


def test_derivatives_agree_with_differences() -> None:
    scene = rolling_scene.simulate(0, readout=0.5, frames=8, points=60)
    whole = refining._estimate(replace(scene.start, readout=0.4, distortion=0.05), 1.0)
    seen = refining._sightings(scene.tracks, np.arange(len(scene.start.points)))
    panes = windows(torch.arange(8, dtype=torch.float64))
    size = 6 * 8 + 3
    frame, eps = 2, 1e-6
    rows, own = linearised(whole, panes, seen), seen.of(frame)
    dense = torch.zeros(*rows.residual[own].shape, size, dtype=torch.float64)
    dense[..., rows.columns[frame]] = rows.by_frame[own]
    nothing = torch.zeros_like(whole.points)
    for k in range(size):
        step = torch.zeros(size, dtype=torch.float64)
        step[k] = eps
        plus, minus = (
            residuals(whole.moved(s[:-3].reshape(8, 6), s[-3:], nothing), panes, seen)[seen.of(frame)]
            for s in (step, -step)
        )
        assert torch.allclose(dense[..., k], (plus - minus) / (2 * eps), rtol=1e-5, atol=1e-4), k
    for axis in range(3):
        step = torch.zeros_like(whole.points)
        step[:, axis] = eps
        no_frames, no_shared = torch.zeros(8, 6, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
        plus, minus = (
            residuals(whole.moved(no_frames, no_shared, s), panes, seen)[seen.of(frame)]
            for s in (step, -step)
        )
        assert torch.allclose(rows.by_point[own][..., axis], (plus - minus) / (2 * eps), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("seed", "readout", "fps", "start_focal", "starts"),
    [(0, 0.5, 20.0, 1.28, (0.0, 0.3, 0.6)), (2, 0.3, 15.0, 0.8, (0.0,)), (3, 0.0, 20.0, 1.28, (0.6,))],
)
def test_readout_focal_length_and_poses_are_found(
    seed: int, readout: float, fps: float, start_focal: float, starts: tuple[float, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Half a pixel of noise, and one sighting in thirty off by up to 20 px."""
    monkeypatch.setattr(refining, "READOUTS", starts)
    scene = rolling_scene.simulate(seed, readout=readout, fps=fps, start_focal=start_focal)
    found = refine(scene.tracks, scene.start)
    assert found.cameras.readout == pytest.approx(readout, rel=0.05, abs=0.02)
    assert found.cameras.focal == pytest.approx(rolling_scene.FOCAL, rel=0.02)
    rotation_deg, centre_share = rendered.pose_errors(
        found.cameras.camera_from_world, scene.true.camera_from_world
    )
    assert rotation_deg < 0.5 and centre_share < 0.01
    good = found.errors < 5
    assert 0.95 < good.mean() < 0.99 and np.sqrt((found.errors[good] ** 2).mean()) < 0.75
    assert readout == 0.0 or found.cost < 0.98 * found.global_cost
    assert {s["readout"] for s in found.starts} == set(starts)


def test_a_given_readout_is_kept_and_the_rest_is_found() -> None:
    scene = rolling_scene.simulate(4, readout=0.5, start_focal=1.28, frames=20, points=500)
    found = refine(scene.tracks, scene.start, readout=0.5)
    assert found.cameras.readout == 0.5 and {s["readout"] for s in found.starts} == {0.5}
    assert found.cameras.focal == pytest.approx(rolling_scene.FOCAL, rel=0.02)


def test_what_cannot_be_refined_is_refused() -> None:
    scene = rolling_scene.simulate(0, readout=0.5, frames=8, points=100)
    with pytest.raises(ValueError, match="must increase"):
        refine(replace(scene.tracks, times=scene.tracks.times[::-1].copy()), scene.start)
    with pytest.raises(ValueError, match="at least 8 frames"):
        refine(replace(scene.tracks, times=scene.tracks.times[:5]), scene.start)


def test_the_model_is_changed_and_keeps_what_agrees() -> None:
    """COLMAP's side: a model of known cameras, read and written with other numbers."""
    model = synthetic_model()
    ids = sorted(model.reg_image_ids())
    tracks, start = colmap.read_tracks(model, ids, np.arange(len(ids), dtype=np.float64))
    camera = model.camera(model.image(ids[0]).camera_id)
    x = np.einsum("nij,nj->ni", start.camera_from_world[tracks.frame, :3, :3], start.points[tracks.point])
    x += start.camera_from_world[tracks.frame, :3, 3]
    assert np.abs(camera.img_from_cam(x) - tracks.pixel).max() < 1e-6
    errors = np.full(len(tracks.point), 0.25)
    errors[(tracks.point == 0) | ((tracks.point == 1) & (tracks.frame == 2))] = 9.0
    moved = replace(
        start, focal=500.0, points=start.points + 1.0, camera_from_world=start.camera_from_world[::-1]
    )
    refined = Refined(moved, errors, 2.0, 1.0, 10, [], 0.0)
    changed = colmap.with_cameras(model, ids, refined, 4.0)
    assert changed.camera(changed.image(ids[0]).camera_id).params[0] == 500.0
    again, now = colmap.read_tracks(changed, ids, tracks.times)
    assert np.allclose(now.camera_from_world, moved.camera_from_world)
    assert np.allclose(now.points, moved.points[1:]), "the first point has no sighting left"
    assert len(again.point) == (errors < 4.0).sum()
    assert changed.compute_mean_reprojection_error() == pytest.approx(0.25)
    assert model.camera(model.image(ids[0]).camera_id).params[0] != 500.0, "the original stays"


def synthetic_model() -> colmap.Model:
    """Eight cameras of `sfm_rendered.arc` and 80 points that all of them see."""
    import pycolmap

    rng = np.random.default_rng(0)
    model = pycolmap.Reconstruction()
    lens = pycolmap.Camera.create_from_model_name(1, "SIMPLE_RADIAL", 300.0, 320, 240)
    model.add_camera_with_trivial_rig(lens)
    points = rng.uniform([-0.8, -0.6, 3.0], [0.8, 0.6, 6.0], (80, 3))
    for i, matrix in enumerate(rendered.arc(8)):
        pixels = np.asarray(lens.img_from_cam(points @ matrix[:3, :3].T + matrix[:3, 3]))
        image = pycolmap.Image(f"{i}.png", pixels, 1, i + 1)
        model.add_image_with_trivial_frame(image, colmap.as_rigid(matrix))
    for k, point in enumerate(points):
        track = pycolmap.Track()
        for i in range(8):
            track.add_element(i + 1, k)
        model.add_point3D(point, track, np.zeros(3, np.uint8))
    return model


def test_structure_from_motion_of_a_rolling_clip(tmp_path: Path) -> None:
    """Rendered rows from the poses of their times; blind to that, the focal length would come out wrong."""
    count, readout = 12, 0.5
    at = swaying(count)
    rays = rendered.pinhole_rays()
    frames = []
    for f in range(count):
        bands = [
            rendered.render(at(f + readout * ((r + 2) / rendered.HEIGHT - 0.5)), rays[r : r + 4])
            for r in range(0, rendered.HEIGHT, 4)
        ]
        frames.append(np.concatenate(bands))
    stored = rendered.save(frames, tmp_path / "in")
    model = run_sfm(stored, tmp_path / "sfm", rolling=RollingShutter(), log=Log(quiet=True))
    assert model.num_frames == count
    assert model.readout == pytest.approx(readout, rel=0.1)
    assert model.cameras[0].fx == pytest.approx(rendered.FOCAL, rel=0.03)
    true = np.array([at(f) for f in range(count)])
    rotation_deg, centre_share = rendered.pose_errors(model.camera_from_world, true)
    assert rotation_deg < 0.5 and centre_share < 0.02
    report = json.loads((tmp_path / "sfm" / "sfm.json").read_text())["rolling_shutter"]
    assert report["readout"] == pytest.approx(model.readout, abs=1e-3) and not report["readout_given"]
    assert report["cost"][1] < 0.8 * report["cost"][0]
    assert report["focal_px"][1] == pytest.approx(model.cameras[0].fx, abs=0.1)


def swaying(count: int) -> Callable[[float], np.ndarray]:
    """camera_from_world at any time in frame intervals: along the arc, nodding and turning."""

    def at(time: float) -> np.ndarray:
        x = time / (count - 1)
        centre = np.array([1.6 * (2 * x - 1), 0.25 * np.sin(9 * x) - 0.2, 0.3 * np.cos(4 * x)])
        forward = np.array([0.15 * np.sin(13 * x), 0.1 + 0.2 * np.sin(9 * x + 1), 4.0]) - centre
        forward /= np.linalg.norm(forward)
        right = np.cross([0.04 * np.sin(8 * x), 1.0, 0], forward)
        right /= np.linalg.norm(right)
        return rendered.pose(np.stack([right, np.cross(forward, right), forward]), centre)

    return at
