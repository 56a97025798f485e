"""Gaussians on their way to the browser: nothing non-finite, nothing lost in 16 bits."""

from pathlib import Path

import numpy as np
import pytest
import torch
from view_scene import content, splat_arrays

from deblurgs.errors import UsageError
from deblurgs.export.ply import SplatArrays
from deblurgs.math.quaternion import to_matrix
from deblurgs.scene.transform import Similarity
from deblurgs.train.checkpoint import save_scene
from deblurgs.view.splats import browser_splats, read_checkpoint_splats


def scaled_scene(factor: float) -> SplatArrays:
    a = splat_arrays(100)
    return SplatArrays(
        a.means * np.float32(factor), a.quats_wxyz, a.log_scales + np.float32(np.log(factor)), a.logit_opacities,
        a.sh0, a.shN,
    )  # fmt: skip


@pytest.mark.parametrize("factor", [1e-4, 1.0, 1e4])
def test_covariances_survive_half_precision_at_any_scale(factor: float) -> None:
    arrays = scaled_scene(factor)
    splats = browser_splats(arrays)
    sent = splats.covariances.astype(np.float16).astype(np.float64) * splats.scale**2
    rotation = to_matrix(
        torch.nn.functional.normalize(torch.from_numpy(arrays.quats_wxyz).double(), dim=-1)
    ).numpy()
    std = np.exp(arrays.log_scales.astype(np.float64))
    exact = rotation @ (std[:, :, None] ** 2 * rotation.transpose(0, 2, 1))
    size = np.abs(exact).max(axis=(1, 2), keepdims=True)
    assert (np.abs(sent - exact) / size).max() < 2e-3
    assert np.allclose(splats.centers * splats.scale, arrays.means, rtol=1e-5)


def test_what_is_not_finite_is_left_out_and_said() -> None:
    a = splat_arrays(50)
    a.means[3, 1], a.log_scales[5, 0], a.logit_opacities[7], a.sh0[9, 2] = np.nan, np.inf, np.nan, -np.inf
    a.quats_wxyz[11], a.log_scales[13] = 0.0, 80.0
    splats = browser_splats(a)
    assert (len(splats.centers), splats.dropped) == (44, 6)
    assert np.isfinite(splats.covariances.astype(np.float16)).all()
    assert "6 Gaussians" in (splats.note() or "")


def test_empty_scene_and_too_large_one() -> None:
    a = splat_arrays(0)
    assert len(browser_splats(a).centers) == 0
    a = splat_arrays(300)
    a.logit_opacities[1::3] = -5.0
    a.log_scales[2::3] -= 3.0
    many = browser_splats(a, max_splats=100)
    assert (len(many.centers), many.thinned) == (100, 200)
    np.testing.assert_allclose(many.centers * many.scale, a.means[::3], rtol=1e-5)  # neither faint nor small
    assert "200" in (many.note() or "")


def test_a_checkpoint_is_read_without_torch(tmp_path: Path) -> None:
    frames = content().frames
    assert frames is not None
    path = tmp_path / "scene.safetensors"
    save_scene(path, frames.scene, frames.names, Similarity(1.0, np.eye(3), np.zeros(3)))
    arrays, poses = read_checkpoint_splats(path)
    assert np.array_equal(arrays.means, splat_arrays().means)
    assert np.array_equal(poses, frames.scene.trajectory.camera_from_world_sfm.double().numpy())
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(UsageError, match="not a trained scene"):
        read_checkpoint_splats(path)
