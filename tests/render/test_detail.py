import torch

from deblurgs.render.detail import NONE_ABOVE_PX, add_detail, blur_length_px
from deblurgs.scene.camera import Camera
from deblurgs.scene.trajectory import Trajectory

CAMERA = Camera(100, 60, 80.0, 80.0, 50.0, 30.0)


def moving(distance: float) -> Trajectory:
    """The camera moves to the right by `distance` during the exposure."""
    path = Trajectory(torch.eye(4)[None], "linear", 2)
    with torch.no_grad():
        path.knots[0, :, 0] = torch.tensor([-0.5, 0.5]) * distance
    return path


def test_lengths_follow_depth() -> None:
    depth = torch.full((60, 100), 2.0)
    depth[:, 50:] = 4.0
    length = blur_length_px(moving(0.1), 0, CAMERA, depth)
    assert length.shape == (60, 100)
    assert torch.allclose(length[:, :40], torch.tensor(80 * 0.1 / 2.0), rtol=1e-3)
    assert torch.allclose(length[:, 64:], torch.tensor(80 * 0.1 / 4.0), rtol=1e-3)


def test_where_nothing_is_the_usual_depth_counts() -> None:
    depth = torch.full((60, 100), 2.0)
    depth[:20] = 0.0
    assert torch.allclose(blur_length_px(moving(0.1), 0, CAMERA, depth), torch.tensor(4.0), rtol=1e-3)


def test_a_still_frame_comes_back_as_it_was_and_a_smeared_one_does_not() -> None:
    g = torch.Generator().manual_seed(0)
    observed, model, reblur = (torch.rand(8, 8, 3, generator=g) for _ in range(3))
    still, smeared = torch.zeros(8, 8), torch.full((8, 8), NONE_ABOVE_PX)
    assert torch.allclose(add_detail(model, model, observed, still), observed, atol=1e-6)
    assert torch.allclose(add_detail(model, reblur, observed, smeared), model)
