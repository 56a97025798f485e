"""The forward model of a frame: rolling shutter in bands, and what it has to agree with."""

import pytest
import torch

from deblurgs.math.lie import se3_exp
from deblurgs.scene.camera import Camera
from deblurgs.scene.gaussians import Gaussians
from deblurgs.scene.shutter import sample_exposure
from deblurgs.scene.trajectory import Trajectory
from deblurgs.train.model import exposed_light, exposure_image, frame_light, row_bands

CAMERA = Camera(80, 100, 90.0, 90.0, 40.0, 50.0)


def gaussians() -> Gaussians:
    g = torch.Generator().manual_seed(3)
    points = torch.rand(300, 3, generator=g) * torch.tensor([1.6, 2.0, 0.6]) + torch.tensor([-0.8, -1.0, 1.5])
    return Gaussians.from_points(points, torch.rand(300, 3, generator=g), 1)


def trajectory(readout: float) -> Trajectory:
    path = Trajectory(torch.eye(4)[None], "linear", 2)
    with torch.no_grad():
        path.knots[0] = torch.tensor([[-0.02, 0.0, 0.0, 0.0, 0.0, 0.0], [0.02, 0.0, 0.0, 0.0, 0.0, 0.0]])
        path.readout.fill_(readout)
    return path


def test_bands_cover_every_row_once() -> None:
    for height in range(1, 1100):
        bands = row_bands(Camera(64, height, 50.0, 50.0, 32.0, height / 2))
        rows = [r for top, bottom in bands for r in range(top, bottom)]
        assert rows == list(range(height))
        assert len(bands) == min(-(-height // 16), 8), "as many as there are rows of tiles"


def test_a_readout_of_nearly_nothing_is_a_global_shutter() -> None:
    u, weights = sample_exposure(5)
    scene = gaussians()
    still = frame_light(scene, trajectory(0.0), 0, CAMERA, u, weights)
    rolled = frame_light(scene, trajectory(1e-6), 0, CAMERA, u, weights)
    assert (still - rolled).abs().max() < 1e-5


def test_every_row_sees_the_pose_of_its_own_time() -> None:
    """Uniform motion, readout r: row y is the global exposure of a camera that is r * (y - 1/2) exposures further."""
    u, weights = sample_exposure(5)
    scene, readout = gaussians(), 2.0
    path = trajectory(readout)
    rolled = frame_light(scene, path, 0, CAMERA, u, weights)
    speed = 0.04 / (1.0 + readout)  # knots span exposure and readout
    for top, bottom in row_bands(CAMERA):
        row = 0.5 * (top + bottom) / CAMERA.height
        offset = speed * (u - 0.5 + readout * (row - 0.5))
        tangents = torch.zeros(len(u), 6)
        tangents[:, 0] = -offset
        wanted = exposure_image(scene, se3_exp(tangents), weights, CAMERA).image
        assert (rolled[top:bottom] - wanted[top:bottom]).abs().max() < 1e-5


@pytest.mark.parametrize("readout", [0.6, -0.4])
def test_the_readout_is_found_from_the_picture(readout: float) -> None:
    """Each row of the picture has its own time, unlike those of a band; with four bands it is found 14 % short."""
    u, weights = sample_exposure(3)
    scene, motion = gaussians(), trajectory(readout)
    with torch.no_grad():
        rows = []
        for y in range(CAMERA.height):
            poses = motion.of_frame(0, u, (y + 0.5) / CAMERA.height)
            rows.append(exposure_image(scene, poses, weights, CAMERA.rows(y, y + 1)).image)
    target = torch.cat(rows)
    path = trajectory(0.0)
    with torch.no_grad():
        # Knots span exposure and readout, so the same motion needs wider ones at a longer readout.
        path.knots *= 1.0 / (1.0 + abs(readout))
    path.readout.requires_grad_()
    path.knots.requires_grad_()
    adam = torch.optim.Adam([{"params": [path.readout], "lr": 2e-2}, {"params": [path.knots], "lr": 3e-4}])
    for _ in range(400):
        adam.zero_grad()
        (frame_light(scene, path, 0, CAMERA, u, weights) - target).square().mean().backward()
        adam.step()
    assert float(path.readout.detach()) == pytest.approx(readout, rel=0.07)


def test_light_drawn_finer_is_averaged_to_the_photos_pixels() -> None:
    """Supersampled light is the box mean of the light of a camera with more pixels, and nearly the plain light."""
    u, weights = sample_exposure(3)
    scene, path = gaussians(), trajectory(0.0)
    twice = CAMERA.resized(2 * CAMERA.width, 2 * CAMERA.height)
    with torch.no_grad():
        fine = frame_light(scene, path, 0, twice, u, weights)
        light = frame_light(scene, path, 0, CAMERA, u, weights, supersample=2)
        plain = frame_light(scene, path, 0, CAMERA, u, weights)
    by_hand = 0.25 * (fine[0::2, 0::2] + fine[1::2, 0::2] + fine[0::2, 1::2] + fine[1::2, 1::2])
    assert torch.allclose(light, by_hand, atol=1e-6)
    assert light.shape == plain.shape and (light - plain).abs().mean() < 0.02


@pytest.mark.parametrize("supersample", [1, 2])
def test_few_views_stand_for_the_whole_exposure(supersample: int) -> None:
    """Fine texture along a path of 12 px: seven views with their slices come much nearer to 200 than seven instants."""
    g = torch.Generator().manual_seed(5)
    points = torch.rand(3000, 3, generator=g) * torch.tensor([2.4, 2.4, 0.0]) + torch.tensor(
        [-1.2, -1.2, 2.0]
    )
    scene = Gaussians.from_points(points, torch.rand(3000, 3, generator=g), 0)
    with torch.no_grad():
        scene.log_scales.fill_(-4.5)
        scene.logit_opacities.fill_(3.0)
    path = Trajectory(torch.eye(4)[None], "linear", 2)
    with torch.no_grad():
        path.knots[0, 1, 0] = 12.0 * 2.0 / CAMERA.fx
    exact = frame_light(scene, path, 0, CAMERA, *sample_exposure(200), supersample=supersample)
    instants = frame_light(scene, path, 0, CAMERA, *sample_exposure(7), supersample=supersample)
    slices = exposed_light(scene, path, 0, CAMERA, torch.tensor(2.0), 7, supersample=supersample)
    inner = (slice(4, -4), slice(4, -4))
    before, after = ((x - exact)[inner].square().mean().sqrt() for x in (instants, slices))
    assert after < 0.6 * before


def test_a_static_exposure_is_one_instant() -> None:
    path = Trajectory(torch.eye(4)[None], "static", 1)
    light = exposed_light(gaussians(), path, 0, CAMERA, torch.tensor(2.0), 1)
    assert torch.equal(light, frame_light(gaussians(), path, 0, CAMERA, *sample_exposure(1)))
