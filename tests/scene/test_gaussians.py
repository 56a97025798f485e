import numpy as np
import torch

from deblurgs.math.lie import so3_exp
from deblurgs.raster.reference import render_exposure
from deblurgs.scene.camera import Camera
from deblurgs.scene.gaussians import Gaussians, neighbour_distance
from deblurgs.scene.transform import Similarity


def random_gaussians(num: int = 12, seed: int = 0) -> Gaussians:
    g = torch.Generator().manual_seed(seed)
    return Gaussians(
        means=torch.randn(num, 3, generator=g) * 0.4 + torch.tensor([0.0, 0.0, 3.0]),
        quats=torch.randn(num, 4, generator=g),
        log_scales=torch.randn(num, 3, generator=g) * 0.3 - 2.0,
        logit_opacities=torch.randn(num, generator=g),
        sh0=torch.randn(num, 1, 3, generator=g) * 0.5,
        shN=torch.randn(num, 15, 3, generator=g) * 0.2,
    )


def test_a_similarity_of_scene_and_camera_leaves_the_picture_alone() -> None:
    """Includes view-dependent colour: harmonics must turn with the scene."""
    gaussians = random_gaussians()
    rotation = so3_exp(torch.tensor([0.7, -0.4, 1.1], dtype=torch.float64)).numpy()
    similarity = Similarity(2.5, rotation, np.array([0.3, -1.0, 0.2]))
    moved = gaussians.transformed(similarity)
    camera = Camera(40, 30, 50.0, 50.0, 20.0, 15.0)
    pose = np.eye(4)

    def image(g: Gaussians, view: np.ndarray) -> torch.Tensor:
        viewmat = torch.from_numpy(np.ascontiguousarray(view)).float()[None]
        return render_exposure(
            g.means,
            g.quats,
            g.scales,
            g.opacities,
            g.sh0,
            g.shN,
            viewmat,
            torch.ones(1),
            camera,
            linear_mean=False,
        ).image

    # eps2d acts in pixels, and the similarity keeps pixels, so the images agree to rounding.
    difference = image(gaussians, pose) - image(moved, similarity.apply_camera_from_world(pose))
    assert difference.abs().max() < 1e-4
    assert image(gaussians, pose).max() > 0.2


def test_points_become_gaussians_that_touch_their_neighbours() -> None:
    grid = torch.stack(torch.meshgrid(*[torch.arange(4.0)] * 3, indexing="ij"), -1).reshape(-1, 3)
    assert torch.allclose(neighbour_distance(grid), torch.ones(64))
    g = Gaussians.from_points(grid, torch.full((64, 3), 0.25), sh_degree=2)
    assert torch.allclose(g.scales, torch.full((64, 3), 0.5))
    assert torch.allclose(g.opacities, torch.full((64,), 0.5))
    assert g.shN.shape == (64, 8, 3)


def test_one_point_and_coincident_points_give_finite_radii() -> None:
    assert torch.isfinite(neighbour_distance(torch.zeros(1, 3))).all()
    assert (neighbour_distance(torch.zeros(5, 3)) > 0).all()
