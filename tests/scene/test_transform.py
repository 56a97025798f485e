import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage.transform import SimilarityTransform, estimate_transform

from deblurgs.math import quaternion
from deblurgs.math.lie import se3_exp, so3_exp
from deblurgs.scene.alignment import align_poses, align_to_paths, align_views, picture_grid, umeyama
from deblurgs.scene.transform import Similarity


def rotation(x: float, y: float, z: float) -> NDArray[np.float64]:
    return so3_exp(torch.tensor([x, y, z], dtype=torch.float64)).numpy()


B_FROM_A = Similarity(2.5, rotation(0.3, 2.0, -1.0), np.array([1.0, -2.0, 3.0]))
C_FROM_B = Similarity(0.4, rotation(-1.0, 0.5, 0.2), np.array([0.3, 5.0, -7.0]))


def random_poses(num: int, seed: int = 0) -> NDArray[np.float64]:
    xi = torch.randn(num, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return se3_exp(xi).numpy()


def assert_same(a: Similarity, b: Similarity, atol: float = 1e-12) -> None:
    assert a.scale == pytest.approx(b.scale, abs=atol)
    np.testing.assert_allclose(a.rotation, b.rotation, atol=atol)
    np.testing.assert_allclose(a.translation, b.translation, atol=atol)


def centres(poses: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.linalg.inv(poses)[:, :3, 3]


def with_centres(poses: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same orientations, moved."""
    moved = poses.copy()
    moved[:, :3, 3] = -np.einsum("fij,fj->fi", poses[:, :3, :3], at)
    return moved


def test_inverse_and_composition_act_like_the_maps_they_name() -> None:
    points = np.random.default_rng(0).normal(size=(5, 4, 3))
    np.testing.assert_allclose(
        B_FROM_A.inverse().apply_points(B_FROM_A.apply_points(points)), points, atol=1e-13
    )
    both = C_FROM_B.apply_points(B_FROM_A.apply_points(points))
    np.testing.assert_allclose((C_FROM_B @ B_FROM_A).apply_points(points), both, atol=1e-13)
    assert_same(B_FROM_A @ B_FROM_A.inverse(), Similarity.identity())
    assert_same((C_FROM_B @ B_FROM_A).inverse(), B_FROM_A.inverse() @ C_FROM_B.inverse())
    np.testing.assert_array_equal(Similarity.identity().apply_points(points), points)


def test_moved_cameras_are_rigid_and_see_the_moved_world_alike() -> None:
    poses = random_poses(6)
    points = np.random.default_rng(1).normal(size=(6, 3))
    moved = B_FROM_A.apply_camera_from_world(poses)
    np.testing.assert_array_equal(moved[:, 3], np.tile([0.0, 0, 0, 1], (6, 1)))
    np.testing.assert_allclose(
        moved[:, :3, :3] @ moved[:, :3, :3].transpose(0, 2, 1), np.tile(np.eye(3), (6, 1, 1)), atol=1e-13
    )
    seen = np.einsum("fij,fj->fi", poses[:, :3, :3], points) + poses[:, :3, 3]
    seen_moved = np.einsum("fij,fj->fi", moved[:, :3, :3], B_FROM_A.apply_points(points)) + moved[:, :3, 3]
    np.testing.assert_allclose(seen_moved, B_FROM_A.scale * seen, atol=1e-12)
    np.testing.assert_allclose(centres(moved), B_FROM_A.apply_points(centres(poses)), atol=1e-12)


def test_gaussians_carry_their_covariance_along() -> None:
    generator = torch.Generator().manual_seed(0)
    quats = torch.randn(7, 4, generator=generator, dtype=torch.float64)
    scales = torch.rand(7, 3, generator=generator, dtype=torch.float64) + 0.1

    def covariance(q: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        half = quaternion.to_matrix(quaternion.normalize(q)) * s[:, None]
        return half @ half.transpose(-1, -2)

    linear = torch.from_numpy(B_FROM_A.scale * B_FROM_A.rotation)
    expected = linear @ covariance(quats, scales) @ linear.T
    moved = B_FROM_A.apply_gaussians(quats, scales)
    torch.testing.assert_close(covariance(*moved), expected, rtol=0, atol=1e-13)
    torch.testing.assert_close(moved[0].norm(dim=-1), torch.ones(7, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_torch_and_numpy_agree_and_gradients_pass(dtype: torch.dtype) -> None:
    points = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=dtype, requires_grad=True)
    poses = torch.from_numpy(random_poses(5)).to(dtype).requires_grad_(True)
    for method, given in ((B_FROM_A.apply_points, points), (B_FROM_A.apply_camera_from_world, poses)):
        result = method(given)
        assert result.dtype == dtype
        in_numpy = method(given.detach().numpy())
        assert in_numpy.dtype == given.detach().numpy().dtype
        np.testing.assert_allclose(result.detach().numpy(), in_numpy, rtol=1e-5, atol=1e-5)
        result.sum().backward()
        assert given.grad is not None and given.grad.abs().sum() > 0


def test_wrong_numbers_are_refused_and_fields_cannot_change() -> None:
    eye, zero = np.eye(3), np.zeros(3)
    for scale, turn, shift in (
        (0.0, eye, zero), (-1.0, eye, zero), (np.nan, eye, zero), (1.0, -eye, zero),
        (1.0, 2 * eye, zero), (1.0, eye, zero * np.nan), (1.0, eye[:2], zero), (1.0, eye, zero[:2]),
    ):  # fmt: skip
        with pytest.raises(ValueError):
            Similarity(scale, turn, shift)
    given = np.eye(3)
    similarity = Similarity(1.0, given, zero)
    given[0, 0] = 5.0
    assert similarity.rotation[0, 0] == 1.0
    with pytest.raises(ValueError):
        similarity.rotation[0, 0] = 5.0


@pytest.mark.parametrize("num_points", [3, 4, 50])
def test_umeyama_recovers_an_exact_similarity(num_points: int) -> None:
    src = np.random.default_rng(0).normal(size=(num_points, 3)) + 10.0
    assert_same(umeyama(src, B_FROM_A.apply_points(src)), B_FROM_A, atol=1e-11)


def test_umeyama_agrees_with_scikit_image_on_noisy_points_and_never_mirrors() -> None:
    rng = np.random.default_rng(0)
    src = rng.normal(size=(30, 3))
    for dst in (B_FROM_A.apply_points(src) + 0.3 * rng.normal(size=src.shape), src * [1.0, 1.0, -1.0]):
        theirs = estimate_transform("similarity", src, dst)
        assert isinstance(theirs, SimilarityTransform)
        ours = umeyama(src, dst)
        np.testing.assert_allclose(ours.scale * ours.rotation, theirs.params[:3, :3], atol=1e-12)
        np.testing.assert_allclose(ours.translation, theirs.params[:3, 3], atol=1e-12)
        assert np.linalg.det(ours.rotation) == pytest.approx(1.0)


def test_umeyama_weights_count_like_repeated_points() -> None:
    rng = np.random.default_rng(0)
    src, dst = rng.normal(size=(6, 3)), rng.normal(size=(6, 3))
    times = np.array([3, 1, 0, 2, 1, 5])
    assert_same(umeyama(src, dst, times), umeyama(np.repeat(src, times, 0), np.repeat(dst, times, 0)))


def test_umeyama_refuses_what_has_no_answer() -> None:
    points = np.random.default_rng(0).normal(size=(4, 3))
    for src, dst, weights in (
        (points, points[:3], None), (points[:0], points[:0], None), (points * np.nan, points, None),
        (points * 0 + 7.1, points, None), (points, points * 0, None), (points, points, np.zeros(4)),
        (points, points, np.array([1.0, 1, 1, -1])),
    ):  # fmt: skip
        with pytest.raises(ValueError):
            umeyama(src, dst, weights)


@pytest.mark.parametrize("num_poses", [1, 2, 3, 20])
def test_poses_align_exactly(num_poses: int) -> None:
    src = random_poses(num_poses)
    found = align_poses(src, B_FROM_A.apply_camera_from_world(src))
    expected = B_FROM_A
    if num_poses == 1:  # One camera says nothing about the scale.
        moved = B_FROM_A.apply_camera_from_world(src)
        turn = B_FROM_A.rotation
        expected = Similarity(1.0, turn, centres(moved)[0] - turn @ centres(src)[0])
    assert_same(found, expected, atol=1e-11)


@pytest.mark.parametrize("thickness", [0.0, 1e-12, 1e-6])
def test_centres_on_a_line_are_settled_by_the_orientations(thickness: float) -> None:
    """A dolly shot: noise across the line, of the line's own thickness, must not turn the world about it."""
    rng = np.random.default_rng(0)
    line = np.linspace(-1, 1, 12)[:, None] * np.array([1.0, 2.0, -0.5])
    src = with_centres(random_poses(12), line + thickness * rng.normal(size=(12, 3)))
    dst = B_FROM_A.apply_camera_from_world(src)
    dst = with_centres(dst, centres(dst) + thickness * rng.normal(size=(12, 3)))
    assert_same(align_poses(src, dst), B_FROM_A, atol=1e-11 + 10 * thickness)


def test_cameras_in_one_point_align_with_scale_one() -> None:
    src = with_centres(random_poses(8), np.tile([3.0, 1.0, 2.0], (8, 1)))
    turn = Similarity(1.0, B_FROM_A.rotation, B_FROM_A.translation)
    assert_same(align_poses(src, turn.apply_camera_from_world(src)), turn, atol=1e-11)


def test_noise_in_the_poses_averages_out() -> None:
    src = random_poses(400)
    noise = 0.02 * torch.randn(400, 6, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    dst = se3_exp(noise).numpy() @ B_FROM_A.apply_camera_from_world(src)
    found = align_poses(src, dst)
    assert_same(found, B_FROM_A, atol=0.02)
    assert abs(found.scale / B_FROM_A.scale - 1) < 2e-3


def test_alignment_refuses_wrong_poses() -> None:
    poses = random_poses(3)
    for src, dst in (
        (poses, poses[:2]),
        (poses[:0], poses[:0]),
        (poses[0], poses[0]),
        (poses * np.nan, poses),
    ):
        with pytest.raises(ValueError):
            align_poses(src, dst)


def grid(camera_from_world: np.ndarray) -> np.ndarray:
    """Landmarks over each picture at a depth of 1."""
    count = len(camera_from_world)
    return picture_grid(camera_from_world, np.ones(count), np.tile([0.5, 0.35], (count, 1)))


def facing_forward(num: int, seed: int = 3) -> np.ndarray:
    """Cameras side by side that all look the same way, 1 above the scene's depth of 1."""
    rng = np.random.default_rng(seed)
    tangents = np.concatenate([0.1 * rng.normal(size=(num, 3)), 0.03 * rng.normal(size=(num, 3))], axis=1)
    return se3_exp(torch.from_numpy(tangents)).numpy()


def test_views_align_exactly() -> None:
    src = facing_forward(12)
    dst = B_FROM_A.apply_camera_from_world(src)
    assert_same(align_views(src, dst, grid(src)), B_FROM_A, atol=1e-9)


def off_but_for_the_picture(src: np.ndarray, seed: int) -> np.ndarray:
    """The cameras, shifted and turned so that what lies at depth 1 stays in its place in the picture."""
    shift = 0.05 * np.random.default_rng(seed).normal(size=(len(src), 3)) * [1, 1, 0]
    # Seen at depth 1, a shift to the right and a turn to the right move the picture against each other.
    turn = np.stack([-shift[:, 1], shift[:, 0], 0 * shift[:, 0]], axis=1)
    return se3_exp(torch.from_numpy(np.concatenate([-shift, turn], axis=1))).numpy() @ src


def test_noisy_centres_do_not_turn_what_the_cameras_see() -> None:
    """The pictures agree, the centres do not."""
    src = facing_forward(12)
    dst = off_but_for_the_picture(src, seed=1)
    by_views = apart(align_views(src, dst, grid(src)), src, dst)
    assert by_views < 0.5 * apart(align_poses(src, dst), src, dst)


def test_errors_that_leave_the_landmarks_in_place_count_least_by_them() -> None:
    """As errors of structure from motion do with the points that it placed the cameras by."""
    src = facing_forward(12)
    dst = off_but_for_the_picture(src, seed=4)
    far = picture_grid(src, np.full(12, 3.0), np.tile([0.5, 0.35], (12, 1)))
    there, elsewhere = (apart(align_views(src, dst, marks), src, dst) for marks in (grid(src), far))
    assert there < 0.5 * elsewhere


def test_times_on_the_paths_are_found_with_the_similarity() -> None:
    """Every camera was seen from a place of its own on a path longer than what it errs across."""
    src = facing_forward(12)
    rng = np.random.default_rng(5)
    times, heading = rng.uniform(-0.4, 0.4, 12), rng.uniform(0, 2 * np.pi, 12)
    moves = np.zeros((12, 33, 6))
    along = 0.1 * (np.linspace(-0.5, 0.5, 33) - times[:, None])
    moves[..., 0], moves[..., 1] = along * np.cos(heading)[:, None], along * np.sin(heading)[:, None]
    paths = se3_exp(torch.from_numpy(moves)).numpy() @ B_FROM_A.apply_camera_from_world(src)[:, None]
    found = align_to_paths(src, paths, grid(src), np.full(12, 1e-3))
    middle = align_views(src, paths[:, 16], grid(src))
    exact = B_FROM_A.apply_camera_from_world(src)
    assert apart(found, src, exact) < 0.1 * apart(middle, src, exact)


def apart(dst_from_src: Similarity, src: np.ndarray, dst: np.ndarray) -> float:
    """Mean distance, in focal lengths, of the middle of each picture at depth 1 from where the other camera has it."""
    seen = np.linalg.inv(src)[:, :3, 2] + np.linalg.inv(src)[:, :3, 3]
    local = np.einsum("fij,fj->fi", dst[:, :3, :3], dst_from_src.apply_points(seen)) + dst[:, :3, 3]
    return float(np.linalg.norm(local[:, :2] / local[:, 2:], axis=1).mean())


@pytest.mark.parametrize(
    "lost",
    [
        {4: [0.5, 0, 0, 0, 0.4, 0]}, {4: [0, 0, 0, 0, 0.8, 0]}, {4: [0, 0, 0, 1.5, 0, 0]}, {4: [5, 0, 0, 0, 0, 0]},
        {4: [0, 0, 0, 0, 3.14, 0]}, {2: [0, 0, 0, 0.9, 0, 0], 9: [0.3, 0, 0, 0, -0.6, 0]},
    ],
)  # fmt: skip
def test_lost_cameras_do_not_count(lost: dict[int, list[float]]) -> None:
    src = facing_forward(12)
    dst = B_FROM_A.apply_camera_from_world(src)
    for i, off in lost.items():
        dst[i] = se3_exp(torch.tensor(off, dtype=torch.float64)).numpy() @ dst[i]
    assert_same(align_views(src, dst, grid(src)), B_FROM_A, atol=2e-3)


def noisy(seed: int, num_lost: int) -> float:
    """How far off the alignment of 12 cameras is, each turned by a milliradian of noise, some of them lost."""
    rng = np.random.default_rng(seed)
    src = facing_forward(12)
    exact = B_FROM_A.apply_camera_from_world(src)
    turns = np.concatenate([np.zeros((12, 3)), 0.001 * rng.normal(size=(12, 3))], axis=1)
    dst = se3_exp(torch.from_numpy(turns)).numpy() @ exact
    for i in rng.choice(12, num_lost, replace=False):
        off = np.concatenate([0.3 * rng.normal(size=3), 0.6 * rng.normal(size=3)])
        dst[i] = se3_exp(torch.from_numpy(off)).numpy() @ dst[i]
    return apart(align_views(src, dst, grid(src)), src, exact)


@pytest.mark.parametrize("num_lost", [1, 2, 3])
def test_lost_cameras_do_not_count_among_noisy_ones(num_lost: int) -> None:
    """With weights that never fall to nothing, three of them would move the others by a tenth of a picture."""
    assert np.median([noisy(seed, num_lost) for seed in range(40)]) < 8e-4


def test_a_camera_has_one_weight() -> None:
    """With one for each of its points, those that happen to agree would count more: 4.9e-4."""
    assert np.mean([noisy(seed, 0) for seed in range(40)]) < 4.6e-4


def test_cameras_of_which_less_is_expected_count_less() -> None:
    src = facing_forward(12)
    exact = B_FROM_A.apply_camera_from_world(src)
    noise = np.where(np.arange(12) < 6, 1.0, 20.0)
    off = np.zeros((12, 6))
    off[:, 4] = 0.004 * np.where(np.arange(12) < 6, 0.0, 1.0 + 0.1 * np.arange(12))  # all to the same side
    dst = se3_exp(torch.from_numpy(off)).numpy() @ exact
    equal, weighted = (align_views(src, dst, grid(src), noise=n) for n in (None, noise))
    assert apart(weighted, src, exact) < 0.1 * apart(equal, src, exact)


def test_one_view_and_coincident_views_align() -> None:
    for src in (facing_forward(1), np.repeat(facing_forward(1), 4, axis=0)):
        dst = B_FROM_A.apply_camera_from_world(src)
        found = align_views(src, dst, grid(src))
        moved = found.apply_camera_from_world(src)
        # The scale of a single view is unknown; the view itself is not.
        np.testing.assert_allclose(moved[:, :3, :3], dst[:, :3, :3], atol=1e-6)
