import pytest
import torch

from deblurgs.math.lie import se3_exp
from deblurgs.scene.camera import Camera
from deblurgs.scene.shutter import sample_exposure
from deblurgs.scene.trajectory import Trajectory, path_length_px

KINDS = ["linear", "cubic", "bezier"]


def poses(num: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return se3_exp(torch.randn(num, 6, generator=generator, dtype=torch.float64))


def test_midpoint_samples_sum_to_one_and_one_view_is_mid_exposure() -> None:
    u, weights = sample_exposure(7)
    assert torch.allclose(weights.sum(), torch.tensor(1.0))
    assert torch.allclose(u + u.flip(0), torch.ones(7))
    assert sample_exposure(1)[0].item() == 0.5
    with pytest.raises(ValueError, match="num_virtual_views"):
        sample_exposure(0)


@pytest.mark.parametrize("kind", [*KINDS, "static"])
def test_zero_knots_stay_at_the_sfm_pose_with_finite_gradients(kind: str) -> None:
    base = poses(3)
    trajectory = Trajectory(base, kind, 4)
    out = trajectory(torch.arange(3), torch.linspace(0, 1, 5, dtype=torch.float64))
    assert torch.allclose(out, base[:, None].expand_as(out))
    out.square().sum().backward()
    assert trajectory.knots.grad is not None and torch.isfinite(trajectory.knots.grad).all()
    assert trajectory.knots.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_knots_are_tangents_in_the_cameras_own_axes(kind: str) -> None:
    """All knots equal: the whole exposure sits at world_from_camera * exp(xi)."""
    base = poses(2)
    trajectory = Trajectory(base, kind, 3)
    xi = torch.tensor([0.1, -0.2, 0.05, 0.02, 0.03, -0.01], dtype=torch.float64)
    with torch.no_grad():
        trajectory.knots[:] = xi
    expected = torch.linalg.inv(torch.linalg.inv(base) @ se3_exp(xi))
    out = trajectory(torch.arange(2), torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64))
    assert torch.allclose(out, expected[:, None].expand_as(out), atol=1e-12)


def test_gradient_of_knots_agrees_with_finite_differences() -> None:
    trajectory = Trajectory(
        poses(1), "bezier", 4, start_spread=0.1, generator=torch.Generator().manual_seed(1)
    )
    u = torch.tensor([0.2, 0.9], dtype=torch.float64)
    point = torch.tensor([0.3, -0.2, 2.0, 1.0], dtype=torch.float64)

    def moved(knots: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(trajectory, {"knots": knots}, (torch.tensor([0]), u)) @ point

    assert torch.autograd.gradcheck(moved, (trajectory.knots.detach().clone().requires_grad_(),))


def test_start_spread_does_not_move_the_frame() -> None:
    trajectory = Trajectory(
        poses(4), "bezier", 4, start_spread=0.1, generator=torch.Generator().manual_seed(0)
    )
    assert trajectory.knots.abs().max() > 0.01
    assert torch.allclose(trajectory.knots.mean(dim=1), torch.zeros(4, 6, dtype=torch.float64), atol=1e-12)


def test_path_length_of_a_sideways_slide_is_focal_times_shift_over_depth() -> None:
    camera = Camera(200, 100, 150.0, 150.0, 100.0, 50.0)
    path = torch.eye(4).repeat(1, 5, 1, 1)
    path[0, :, 0, 3] = torch.linspace(0, 0.2, 5)
    length = path_length_px(path, [camera], torch.tensor([2.0]))
    assert length.item() == pytest.approx(150.0 * 0.2 / 2.0, rel=1e-4)


def test_path_length_of_a_turn_uses_the_longest_image_path() -> None:
    camera = Camera(200, 100, 150.0, 150.0, 100.0, 50.0)
    angle = 0.1
    xi = torch.zeros(9, 6)
    xi[:, 5] = torch.linspace(0, angle, 9)  # roll: corners travel, the centre does not
    length = path_length_px(se3_exp(xi)[None], [camera], torch.tensor([1.0]))
    corner = (0.45**2 * 200**2 + 0.45**2 * 100**2) ** 0.5
    assert length.item() == pytest.approx(angle * corner, rel=0.02)
