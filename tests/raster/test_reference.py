"""The single truth needs its own truths: scalar loops, closed forms and invariants."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from raster_scenes import (
    CAMERA,
    F64,
    Scene,
    assert_equal_images,
    eye,
    join,
    one_gaussian,
    one_view,
    random_poses,
    random_scene,
)
from torch import Tensor

from deblurgs.math import quaternion
from deblurgs.math.color import linear_from_srgb
from deblurgs.math.sh import rgb_to_sh0, sh_to_color
from deblurgs.raster import api, reference
from deblurgs.raster.api import (
    ALPHA_CUTOFF,
    EPS2D,
    FRUSTUM_MARGIN,
    NEAR,
    OPACITY_MAX,
    TRANSMITTANCE_STOP,
    Rendered,
    ScreenStatistics,
)
from deblurgs.raster.reference import render_exposure
from deblurgs.scene.camera import Camera

# --- against the definition ---


def loop_render(scene: Scene, pose: Tensor, camera: Camera, background: Tensor, antialiased: bool):
    """One view by scalar loops over pixels and Gaussians, straight from the words of the border.

    The Jacobian is differentiated numerically from the pinhole equation, so that no formula is shared.
    """
    rotation, translation = pose[:3, :3].numpy(), pose[:3, 3].numpy()
    centre = np.linalg.inv(pose.numpy())[:3, 3]
    sh = torch.cat([scene.sh0, scene.shN], dim=1)
    limit = (
        FRUSTUM_MARGIN * max(camera.cx, camera.width - camera.cx) / camera.fx,
        FRUSTUM_MARGIN * max(camera.cy, camera.height - camera.cy) / camera.fy,
    )

    def project(point: np.ndarray) -> np.ndarray:
        return np.array([camera.fx * point[0], camera.fy * point[1]]) / point[2] + [camera.cx, camera.cy]

    drawn = []
    for i in range(scene.means.shape[0]):
        mean = scene.means[i].numpy()
        point = rotation @ mean + translation
        if point[2] < NEAR:
            continue
        at = point.copy()
        for axis in range(2):
            at[axis] = np.clip(at[axis], -limit[axis] * at[2], limit[axis] * at[2])
        jacobian = np.empty((2, 3))
        for axis in range(3):
            step = np.zeros(3)
            step[axis] = 1e-6
            jacobian[:, axis] = (project(at + step) - project(at - step)) / 2e-6
        turn = quaternion.to_matrix(quaternion.normalize(scene.quats[i])).numpy()
        world = turn @ np.diag(scene.scales[i].numpy() ** 2) @ turn.T
        sharp = jacobian @ rotation @ world @ rotation.T @ jacobian.T
        blurred = sharp + EPS2D * np.eye(2)
        opacity = float(scene.opacities[i])
        if antialiased:
            opacity *= math.sqrt(max(0.0, np.linalg.det(sharp) / np.linalg.det(blurred)))
        towards = torch.from_numpy((mean - centre) / np.linalg.norm(mean - centre))
        color = sh_to_color(sh[i], towards).clamp(min=0).numpy()
        drawn.append((point[2], i, project(point), np.linalg.inv(blurred), min(opacity, OPACITY_MAX), color))
    drawn.sort(key=lambda item: item[:2])

    image = np.zeros((camera.height, camera.width, 3))
    alpha, depth = np.zeros(image.shape[:2]), np.zeros(image.shape[:2])
    touched = np.zeros(scene.means.shape[0], dtype=bool)
    stopped = 0
    for row in range(camera.height):
        for column in range(camera.width):
            transmittance = 1.0
            for z, i, mean_px, conic, opacity, color in drawn:
                if transmittance < TRANSMITTANCE_STOP:
                    stopped += 1
                    break
                d = np.array([column + 0.5, row + 0.5]) - mean_px
                a = opacity * math.exp(-0.5 * d @ conic @ d)
                if a < ALPHA_CUTOFF:
                    continue
                touched[i] = True
                image[row, column] += a * transmittance * color
                depth[row, column] += a * transmittance * z
                transmittance *= 1 - a
            image[row, column] += transmittance * background.numpy()
            alpha[row, column] = 1 - transmittance
    return Rendered(*(torch.from_numpy(x) for x in (image, alpha, depth))), touched, stopped


@pytest.mark.parametrize("antialiased", [False, True])
def test_agrees_with_scalar_loops(antialiased: bool, generator: torch.Generator) -> None:
    scene = random_scene(24, generator)
    # A stack of opaque ones for the transmittance stop, one far outside the picture for the clamped Jacobian,
    # one behind the camera, one too small to be seen between pixels.
    stack = join(*(one_gaussian(0.1, 0.0, 2.0 + 0.01 * i, 0.6, 0.999) for i in range(6)))
    stack = replace(stack, shN=torch.zeros(6, 15, 3, dtype=F64))
    scene = join(scene, stack)
    scene.means[0] = torch.tensor([6.0, -3.0, 2.5], dtype=F64)
    scene.scales[0] = torch.tensor([2.0, 1.5, 3.0], dtype=F64)
    scene.means[1, 2] = -3.0
    scene.opacities[2] = 0.5 * ALPHA_CUTOFF
    pose = random_poses(1, generator, size=0.2)[0]
    background = torch.tensor([0.3, 0.6, 0.1], dtype=F64)
    statistics = ScreenStatistics()
    ours = one_view(
        scene, viewmat=pose, background=background, antialiased=antialiased, statistics=statistics
    )
    truth, touched, stopped = loop_render(scene, pose, CAMERA, background, antialiased)
    assert stopped > 10 and not touched[1] and not touched[2]
    assert antialiased or touched[0]
    assert_equal_images(ours, truth, atol=2e-8)  # The numerical Jacobian is good to nine digits.
    assert statistics.visible is not None
    np.testing.assert_array_equal(statistics.visible.numpy(), touched)


def test_one_gaussian_on_the_axis_has_a_closed_form() -> None:
    scene = one_gaussian(0.0, 0.0, 4.0, scale=0.5, opacity=0.8)
    camera = Camera(15, 15, 12.0, 12.0, 7.5, 7.5)
    rendered = one_view(scene, camera)
    y, x = torch.meshgrid(torch.arange(15, dtype=F64), torch.arange(15, dtype=F64), indexing="ij")
    variance = (0.5 * 12.0 / 4.0) ** 2 + 0.3
    alpha = 0.8 * torch.exp(-((x - 7) ** 2 + (y - 7) ** 2) / (2 * variance))
    alpha = torch.where(alpha >= 1 / 255, alpha, 0.0)
    color = torch.tensor([0.9, 0.5, 0.2], dtype=F64)
    assert_equal_images(rendered, Rendered(alpha[..., None] * color, alpha, alpha * 4.0))
    assert (alpha == 0).any() and (alpha > 0.79).any()


def test_antialiasing_and_opacity_clamp_have_closed_forms() -> None:
    camera = Camera(3, 3, 12.0, 12.0, 1.5, 1.5)
    sharp = (0.05 * 12.0 / 4.0) ** 2
    filtered = one_view(one_gaussian(0, 0, 4.0, 0.05, 0.8), camera, antialiased=True)
    assert float(filtered.alpha[1, 1]) == pytest.approx(0.8 * sharp / (sharp + 0.3), rel=1e-12)
    opaque = one_view(one_gaussian(0, 0, 4.0, 0.05, 0.9999), camera)
    assert float(opaque.alpha[1, 1]) == pytest.approx(OPACITY_MAX, rel=1e-12)
    # The clamp acts on the opacity, not on the alpha of a pixel: beside the centre it scales the whole bell.
    beside = OPACITY_MAX * math.exp(-0.5 / (sharp + 0.3))
    assert float(opaque.alpha[1, 2]) == pytest.approx(beside, rel=1e-12)


def test_two_gaussians_blend_front_to_back_whatever_their_order() -> None:
    near, far = one_gaussian(0, 0, 2.0, 0.3, 0.6), one_gaussian(0, 0, 3.0, 0.45, 0.7)
    far.sh0[:] = rgb_to_sh0(torch.tensor([0.1, 0.2, 1.0], dtype=F64))
    camera = Camera(3, 3, 9.0, 9.0, 1.5, 1.5)
    for scene in (join(near, far), join(far, near)):
        pixel = one_view(scene, camera, background=torch.ones(3, dtype=F64)).image[1, 1]
        expected = (
            0.6 * torch.tensor([0.9, 0.5, 0.2])
            + 0.4 * 0.7 * torch.tensor([0.1, 0.2, 1.0])
            + 0.4 * 0.3 * torch.ones(3)
        )
        torch.testing.assert_close(pixel, expected.double(), rtol=0, atol=1e-7)


def test_equal_depths_keep_the_order_of_indices() -> None:
    """Forty in one place, enough for a sort that is not stable to show; one of the first is red."""
    num = 40
    scene = join(*[one_gaussian(0, 0, 2.0, 0.3, 0.3)] * num)
    camera = Camera(1, 1, 9.0, 9.0, 0.5, 0.5)
    for red in (0, 1, 7):
        scene.sh0[:] = rgb_to_sh0(torch.tensor([0.0, 0.0, 1.0], dtype=F64))
        scene.sh0[red] = rgb_to_sh0(torch.tensor([1.0, 0.0, 0.0], dtype=F64))
        assert float(one_view(scene, camera).image[0, 0, 0]) == pytest.approx(0.3 * 0.7**red, rel=1e-9)


def test_the_mean_is_taken_in_linear_light(generator: torch.Generator) -> None:
    scene, poses = random_scene(10, generator), random_poses(3, generator)
    weights = torch.tensor([0.2, 0.5, 0.3], dtype=F64)
    background = torch.tensor([0.2, 0.9, 0.5], dtype=F64)
    views = [one_view(scene, viewmat=pose, background=background) for pose in poses]
    for linear_mean in (True, False):
        exposure = render_exposure(
            *scene.tensors(), poses, weights, CAMERA, background=background, linear_mean=linear_mean
        )
        images = [linear_from_srgb(view.image) if linear_mean else view.image for view in views]
        expected = [
            sum(w * x for w, x in zip(weights, stack, strict=True))
            for stack in (images, [view.alpha for view in views], [view.depth for view in views])
        ]
        assert_equal_images(exposure, Rendered(*expected))  # type: ignore[arg-type]


def test_colour_follows_the_camera_of_each_view(generator: torch.Generator) -> None:
    """A Gaussian that is red seen from the left and dark from the right, through two cameras in one
    exposure."""
    scene = replace(one_gaussian(0, 0, 3.0), shN=torch.zeros(1, 3, 3, dtype=F64))
    scene.sh0[:] = 0
    scene.shN[0, 2, 0] = -1.0  # colour = 0.5 + C1 * x for the first channel
    camera = Camera(5, 5, 8.0, 8.0, 2.5, 2.5)
    angle = 0.5
    c, s = math.cos(angle), math.sin(angle)
    seen = []
    for sign in (1.0, -1.0):
        turned = torch.tensor(
            [[c, 0, sign * s, 0], [0, 1, 0, 0], [-sign * s, 0, c, 0], [0, 0, 0, 1.0]], dtype=F64
        )  # Orbit the camera about the Gaussian so that it stays in the middle of the picture.
        turned[:3, 3] = torch.tensor([0, 0, 3.0], dtype=F64) - turned[:3, :3] @ scene.means[0]
        centre = -turned[:3, :3].T @ turned[:3, 3]
        towards = (scene.means[0] - centre) / 3.0
        pixel = one_view(scene, camera, turned)
        seen.append(float(pixel.image[2, 2, 0] / pixel.alpha[2, 2]))
        expected = 0.5 + math.sqrt(3 / (4 * math.pi)) * float(towards[0])
        assert seen[-1] == pytest.approx(expected, rel=1e-12)
    assert abs(seen[0] - seen[1]) > 0.3


def test_lower_degree_ignores_the_rest(generator: torch.Generator) -> None:
    scene = random_scene(8, generator)
    for degree in range(4):
        cut = replace(scene, shN=scene.shN[:, : (degree + 1) ** 2 - 1])
        assert_equal_images(one_view(scene, sh_degree=degree), one_view(cut), atol=0)


# --- invariants ---


def test_order_of_gaussians_does_not_matter(generator: torch.Generator) -> None:
    scene = random_scene(30, generator)
    shuffled = scene[torch.randperm(30, generator=generator)]
    assert_equal_images(one_view(scene), one_view(shuffled))


def test_one_pose_is_rasterize_and_equal_poses_are_one(generator: torch.Generator) -> None:
    scene, pose = random_scene(15, generator), random_poses(1, generator)
    single = api.rasterize(*scene.tensors(), pose[0], CAMERA, backend="reference")
    assert_equal_images(single, one_view(scene, viewmat=pose[0]), atol=0)
    weights = torch.tensor([0.1, 0.3, 0.2, 0.15, 0.25], dtype=F64)
    for linear_mean in (True, False):
        one = render_exposure(
            *scene.tensors(), pose, torch.ones(1, dtype=F64), CAMERA, linear_mean=linear_mean
        )
        five = render_exposure(
            *scene.tensors(), pose.expand(5, 4, 4), weights, CAMERA, linear_mean=linear_mean
        )
        assert_equal_images(one, five, atol=1e-14)


def test_length_and_sign_of_quaternions_do_not_matter(generator: torch.Generator) -> None:
    scene = random_scene(10, generator)
    assert_equal_images(one_view(scene), one_view(replace(scene, quats=-7.0 * scene.quats)), atol=1e-13)


def test_moving_world_and_camera_together_changes_nothing(generator: torch.Generator) -> None:
    scene = random_scene(10, generator, degree=0)
    new_from_old = random_poses(1, generator, size=1.0)[0]
    old_pose = random_poses(1, generator)[0]
    turn = quaternion.from_matrix(new_from_old[:3, :3]).expand(10, 4)
    moved = replace(
        scene,
        means=scene.means @ new_from_old[:3, :3].T + new_from_old[:3, 3],
        quats=quaternion.multiply(turn, quaternion.normalize(scene.quats)),
    )
    new_pose = old_pose @ torch.linalg.inv(new_from_old)
    assert_equal_images(one_view(scene, viewmat=old_pose), one_view(moved, viewmat=new_pose))


def empty_scene() -> Scene:
    return one_gaussian(0, 0, 1)[torch.zeros(0, dtype=torch.long)]


@pytest.mark.parametrize(
    "scene",
    [
        empty_scene(),
        one_gaussian(0, 0, -2.0),
        one_gaussian(0, 0, 0.99 * NEAR),
        one_gaussian(400.0, 0, 2.0),
        one_gaussian(0, 0, 2.0, opacity=0.9 * ALPHA_CUTOFF),
    ],
    ids=["empty", "behind", "nearer than near", "far outside", "too faint"],
)
def test_nothing_to_see_is_the_background_with_zero_gradients(scene: Scene) -> None:
    leaves = [tensor.clone().requires_grad_(True) for tensor in scene.tensors()]
    poses = eye().requires_grad_(True)
    background = torch.tensor([0.2, 0.5, 0.8], dtype=F64, requires_grad=True)
    statistics = ScreenStatistics()
    out = render_exposure(
        *leaves, poses, torch.ones(1, dtype=F64), CAMERA, background=background, statistics=statistics
    )
    torch.testing.assert_close(out.image, linear_from_srgb(background).expand(12, 16, 3), rtol=0, atol=1e-15)
    assert not out.alpha.any() and not out.depth.any()
    assert statistics.visible is not None and not statistics.visible.any()
    out.image.sum().backward()
    for leaf in [*leaves, poses]:
        assert leaf.grad is not None and not leaf.grad.any()
    assert background.grad is not None and (background.grad > 0).all()


def test_no_background_is_black(generator: torch.Generator) -> None:
    scene = random_scene(5, generator)
    assert_equal_images(one_view(scene), one_view(scene, background=torch.zeros(3, dtype=F64)), atol=0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("field", ["means", "quats", "scales", "opacities", "sh0", "shN"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_broken_gaussians_are_dropped_without_a_trace(
    bad: float, field: str, dtype: torch.dtype, generator: torch.Generator
) -> None:
    check_dropped(field, bad, dtype, generator)


@pytest.mark.parametrize("field", ["means", "scales"])
def test_overflowing_gaussians_are_dropped_without_a_trace(field: str, generator: torch.Generator) -> None:
    check_dropped(field, torch.finfo(torch.float32).max, torch.float32, generator)


def check_dropped(field: str, bad: float, dtype: torch.dtype, generator: torch.Generator) -> None:
    scene = Scene(*(tensor.to(dtype) for tensor in random_scene(6, generator).tensors()))
    scene.means[2] = torch.tensor([0.0, 0.0, 2.0])  # in the middle and in front: it would be seen
    scene.opacities[2] = 0.9
    getattr(scene, field)[2].view(-1)[-1] = bad
    poses = random_poses(2, generator).to(dtype)
    results = []
    keep = torch.tensor([0, 1, 3, 4, 5])
    for subset in (scene, scene[keep]):
        leaves = [tensor.clone().requires_grad_(True) for tensor in (*subset.tensors(), poses)]
        out = render_exposure(*leaves, torch.full((2,), 0.5, dtype=dtype), CAMERA, antialiased=True)
        results.append((out, torch.autograd.grad(out.image.sum() + out.depth.sum(), leaves)))
    (with_bad, gradients), (without, expected) = results
    assert_equal_images(with_bad, without, atol=1e-6 if dtype == torch.float32 else 1e-13)
    for ours, theirs in zip(gradients[:6], expected[:6], strict=True):
        assert not ours[2].any()
        torch.testing.assert_close(ours[keep], theirs, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(gradients[6], expected[6], rtol=1e-4, atol=1e-3)


def test_zero_quaternions_are_dropped() -> None:
    scene = join(one_gaussian(0.2, 0, 2.0), one_gaussian(0, 0, 1.5))
    both = one_view(scene)
    scene.quats[1] = 0.0
    alone = one_view(scene[torch.tensor([0])])
    assert_equal_images(one_view(scene), alone)
    assert (both.image - alone.image).abs().max() > 0.1


def test_flat_gaussians_are_drawn_with_finite_gradients() -> None:
    flat = one_gaussian(0, 0, 2.0)
    flat.scales[0, 2] = 0.0
    leaves = [tensor.clone().requires_grad_(True) for tensor in flat.tensors()]
    out = render_exposure(*leaves, eye(), torch.ones(1, dtype=F64), CAMERA, antialiased=True)
    out.image.sum().backward()
    assert out.alpha.max() > 0.5
    assert all(leaf.grad is not None and leaf.grad.isfinite().all() for leaf in leaves)


def test_a_broken_pose_is_named(generator: torch.Generator) -> None:
    poses = random_poses(3, generator)
    poses[2, 1, 1] = math.inf
    with pytest.raises(ValueError, match="view 2 of 3"):
        render_exposure(*random_scene(2, generator).tensors(), poses, torch.ones(3, dtype=F64) / 3, CAMERA)


def test_row_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch, generator: torch.Generator) -> None:
    scene = random_scene(9, generator)
    results = []
    for pairs in (1, 9 * 16 * 5, 1 << 30):  # one row, five rows and all rows at a time
        monkeypatch.setattr(reference, "_PAIRS_PER_CHUNK", pairs)
        leaves = [tensor.clone().requires_grad_(True) for tensor in scene.tensors()]
        out = render_exposure(*leaves, eye(), torch.ones(1, dtype=F64), CAMERA)
        results.append((out, torch.autograd.grad(out.image.square().sum(), leaves)))
    for out, gradients in results[1:]:
        assert_equal_images(out, results[0][0], atol=1e-14)
        for ours, first in zip(gradients, results[0][1], strict=True):
            torch.testing.assert_close(ours, first, rtol=1e-10, atol=1e-10)


def test_float32_is_close_to_float64(generator: torch.Generator) -> None:
    scene = random_scene(20, generator)
    single = Scene(*(tensor.float() for tensor in scene.tensors()))
    rough = render_exposure(*single.tensors(), eye().float(), torch.ones(1), CAMERA)
    exact = render_exposure(*scene.tensors(), eye(), torch.ones(1, dtype=F64), CAMERA)
    assert rough.image.dtype == torch.float32
    torch.testing.assert_close(rough.image.double(), exact.image, rtol=0, atol=5e-4)
