"""What is read off a finished training."""

from pathlib import Path

import numpy as np
import torch

from deblurgs.config import TrainConfig
from deblurgs.math.lie import se3_exp
from deblurgs.scene.alignment import picture_grid
from deblurgs.scene.camera import Camera
from deblurgs.scene.gaussians import Gaussians
from deblurgs.scene.photometry import Photometry
from deblurgs.scene.trajectory import Trajectory
from deblurgs.scene.transform import Similarity
from deblurgs.train.checkpoint import load_scene, save_scene
from deblurgs.train.data import LANDMARKS, landmarks
from deblurgs.train.trained import TrainedScene, frame_drift

CAMERA = Camera(300, 200, 250.0, 250.0, 150.0, 100.0)


def test_blurred_frames_do_not_move_the_scene() -> None:
    """The sharp half of the cameras stayed where it was; the blurred half went aside by 5 px of its 20 px blur."""
    side = torch.linspace(-1.0, 1.0, 12)
    tangents = torch.zeros(12, 6)
    tangents[:, 0], tangents[:, 1] = side, 0.3 * (torch.arange(12) % 3 - 1)
    path = Trajectory(se3_exp(tangents), "linear", 2)
    with torch.no_grad():
        path.knots.zero_()
        blurred = torch.arange(12) % 2 == 1
        path.knots[blurred, 0, 0], path.knots[blurred, 1, 0] = -0.02, 0.06  # of the depth, which is 1
    drift = frame_drift(path, [CAMERA] * 12, torch.ones(12))
    # One pixel at depth 1 is 1/250; if all counted alike, half of the 5 px would remain.
    assert abs(float(drift.translation[0])) < 0.1 / 250


def seen_from(begin: torch.Tensor) -> Trajectory:
    """Paths of 20 px at depth 1, each in a direction of its own, mostly to the right. begin [12,1]: where each begins,
    in units of the depth, from where structure from motion had its camera."""
    tangents = torch.zeros(12, 6)
    tangents[:, 0], tangents[:, 1] = torch.linspace(-1.0, 1.0, 12), 0.3 * (torch.arange(12) % 3 - 1)
    path = Trajectory(se3_exp(tangents), "linear", 2)
    angle = torch.linspace(-1.4, 1.4, 12)[torch.arange(12) * 5 % 12]
    direction = torch.stack([angle.cos(), angle.sin()], dim=1)
    with torch.no_grad():
        path.knots.zero_()
        path.knots[:, 0, :2], path.knots[:, 1, :2] = begin * direction, (begin + 0.08) * direction
    return path


def test_a_frame_may_have_been_seen_from_anywhere_on_its_path() -> None:
    """All of them near the left end."""
    drift = frame_drift(seen_from(torch.full((12, 1), -0.02)), [CAMERA] * 12, torch.ones(12))
    # In pixels at depth 1; taking all for mid-exposure leaves 4.5 px. That all were near the same end is unlikely, and
    # a part of it is taken for drift.
    assert 250 * float(np.linalg.norm(drift.translation[:2])) < 2.0


def test_places_on_both_sides_of_the_middle_move_nothing() -> None:
    begin = torch.tensor([-0.02, -0.06, -0.05, -0.03])[torch.arange(12) * 7 % 4][:, None]
    drift = frame_drift(seen_from(begin), [CAMERA] * 12, torch.ones(12))
    assert 250 * float(np.abs(drift.translation).max()) < 0.3


def test_landmarks_are_points_that_each_frame_sees_in_front_of_it() -> None:
    rng = np.random.default_rng(2)
    poses = se3_exp(torch.zeros(3, 6)).double().numpy()
    points = rng.normal(size=(500, 3)) + np.array([0.0, 0.0, 3.0])
    points[7, 2] = -1.0
    seen = [
        np.arange(100),
        np.arange(200, 220),
        np.arange(5),
    ]  # the last one sees too few to have been placed by them
    grid = picture_grid(poses, np.ones(3), np.full((3, 2), 0.5))
    chosen = landmarks(poses, points, seen, grid)
    assert chosen.shape == (3, LANDMARKS, 3)
    assert (chosen[..., 2] > 0).all()
    for f, expected in enumerate((points[:100], points[200:220], grid[2])):
        among = {tuple(p) for p in expected}
        found = {tuple(p) for p in chosen[f]}
        assert found <= among and len(found) >= min(len(among) - 1, LANDMARKS)


def test_a_scene_file_keeps_the_landmarks_it_is_aligned_by(tmp_path: Path) -> None:
    path = seen_from(torch.full((12, 1), -0.02))
    points = torch.rand(12, LANDMARKS, 3, generator=torch.Generator().manual_seed(1)) + torch.tensor(
        [-0.5, -0.5, 0.7]
    )
    gaussians = Gaussians.from_points(points[0], torch.rand(LANDMARKS, 3), 0, opacity=0.5)
    drifts = []
    for seen in (points, None):
        scene = TrainedScene(
            gaussians, path, Photometry(12), [CAMERA] * 12, torch.ones(12), TrainConfig(), 1.0, seen
        )
        save_scene(tmp_path / "scene.safetensors", scene, [str(i) for i in range(12)], Similarity.identity())
        loaded = load_scene(tmp_path / "scene.safetensors")[0]
        for own, read in zip(
            vars(scene.frame_drift()).values(), vars(loaded.frame_drift()).values(), strict=True
        ):
            np.testing.assert_array_equal(own, read)
        drifts.append(loaded.frame_drift().translation)
    assert np.abs(drifts[0] - drifts[1]).max() > 1e-4, "a grid stands in for them otherwise"
