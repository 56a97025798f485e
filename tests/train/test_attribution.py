"""The shares of the misfit against sums over pixels that are computed one Gaussian at a time."""

import torch

from deblurgs.scene.camera import Camera
from deblurgs.scene.gaussians import Gaussians
from deblurgs.scene.trajectory import Trajectory
from deblurgs.train.attribution import Shares, frame_shares

CAMERA = Camera(48, 40, 50.0, 50.0, 24.0, 20.0)


def scene() -> tuple[Gaussians, Trajectory]:
    """Three Gaussians side by side, far enough apart to hide nothing of each other; one exposure to the right."""
    gaussians = Gaussians.from_points(
        torch.tensor([[-0.2, 0.0, 1.0], [0.1, 0.0, 1.0], [0.3, 0.2, 1.0]]), torch.rand(3, 3), sh_degree=1
    )
    with torch.no_grad():
        gaussians.log_scales.copy_(torch.tensor([0.02, 0.04, 0.01]).log()[:, None].expand(3, 3))
    trajectory = Trajectory(torch.eye(4)[None], "linear", 2)
    with torch.no_grad():
        trajectory.knots[0, :, 0] = torch.tensor([-0.02, 0.02])
    return gaussians, trajectory


def shares_of(error: torch.Tensor, num_views: int = 5) -> Shares:
    gaussians, trajectory = scene()
    before = gaussians.tensors()
    shares = frame_shares(gaussians, trajectory, 0, CAMERA, error, num_views)
    assert all(torch.equal(before[name], value) for name, value in gaussians.tensors().items())
    assert all(p.grad is None for module in (gaussians, trajectory) for p in module.parameters())
    return shares


def test_misfit_falls_on_the_gaussian_that_shows_the_pixel() -> None:
    for gaussian, (x, y) in enumerate([(14, 20), (29, 20), (39, 30)]):
        error = torch.zeros(40, 48)
        error[y - 2 : y + 3, x - 2 : x + 3] = 0.1
        shares = shares_of(error).error
        assert shares.argmax() == gaussian
        assert shares[gaussian] > 20 * (shares.sum() - shares[gaussian])


def test_an_even_misfit_is_shared_by_the_area_that_is_covered() -> None:
    """With error 1 everywhere E is the integral of alpha: 2 pi opacity sigma^2 in px^2, up to the cut-off."""
    shares = shares_of(torch.ones(40, 48))
    assert torch.allclose(shares.error, shares.area)
    sigma2 = (torch.tensor([0.02, 0.04, 0.01]) * 50.0) ** 2 + 0.3
    expected = 2 * torch.pi * 0.5 * sigma2
    assert torch.allclose(shares.area, expected, rtol=0.1)


def test_more_views_than_needed_tell_the_same() -> None:
    error = torch.rand(40, 48, generator=torch.Generator().manual_seed(0))
    assert torch.equal(shares_of(error, 3).error, shares_of(error, 12).error)
    assert torch.allclose(shares_of(error, 1).error, shares_of(error, 3).error, rtol=0.2)
