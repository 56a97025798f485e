import pytest
import torch

from deblurgs.restore.deconvolution import TRIALS, trial_deconvolutions
from deblurgs.restore.losses import restoration_loss
from deblurgs.restore.mimo_unet import MIMO_UNET, MIMO_UNET_PLUS, MimoConfig, MimoUNet


@pytest.mark.parametrize(
    ("config", "parameters", "tensors"), [(MIMO_UNET, 6_807_171, 244), (MIMO_UNET_PLUS, 16_107_651, 532)]
)
def test_both_sizes_have_the_published_number_of_parameters_and_tensors(
    config: MimoConfig, parameters: int, tensors: int
) -> None:
    with torch.device("meta"):
        state = MimoUNet(config).state_dict()
    assert sum(value.numel() for value in state.values()) == parameters
    assert len(state) == tensors


def test_keys_and_shapes_are_those_of_the_published_checkpoints() -> None:
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in MimoUNet(MIMO_UNET).state_dict().items()}
    expected = {
        "Encoder.0.layers.7.main.1.main.0.weight": (32, 32, 3, 3),
        "Decoder.0.layers.0.main.0.main.0.bias": (128,),
        "Decoder.2.layers.7.main.0.main.0.weight": (32, 32, 3, 3),
        "feat_extract.0.main.0.weight": (32, 3, 3, 3),
        "feat_extract.2.main.0.weight": (128, 64, 3, 3),
        "feat_extract.3.main.0.weight": (128, 64, 4, 4),
        "feat_extract.4.main.0.weight": (64, 32, 4, 4),
        "feat_extract.5.main.0.weight": (3, 32, 3, 3),
        "Convs.0.main.0.weight": (64, 128, 1, 1),
        "Convs.1.main.0.weight": (32, 64, 1, 1),
        "ConvsOut.0.main.0.weight": (3, 128, 3, 3),
        "ConvsOut.1.main.0.weight": (3, 64, 3, 3),
        "AFFs.0.conv.0.main.0.weight": (32, 224, 1, 1),
        "AFFs.1.conv.1.main.0.weight": (64, 64, 3, 3),
        "FAM1.merge.main.0.weight": (128, 128, 3, 3),
        "FAM2.merge.main.0.weight": (64, 64, 3, 3),
        "SCM1.main.0.main.0.weight": (32, 3, 3, 3),
        "SCM1.main.3.main.0.weight": (125, 64, 1, 1),
        "SCM1.conv.main.0.weight": (128, 128, 1, 1),
        "SCM2.conv.main.0.weight": (64, 64, 1, 1),
    }
    assert {name: shapes.get(name) for name in expected} == expected


def test_three_scales_come_back_and_a_network_without_corrections_is_the_identity() -> None:
    network = MimoUNet(MimoConfig(4, 1))
    for layer in (network.feat_extract[5], network.ConvsOut[0], network.ConvsOut[1]):
        for parameter in layer.parameters():
            torch.nn.init.zeros_(parameter)
    photo = torch.rand(2, 3, 16, 24)
    outputs = network(photo)
    assert [tuple(o.shape) for o in outputs] == [(2, 3, 4, 6), (2, 3, 8, 12), (2, 3, 16, 24)]
    assert torch.equal(outputs[2], photo)
    assert torch.equal(outputs[0], photo[..., ::4, ::4])


@pytest.fixture
def guided() -> MimoUNet:
    torch.manual_seed(0)
    return MimoUNet(MimoConfig(4, 2, guided=True)).eval()


def test_a_guided_network_begins_as_the_plain_one(guided: MimoUNet) -> None:
    plain = MimoUNet(MimoConfig(4, 2)).eval()
    plain.load_state_dict({k: v for k, v in guided.state_dict().items() if k in plain.state_dict()})
    photo = torch.rand(1, 3, 132, 64)
    trials = torch.rand(1, TRIALS, 3, 132, 64)
    for a, b in zip(guided(photo, trials), plain(photo), strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    with pytest.raises(ValueError, match="guided=True"):
        plain(photo, trials)


@torch.inference_mode()
def test_the_result_takes_of_every_trial_what_its_share_says(guided: MimoUNet) -> None:
    photo, trials = torch.rand(1, 3, 16, 24), torch.rand(1, TRIALS, 3, 16, 24)
    none = guided(photo, trials)[2]
    for index in range(TRIALS):
        guided.guide.shares.bias.zero_()  # pyright: ignore[reportOptionalMemberAccess]
        guided.guide.shares.bias[index] = 0.5  # pyright: ignore[reportOptionalSubscript]
        assert torch.allclose(guided(photo, trials)[2], none + 0.5 * (trials[:, index] - photo), atol=1e-6)


@torch.inference_mode()
def test_every_scale_sees_the_trials(guided: MimoUNet) -> None:
    photo, trials = torch.rand(1, 3, 16, 24), torch.rand(1, TRIALS, 3, 16, 24)
    before = guided(photo, trials)[2]
    for layer in guided.guide.features:
        for parameter in layer.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        assert not torch.allclose(guided(photo, trials)[2], before, atol=1e-6)
        for parameter in layer.parameters():
            torch.nn.init.zeros_(parameter)
        assert torch.equal(guided(photo, trials)[2], before)


@torch.inference_mode()
def test_a_guided_network_deconvolves_with_the_kernel_it_reads(guided: MimoUNet) -> None:
    for parameter in guided.guide.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    photo = torch.rand(2, 3, 200, 132)
    trials = trial_deconvolutions(photo, guided.estimator(photo))
    assert torch.equal(guided(photo)[2], guided(photo, trials)[2])
    assert not torch.allclose(guided(photo)[2], guided(photo, trials * 0.9)[2], atol=1e-4)


def test_sizes_that_do_not_halve_twice_are_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 4"):
        MimoUNet(MimoConfig(4, 1))(torch.rand(1, 3, 18, 16))


def test_the_loss_is_the_mean_difference_and_a_tenth_of_that_of_the_spectra() -> None:
    sharp = torch.rand(1, 3, 8, 8)
    perfect = [torch.nn.functional.interpolate(sharp, scale_factor=s, mode="bilinear") for s in (0.25, 0.5)]
    assert float(restoration_loss([*perfect, sharp], sharp)) == pytest.approx(0, abs=1e-7)
    # A constant offset d has one non-zero frequency, of value d * H * W: the mean over real and imaginary
    # parts is d / 2.
    off = float(restoration_loss([*perfect, sharp + 0.2], sharp))
    assert off == pytest.approx(0.2 + 0.1 * 0.2 / 2, rel=1e-4)
