"""The blur within the slice of an exposure that one virtual view stands for."""

import math

import pytest
import torch
from torch import Tensor

from deblurgs.math.lie import se3_exp
from deblurgs.raster import native
from deblurgs.scene.camera import Camera
from deblurgs.scene.trajectory import Trajectory
from deblurgs.train.slices import COLUMNS, ROWS, slice_covariance, spread, torch_diffused

CAMERA = Camera(96, 64, 80.0, 80.0, 48.0, 32.0)


def moving(x: float, y: float, roll: float = 0.0) -> Trajectory:
    """A camera that moves past the scene so that its picture at depth 2 moves by (x, y) px, and rolls."""
    path = Trajectory(torch.eye(4)[None], "linear", 2)
    end = torch.tensor([-x * 2.0 / CAMERA.fx, -y * 2.0 / CAMERA.fy, 0.0, 0.0, 0.0, roll])
    with torch.no_grad():
        path.knots.copy_(torch.stack([torch.zeros(6), end])[None])
    return path


def test_covariance_is_that_of_a_box_along_the_way() -> None:
    found = slice_covariance(moving(12.0, -8.0), 0, CAMERA, torch.tensor(2.0), 4)
    assert found.shape == (3, ROWS, COLUMNS)
    wanted = torch.tensor([3.0 * 3.0, 3.0 * -2.0, 2.0 * 2.0]) / 12.0
    torch.testing.assert_close(found, wanted[:, None, None].expand_as(found), rtol=1e-4, atol=1e-4)


def test_a_roll_moves_the_border_more_than_the_middle() -> None:
    xx, xy, yy = slice_covariance(moving(0.0, 0.0, roll=0.2), 0, CAMERA, torch.tensor(2.0), 3)
    size = xx + yy
    assert size[0, 0] > 5.0 * size[ROWS // 2, COLUMNS // 2]
    assert xy[0, 0] * xy[0, -1] < 0.0, "up right in one corner is down right in the next"


def waves(shift_x: Tensor, shift_y: Tensor, period: float, angle: float) -> Tensor:
    """[V,64,96,3]"""
    x = torch.arange(96.0) - shift_x[:, None, None]
    y = torch.arange(64.0)[:, None] - shift_y[:, None, None]
    value = torch.sin(2.0 * math.pi / period * (x * math.cos(angle) + y * math.sin(angle)))
    return (0.5 + 0.4 * value)[..., None].expand(-1, -1, -1, 3)


@pytest.mark.parametrize(("x", "y"), [(10.0, 0.0), (0.0, 10.0), (7.0, 7.0), (7.0, -7.0)])
def test_few_views_and_their_slices_make_the_whole_exposure(x: float, y: float) -> None:
    """Waves of 4 px along a path of 10 px, 7 views: without the slices the mean is a sixth too strong."""

    def mean(views: int) -> Tensor:
        u = (torch.arange(views) + 0.5) / views - 0.5
        return waves(x * u, y * u, 4.0, math.atan2(y, x)).mean(0)

    exact, few = mean(400), mean(7)
    covariance = torch.tensor([x * x, x * y, y * y])[:, None, None].expand(-1, ROWS, COLUMNS) / 49.0 / 12.0
    inner = (slice(4, -4), slice(4, -4))
    before, after = (few - exact)[inner].abs().max(), (spread(few, covariance) - exact)[inner].abs().max()
    assert after < 0.3 * before


def test_no_light_is_lost_and_the_transpose_is_itself() -> None:
    g = torch.Generator().manual_seed(0)
    light = torch.rand(9, 13, 3, dtype=torch.float64, generator=g).requires_grad_()
    other = torch.rand(9, 13, 3, dtype=torch.float64, generator=g)
    covariance = 0.2 * torch.rand(3, ROWS, COLUMNS, dtype=torch.float64, generator=g)
    out = spread(light, covariance)
    assert float((out - light).sum().detach()) == pytest.approx(0.0, abs=1e-12)
    (gradient,) = torch.autograd.grad((out * other).sum(), light)
    torch.testing.assert_close(gradient, spread(other, covariance))
    assert torch.autograd.gradcheck(lambda x: spread(x, covariance), (light,))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 7), (7, 1), (33, 50), (64, 96)])
@pytest.mark.parametrize("threads", ["1", "3"])
def test_the_kernel_agrees_with_torch(
    height: int, width: int, threads: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if native.load()[0] is None:
        pytest.skip("there is no compiled library here")
    monkeypatch.setenv("DEBLURGS_THREADS", threads)
    g = torch.Generator().manual_seed(1)
    light = torch.rand(height, width, 3, generator=g)
    covariance = 0.2 * torch.rand(3, ROWS, COLUMNS, generator=g)
    covariance[1] -= 0.1
    torch.testing.assert_close(
        spread(light, covariance), torch_diffused(light, covariance), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("xy", [0.0, 6.0, -6.0])
def test_long_slices_are_bounded(xy: float) -> None:
    """Of oblique ones two corners may give up to a sixteenth."""
    dot = torch.zeros(21, 21, 3)
    dot[10, 10] = 1.0
    covariance = torch.tensor([9.0, xy, 4.0])[:, None, None].expand(-1, ROWS, COLUMNS)
    out = spread(dot, covariance)
    assert float(out.min()) >= (-0.0625 if xy else 0.0) and float(out.sum()) == pytest.approx(3.0)
    x, y = torch.arange(20), torch.arange(20)[:, None]
    board = ((x + y) % 2).float()[..., None].expand(-1, -1, 3)
    inner = spread(board, covariance)[2:-2, 2:-2]
    assert (inner[::2, 1::2] > inner[::2, ::2] - 1e-6).all(), "not inverted"


def test_rows_of_a_rolling_shutter_have_their_own_way() -> None:
    """The camera moves in the first half of the time alone: the upper rows are exposed then."""
    path = Trajectory(torch.eye(4)[None], "linear", 3)
    with torch.no_grad():
        path.knots[0, :, 0] = torch.tensor([0.0, 0.2, 0.2])
        path.readout.fill_(2.0)
    xx = slice_covariance(path, 0, CAMERA, torch.tensor(2.0), 4)[0]
    assert float(xx[0].min()) > 0.1 and float(xx[-1].max()) < 1e-4


def test_one_pixel() -> None:
    light = torch.rand(1, 1, 3)
    assert torch.equal(spread(light, torch.ones(3, ROWS, COLUMNS)), light)


def test_a_camera_that_rests_has_no_slices() -> None:
    path = Trajectory(se3_exp(torch.zeros(1, 6)), "linear", 2)
    assert not slice_covariance(path, 0, CAMERA, torch.tensor(2.0), 3).abs().gt(1e-2).any()
