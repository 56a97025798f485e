import pytest
import torch

from deblurgs.math.lie import se3_exp, se3_inverse, se3_log
from deblurgs.scene.continuous import ContinuousTrajectory


def uniform_motion(num_frames: int, step: torch.Tensor) -> torch.Tensor:
    """camera_from_world of a camera that moves by the same tangent from frame to frame."""
    world_from_camera = [torch.eye(4, dtype=torch.float64)]
    for _ in range(num_frames - 1):
        world_from_camera.append(world_from_camera[-1] @ se3_exp(step))
    return se3_inverse(torch.stack(world_from_camera))


STEP = torch.tensor([0.2, -0.1, 0.05, 0.02, 0.06, -0.04], dtype=torch.float64)
TIMES = torch.arange(6, dtype=torch.float64) / 30


def test_uniform_motion_is_reproduced_and_the_exposure_covers_the_duty() -> None:
    poses = uniform_motion(6, STEP)
    path = ContinuousTrajectory(poses, TIMES, duty=0.4)
    assert path.interval_s == pytest.approx(1 / 30)
    assert path.exposure_s == pytest.approx(0.4 / 30)
    assert torch.allclose(path.all_at(0.5), poses, atol=1e-9)
    ends = path(torch.tensor([2]), torch.tensor([0.0, 1.0], dtype=torch.float64))[0]
    moved = se3_log(se3_inverse(se3_inverse(ends[0])) @ se3_inverse(ends[1]))
    assert torch.allclose(moved, 0.4 * STEP, atol=1e-6)


def test_rows_are_later_by_the_readout() -> None:
    path = ContinuousTrajectory(uniform_motion(6, STEP), TIMES, duty=0.4)
    with torch.no_grad():
        path.readout.fill_(0.5)
    middle = torch.tensor([0.5], dtype=torch.float64)
    top, bottom = (path(torch.tensor([2]), middle, row)[0, 0] for row in (0.0, 1.0))
    assert torch.allclose(se3_log(top @ se3_inverse(bottom)), 0.5 * STEP, atol=1e-6)


def test_the_path_is_smooth_in_time() -> None:
    generator = torch.Generator().manual_seed(0)
    poses = se3_exp(0.1 * torch.randn(6, 6, generator=generator, dtype=torch.float64))
    path = ContinuousTrajectory(poses, TIMES)
    at = torch.linspace(0.0, 5.0, 2001, dtype=torch.float64)
    velocity = se3_log(se3_inverse(path.at(at[:-1])) @ path.at(at[1:])) / (at[1] - at[0])
    jumps = (velocity[1:] - velocity[:-1]).norm(dim=1)
    assert jumps.max() < 0.02 * velocity.norm(dim=1).max()


def test_gradients_reach_knots_duty_and_readout_and_stay_within_the_rows() -> None:
    path = ContinuousTrajectory(uniform_motion(6, STEP), TIMES, duty=0.6)
    path.readout.requires_grad_()
    u = torch.tensor([0.1, 0.5, 0.8], dtype=torch.float64)

    def total(knots: torch.Tensor, duty: torch.Tensor, readout: torch.Tensor) -> torch.Tensor:
        values = {"knots": knots, "logit_duty": duty, "readout": readout}
        poses = torch.func.functional_call(path, values, (torch.tensor([2]), u, 0.9))
        return (poses * torch.arange(16, dtype=torch.float64).reshape(4, 4)).sum()

    knots = 0.01 * torch.randn(
        path.knots.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    inputs = (
        knots.requires_grad_(),
        path.logit_duty.detach().clone().requires_grad_(),
        torch.tensor(0.3, dtype=torch.float64, requires_grad=True),
    )
    assert torch.autograd.gradcheck(total, inputs)
    (gradient,) = torch.autograd.grad(total(*inputs), inputs[:1])
    touched = set(gradient.abs().sum(dim=1).nonzero()[:, 0].tolist())
    assert touched and touched <= set(path.knot_rows(2).tolist())


def test_frames_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="increasing times"):
        ContinuousTrajectory(uniform_motion(3, STEP), torch.tensor([0.0, 2.0, 1.0]))


def test_a_saved_path_is_built_again_whatever_its_times_round_to() -> None:
    generator = torch.Generator().manual_seed(5)
    for _ in range(50):
        times = torch.rand(9, generator=generator, dtype=torch.float64).cumsum(0) + torch.arange(9) * 0.01
        path = ContinuousTrajectory(uniform_motion(9, STEP).float(), times)
        again = ContinuousTrajectory(path.camera_from_world_sfm, path.times, num_controls=len(path.controls))
        again.load_state_dict(path.state_dict())
        assert torch.equal(again.all_at(0.3), path.all_at(0.3))


def test_the_ends_have_room_for_the_longest_readout() -> None:
    path = ContinuousTrajectory(uniform_motion(4, STEP), TIMES[:4], duty=0.9)
    with torch.no_grad():
        path.readout.fill_(4.0)
    middle = torch.tensor([0.5], dtype=torch.float64)
    first = path(torch.tensor([0]), middle, 0.0)[0, 0]
    assert torch.allclose(se3_log(first @ se3_inverse(path.all_at(0.5)[0])), 2.0 * STEP, atol=1e-6)
