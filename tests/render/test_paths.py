import pytest
import torch

from deblurgs.math.lie import se3_exp, so3_exp
from deblurgs.render.paths import film_camera, smooth_path
from deblurgs.scene.camera import Camera


def centres(camera_from_world: torch.Tensor) -> torch.Tensor:
    return -(camera_from_world[:, :3, :3].transpose(1, 2) @ camera_from_world[:, :3, 3:])[..., 0]


def slide(num: int, shake: float) -> torch.Tensor:
    """A camera sliding along x while turning about y, with random shake."""
    g = torch.Generator().manual_seed(0)
    out = torch.eye(4).repeat(num, 1, 1)
    for i in range(num):
        rotation = so3_exp(torch.tensor([0.0, 0.3 * i / num, 0.0]) + shake * torch.randn(3, generator=g))
        centre = torch.tensor([2.0 * i / num, 0.0, 0.0]) + shake * torch.randn(3, generator=g)
        out[i, :3, :3], out[i, :3, 3] = rotation.T, -rotation.T @ centre
    return out


def test_path_is_rigid_and_covers_the_capture() -> None:
    path = smooth_path(slide(20, 0.0), 50)
    assert path.shape == (50, 4, 4)
    identity = torch.eye(3).expand(50, 3, 3)
    assert torch.allclose(path[:, :3, :3] @ path[:, :3, :3].transpose(1, 2), identity, atol=1e-5)
    x = centres(path)[:, 0]
    assert x[0] < 0.2 and x[-1] > 1.6 and (x[1:] > x[:-1]).all()


def test_path_is_calmer_than_the_hand_that_filmed() -> None:
    shaky = slide(40, 0.02)
    path = smooth_path(shaky, 40, smoothing=2.0)

    def jerk(p: torch.Tensor) -> torch.Tensor:
        return (centres(p)[2:] - 2 * centres(p)[1:-1] + centres(p)[:-2]).norm(dim=-1).mean()

    assert jerk(path) < 0.2 * jerk(shaky)


def test_opposite_quaternion_signs_do_not_cancel() -> None:
    turns = torch.stack(
        [se3_exp(torch.tensor([0.0, 0.0, 0.0, 0.0, a, 0.0])) for a in torch.linspace(2.8, 3.5, 8)]
    )
    path = smooth_path(turns, 9)
    assert torch.isfinite(path).all()
    assert (path[4, :3, :3] - turns[4, :3, :3]).abs().max() < 0.2


def test_zero_poses_are_refused() -> None:
    with pytest.raises(ValueError, match="num_poses"):
        smooth_path(slide(3, 0.0), 0)


def test_a_film_has_the_camera_that_most_frames_have() -> None:
    small, tele, wide = (
        Camera(40, 60, 50, 50, 20, 30),
        Camera(64, 48, 90, 90, 32, 24),
        Camera(64, 48, 50, 50, 32, 24),
    )
    assert film_camera([small, wide, wide, tele]) == wide
    assert film_camera([small, tele]) == small, "the first of equally common sizes"
    # Estimated one by one no two are equal: the middle one stands for them.
    each = [Camera(64, 48, f, f, 32, 24) for f in (53.0, 50.0, 51.0, 80.0)]
    assert film_camera(each) == each[2]
