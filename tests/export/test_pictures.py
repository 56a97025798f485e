"""Depth pictures and montages."""

from pathlib import Path

import numpy as np
import pytest

from deblurgs.errors import CaptureError
from deblurgs.export.depth import depth_factor, read_depth, write_depth
from deblurgs.export.montage import side_by_side, wipe, wipe_share


def test_depth_comes_back_within_half_a_step(tmp_path: Path) -> None:
    depth = np.random.default_rng(0).uniform(0.2, 6.0, (17, 23)).astype(np.float32)
    depth[0, :3] = 0.0, np.nan, np.inf
    factor = depth_factor(6.0)
    assert factor == 1e4
    write_depth(tmp_path / "d.png", depth, factor)
    expected = np.where(np.isfinite(depth), depth, 0)
    np.testing.assert_allclose(read_depth(tmp_path / "d.png", factor), expected, atol=0.51 / factor)
    np.testing.assert_array_equal(np.load(tmp_path / "d.npy"), expected)


def test_depth_png_is_16_bit_for_other_readers(tmp_path: Path) -> None:
    import av

    write_depth(tmp_path / "d.png", np.full((8, 8), 5.0, np.float32), 1e4)
    with av.open(str(tmp_path / "d.png")) as container:
        frame = next(container.decode(video=0))
    assert frame.format.name == "gray16be" and int(frame.to_ndarray()[0, 0]) == 50000


def test_what_is_no_depth_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "d.png").write_bytes(b"no picture")
    with pytest.raises(CaptureError, match=r"d\.png"):
        read_depth(tmp_path / "d.png", 1.0)


def test_montages_show_both_pictures() -> None:
    dark, light = np.full((6, 40, 3), 10, np.uint8), np.full((6, 40, 3), 200, np.uint8)
    pair = side_by_side(dark, light)
    assert pair.shape == (6, 84, 3) and pair[0, 0, 0] == 10 and pair[0, -1, 0] == 200
    half = wipe(dark, light, 0.5)
    assert half[0, 0, 0] == 10 and half[0, -1, 0] == 200, "before belongs left of the bar, after right"
    np.testing.assert_array_equal(wipe(dark, light, 0.0), dark)
    np.testing.assert_array_equal(wipe(dark, light, 1.0), light)
    shares = [wipe_share(i, 21) for i in range(21)]
    assert shares[0] == shares[-1] == pytest.approx(0) and shares[10] == pytest.approx(1)
    with pytest.raises(ValueError, match="one size"):
        wipe(dark, light[:, :10], 0.5)
