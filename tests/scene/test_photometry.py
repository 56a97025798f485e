import pytest
import torch

from deblurgs.math.color import linear_from_srgb, srgb_from_linear
from deblurgs.scene.photometry import Photometry, clip_limit


def test_no_gain_and_no_bend_is_the_srgb_curve() -> None:
    image = torch.rand(4, 5, 3, generator=torch.Generator().manual_seed(0))
    for bends in (0, 3):
        assert torch.allclose(Photometry(2, num_bends=bends).photo(image, 1), image, atol=1e-5)


def test_a_gain_multiplies_light_of_its_own_frame_only() -> None:
    photometry = Photometry(2)
    with torch.no_grad():
        photometry.log_gains[1] = torch.tensor([2.0, 1.0, 0.5]).log()
    light = torch.full((1, 1, 3), 0.2)
    assert torch.allclose(photometry.exposed(light, 1), torch.tensor([0.4, 0.2, 0.1]))
    assert torch.equal(photometry.exposed(light, 0), light)


def test_the_gauge_keeps_the_mean_of_all_frames() -> None:
    photometry = Photometry(3, num_bends=2)
    with torch.no_grad():
        photometry.log_gains.copy_(torch.tensor([[0.3, 0.1, 0.0], [0.1, 0.1, 0.2], [0.2, 0.4, -0.5]]))
        photometry.bends.fill_(5.0)
    before = photometry.log_gains[0] - photometry.log_gains[1]
    photometry.hold_gauge()
    assert torch.allclose(photometry.log_gains.mean(dim=0), torch.zeros(3), atol=1e-7)
    assert torch.allclose(photometry.log_gains[0] - photometry.log_gains[1], before)
    assert photometry.bends.max() < 1.0, "the curve must rise at white"


@pytest.mark.parametrize("bends", [(0.8, 0.8, 0.8), (-0.8, -0.8), (0.8, -0.8, 0.8)])
def test_the_response_rises_and_keeps_black_and_white(bends: tuple[float, ...]) -> None:
    photometry = Photometry(1, num_bends=len(bends))
    with torch.no_grad():
        photometry.bends.copy_(torch.tensor(bends))
    grey = torch.linspace(0.0, 1.0, 200)
    curve = photometry.developed(linear_from_srgb(grey)[:, None, None].expand(-1, 1, 3))[:, 0, 0]
    assert (curve[1:] > curve[:-1]).all()
    assert curve[0].abs() < 1e-6 and (curve[-1] - 1).abs() < 1e-5


def test_a_clipped_photo_does_not_hold_the_scene_down() -> None:
    observed = torch.tensor([[[1.0, 0.5, 0.99]]])
    limit = clip_limit(observed)
    assert limit is not None
    predicted = linear_from_srgb(torch.tensor([[[1.4, 0.9, 0.7]]]))
    cut = srgb_from_linear(torch.minimum(predicted, limit))
    assert torch.allclose(cut, torch.tensor([[[1.0, 0.9, 0.7]]]), atol=1e-6)
    assert clip_limit(torch.full((2, 2, 3), 0.9)) is None
