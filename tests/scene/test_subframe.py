"""When a camera passes along its path."""

import torch

from deblurgs.scene.shutter import sample_exposure
from deblurgs.scene.subframe import NUM_PIECES, warped
from deblurgs.scene.trajectory import Trajectory


def test_equal_speeds_change_nothing() -> None:
    u, _ = sample_exposure(13, dtype=torch.float64)
    same = warped(u, torch.zeros(3, NUM_PIECES, dtype=torch.float64))
    assert same.shape == (3, 13)
    assert torch.allclose(same, u.expand(3, -1), atol=1e-12)


def test_time_runs_forward_from_end_to_end_at_any_speed() -> None:
    speeds = 3.0 * torch.randn(5, NUM_PIECES, generator=torch.Generator().manual_seed(0))
    places = warped(torch.linspace(0.0, 1.0, 101), speeds)
    assert bool((places[:, 1:] >= places[:, :-1]).all())
    assert torch.allclose(places[:, 0], torch.zeros(5), atol=1e-6)
    assert torch.allclose(places[:, -1], torch.ones(5), atol=1e-6)


def test_gradients_agree_with_finite_differences() -> None:
    speeds = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    u = torch.tensor([0.1, 0.45, 0.8], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(warped, (u, speeds))


def test_a_straight_path_learns_the_speed_it_was_travelled_at() -> None:
    """Two knots cannot say that a camera started slowly; the times can."""
    u, _ = sample_exposure(15)
    path = Trajectory(torch.eye(4)[None], "linear", 2, num_time_pieces=NUM_PIECES)
    with torch.no_grad():
        path.knots[0, 0, 0], path.knots[0, 1, 0] = -1.0, 1.0
    truth = 2.0 * u.square() - 1.0  # x of the camera centre
    optimizer = torch.optim.Adam([path.log_speeds], lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        poses = path(torch.tensor([0]), u)[0]
        error = (-poses[:, 0, 3] - truth).square().mean()
        error.backward()
        optimizer.step()
    assert float(error.detach()) < 1e-3, "0.09 without"
    assert float(path.log_speeds[0, -1].detach()) > float(path.log_speeds[0, 0].detach()) + 1.0
