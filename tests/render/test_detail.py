import torch

from deblurgs.config import TrainConfig
from deblurgs.render.detail import add_detail, along_paths, pixel_paths
from deblurgs.render.render import reblurred_frame, restored_frame, sharp_frame
from deblurgs.scene.camera import Camera
from deblurgs.scene.gaussians import Gaussians
from deblurgs.scene.photometry import Photometry
from deblurgs.scene.trajectory import Trajectory
from deblurgs.train.trained import TrainedScene

CAMERA = Camera(100, 60, 80.0, 80.0, 50.0, 30.0)


def moving(distance: float) -> Trajectory:
    """The camera moves to the right by `distance` during the exposure."""
    path = Trajectory(torch.eye(4)[None], "linear", 2)
    with torch.no_grad():
        path.knots[0, :, 0] = torch.tensor([-0.5, 0.5]) * distance
    return path


def without_fine_structure(image: torch.Tensor) -> torch.Tensor:
    """What a model of few Gaussians keeps of an image: means over 15 pixels."""
    planes = image.permute(2, 0, 1)[None]
    return torch.nn.functional.avg_pool2d(planes, 15, 1, 7, count_include_pad=False)[0].permute(1, 2, 0)


def test_paths_follow_depth_and_are_centred() -> None:
    depth = torch.full((60, 100), 2.0)
    depth[:, 40:] = 4.0
    depth[:20] = 0.0  # unknown: the median
    paths = pixel_paths(moving(0.1), 0, CAMERA, depth, 5)
    offsets = torch.stack([paths.offset(view) for view in range(paths.num_views)])
    assert offsets.shape == (5, 60, 100, 2)
    # The camera moves right, so things move left, by f * distance / depth over the whole exposure.
    speed = torch.tensor([0.4, 0.2, 0.0, -0.2, -0.4]) * 80 * 0.1
    assert torch.allclose(offsets[:, 40, 10, 0], speed / 2.0, atol=1e-4)
    assert torch.allclose(offsets[:, 40, 80, 0], speed / 4.0, atol=1e-4)
    assert torch.allclose(offsets[:, 5, 10, 0], speed / 4.0, atol=1e-4)
    assert offsets[..., 1].abs().max() < 1e-4


def test_a_still_frame_comes_back_as_it_was() -> None:
    g = torch.Generator().manual_seed(0)
    observed = torch.rand(60, 100, 3, generator=g)
    model = without_fine_structure(observed)
    offsets = pixel_paths(moving(0.0), 0, CAMERA, torch.ones(60, 100), 3)
    assert (model - observed).abs().mean() > 0.1
    assert (add_detail(model, model, observed, offsets) - observed).abs().mean() < 0.02 * (
        model - observed
    ).abs().mean()


def test_detail_missing_from_the_model_returns_through_the_blur() -> None:
    """The model is a flat grey; the truth has stripes that a path of three pixels blurs but does not erase."""
    x = torch.arange(100, dtype=torch.float32)
    truth = (0.5 + 0.3 * torch.sin(2 * torch.pi * x / 9.0))[None, :, None].expand(60, 100, 3).contiguous()
    offsets = pixel_paths(moving(0.0375), 0, CAMERA, torch.ones(60, 100), 7)  # 3 px
    observed = along_paths(truth, offsets, sign=-1.0)
    flat = torch.full_like(truth, 0.5)
    restored = add_detail(flat, flat, observed, offsets)
    inside = slice(8, 92)

    def error(image: torch.Tensor) -> float:
        return float((image - truth)[:, inside].square().mean().sqrt())

    assert error(restored) < 0.7 * error(observed)
    assert error(restored) < 0.15 * error(flat)


def test_a_model_that_explains_its_photo_is_left_alone() -> None:
    g = torch.Generator().manual_seed(1)
    sharp, photo = torch.rand(60, 100, 3, generator=g), torch.rand(60, 100, 3, generator=g)
    offsets = pixel_paths(moving(0.2), 0, CAMERA, torch.ones(60, 100), 9)
    assert torch.equal(add_detail(sharp, photo, photo, offsets), sharp)


def test_a_photo_softer_than_its_reblur_does_not_soften_the_result() -> None:
    g = torch.Generator().manual_seed(2)
    sharp = torch.rand(60, 100, 3, generator=g)
    soft = along_paths(sharp, pixel_paths(moving(0.05), 0, CAMERA, torch.ones(60, 100), 5))
    still = pixel_paths(moving(0.0), 0, CAMERA, torch.ones(60, 100), 3)  # the path was thought to be a point
    restored = add_detail(sharp, sharp, soft, still)

    def error(image: torch.Tensor) -> float:
        return float((image - sharp)[8:-8, 8:-8].square().mean().sqrt())

    assert error(restored) < 0.6 * error(soft)


def test_a_path_that_does_not_explain_the_photo_is_noticed() -> None:
    """The photo was blurred along x; a path along y of the same length explains it worse than no path at all."""
    g = torch.Generator().manual_seed(4)
    points = torch.rand(400, 3, generator=g) * torch.tensor([2.4, 1.6, 0.2]) + torch.tensor([-1.2, -0.8, 2.0])
    gaussians = Gaussians.from_points(points, torch.rand(400, 3, generator=g), 0)

    def scene(axis: int) -> TrainedScene:
        path = moving(0.0)
        with torch.no_grad():
            path.knots[0, :, axis] = torch.tensor([-0.1, 0.1])
        return TrainedScene(
            gaussians, path, Photometry(1), [CAMERA], torch.full((1,), 2.0), TrainConfig(), 0.0
        )

    right, wrong = scene(0), scene(1)
    photo = reblurred_frame(right, 0, CAMERA, 9)
    good = restored_frame(right, 0, CAMERA, photo, reblurred_frame(right, 0, CAMERA, 9), 9)
    assert good.explained and torch.allclose(good.image, sharp_frame(right, 0, CAMERA), atol=1e-5)
    bad = restored_frame(wrong, 0, CAMERA, photo, reblurred_frame(wrong, 0, CAMERA, 9), 9)
    assert not bad.explained and torch.equal(bad.image, photo)


def test_clipped_highlights_stay_white_in_a_darker_frame() -> None:
    """A scene brighter than white, seen with half the gain: not grey, as white times one half would be."""
    points = torch.tensor([[0.0, 0.0, 2.0]])
    gaussians = Gaussians.from_points(points, torch.tensor([[2.0, 2.0, 2.0]]), 0, opacity=0.99)
    with torch.no_grad():
        gaussians.log_scales.fill_(1.0)
    photometry = Photometry(1)
    with torch.no_grad():
        photometry.log_gains.fill_(-0.7)
    scene = TrainedScene(
        gaussians, moving(0.0), photometry, [CAMERA], torch.full((1,), 2.0), TrainConfig(), 0.0
    )
    assert sharp_frame(scene, 0, CAMERA).amax() == 1.0
