from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch

from deblurgs.errors import CaptureError
from deblurgs.math.color import linear_from_srgb, srgb_from_linear
from deblurgs.restore.mimo_unet import MimoConfig, MimoUNet
from deblurgs.restore.shake import convolve
from deblurgs.restore.tiling import restore_pixels, tiles_along
from deblurgs.restore.weights import load_network


@pytest.fixture
def network() -> MimoUNet:
    torch.manual_seed(1)
    return MimoUNet(MimoConfig(4, 1)).eval()


class Identity(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))
        self.largest = 0

    def forward(self, photo: torch.Tensor) -> list[torch.Tensor]:
        self.largest = max(self.largest, photo.shape[-1], photo.shape[-2])
        return [photo]


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("size", [(1, 1), (2, 7), (5, 130), (64, 64), (65, 63), (200, 301)])
def test_any_size_and_depth_passes_unchanged_through_a_network_that_changes_nothing(
    size: tuple[int, int], kind: type
) -> None:
    pixels = np.random.default_rng(0).integers(0, np.iinfo(kind).max, (*size, 3)).astype(kind)
    identity = Identity()
    assert np.array_equal(restore_pixels(identity, pixels, tile=64, overlap=16), pixels)
    assert identity.largest <= 64, "memory follows the tile, not the photo"


def test_weights_that_make_no_picture_are_told(network: MimoUNet) -> None:
    torch.nn.init.constant_(network.feat_extract[5].main[0].weight, 3e38)
    torch.nn.init.constant_(network.feat_extract[0].main[0].bias, 3e38)
    with pytest.raises(CaptureError, match="no picture"):
        restore_pixels(network, np.zeros((20, 20, 3), np.uint8))


def test_tiles_leave_no_seams(network: MimoUNet) -> None:
    x = np.linspace(0, 8 * np.pi, 300)
    smooth = 0.5 + 0.25 * np.sin(x)[None, :, None] + 0.2 * np.cos(x[:220])[:, None, None]
    pixels = (np.repeat(smooth, 3, 2) * 65535).clip(0, 65535).astype(np.uint16)
    whole = restore_pixels(network, pixels, tile=512, overlap=64).astype(float) / 65535
    tiled = restore_pixels(network, pixels, tile=160, overlap=48).astype(float) / 65535
    assert np.abs(whole - tiled).max() < 2e-3
    # Without the overlap the cuts would show: the same tiles side by side are far from the whole.
    cut = np.concatenate(
        [
            restore_pixels(network, np.ascontiguousarray(part), tile=512).astype(float) / 65535
            for part in (pixels[:, :160], pixels[:, 160:])
        ],
        axis=1,
    )
    assert np.abs(whole - cut).max() > 5e-3


@pytest.mark.parametrize(("most", "overlap"), [(64, 16), (512, 64), (128, 64)])
def test_tiles_cover_everything_and_overlap_enough_but_hardly_more(most: int, overlap: int) -> None:
    for size in (10, 64, 65, 100, 127, 129, 500, 513, 720, 1280, 4000, 6000):
        side, starts = tiles_along(size, most, overlap)
        assert side <= most and side % 4 == 0 and side >= 2 * overlap
        covered = np.zeros(size, bool)
        for start in starts:
            covered[start : start + side] = True
        assert covered.all() and starts[0] == 0 and starts[-1] + min(side, size) == size
        shared = [a + side - b for a, b in pairwise(starts)]
        # Rounding of the starts takes a pixel at most; neighbours share as little as tiles of this side can.
        assert min(shared, default=overlap) >= overlap - 1
        if side > 2 * overlap:
            assert sum(shared) <= overlap * len(shared) + 4 * len(starts)
    assert tiles_along(1280, 512, 64) == (472, [0, 404, 808])


def test_the_ensemble_does_not_depend_on_how_the_photo_is_mirrored(network: MimoUNet) -> None:
    pixels = np.random.default_rng(3).integers(0, 255, (32, 48, 3)).astype(np.uint8)
    straight = restore_pixels(network, pixels, ensemble=True)
    mirrored = restore_pixels(network, np.ascontiguousarray(pixels[:, ::-1]), ensemble=True)[:, ::-1]
    assert np.abs(straight.astype(int) - mirrored.astype(int)).max() <= 1
    assert not np.array_equal(straight, restore_pixels(network, pixels))


def test_impossible_tiles_and_pixels_are_refused(network: MimoUNet) -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match="multiple of 4"):
        restore_pixels(network, pixels, tile=66)
    with pytest.raises(ValueError, match=r"\[H,W,3\]"):
        restore_pixels(network, pixels[..., 0])
    with pytest.raises(ValueError, match="8- or 16-bit"):
        restore_pixels(network, pixels.astype(np.float32))  # type: ignore[arg-type]


def test_the_network_that_ships_restores_a_shaken_photo_in_tiles_as_in_one(
    cards: Callable[[int, int, int], torch.Tensor],
) -> None:
    scene = cards(0, 268, 508)
    blurred = srgb_from_linear(convolve(linear_from_srgb(scene), torch.eye(9) / 9).clamp(0, 1))
    pixels, sharp = (
        (x.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy() for x in (blurred, scene[:, 4:-4, 4:-4])
    )
    network = load_network()
    one, tiled = (restore_pixels(network, pixels, tile=tile) for tile in (640, 256))
    before, after, after_tiled = (
        ((picture.astype(float) - sharp) ** 2).mean(-1) for picture in (pixels, one, tiled)
    )
    assert after.mean() < 0.8 * before.mean()  # not more: many of these discs are smaller than the blur
    # A tile of 256 pixels has fewer windows to read the kernel from.
    assert before.mean() - after_tiled.mean() > 0.7 * (before.mean() - after.mean())
    # Where two tiles meet it is as good as elsewhere.
    elsewhere = after_tiled.mean() / after.mean()
    side, starts = tiles_along(pixels.shape[1], 256, 64)
    for neighbour, start in pairwise(starts):
        meeting = slice(start, neighbour + side)
        assert after_tiled[:, meeting].mean() < 1.1 * elsewhere * after[:, meeting].mean()
