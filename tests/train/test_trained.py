"""What is read off a finished training."""

import numpy as np
import torch

from deblurgs.math.lie import se3_exp
from deblurgs.scene.camera import Camera
from deblurgs.scene.trajectory import Trajectory
from deblurgs.train.trained import frame_drift

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
    # a little of it is taken for drift.
    assert abs(250 * float(drift.translation[0])) < 1.5


def test_places_on_both_sides_of_the_middle_move_nothing() -> None:
    begin = torch.tensor([-0.02, -0.06, -0.05, -0.03])[torch.arange(12) * 7 % 4][:, None]
    drift = frame_drift(seen_from(begin), [CAMERA] * 12, torch.ones(12))
    assert 250 * float(np.abs(drift.translation).max()) < 0.3
