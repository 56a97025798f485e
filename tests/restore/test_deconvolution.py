import pytest
import torch

from deblurgs.math.color import linear_from_srgb, srgb_from_linear
from deblurgs.restore.deconvolution import _closed, _fast_size, transfer_function, trial_deconvolutions
from deblurgs.restore.losses import kernel_loss
from deblurgs.restore.shake import convolve


def hook(size: int = 9) -> torch.Tensor:
    """A path with a corner that is not its own half turn."""
    kernel = torch.zeros(size, size)
    middle = size // 2
    for x, y in ((-2, -1), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1), (1, 2)):
        kernel[middle + y, middle + x] = 1 / 7
    return kernel


def scene(height: int, width: int) -> torch.Tensor:
    """Blocks of colour [1,3,H,W]."""
    torch.manual_seed(0)
    blocks = torch.rand(1, 3, height // 8 + 1, width // 8 + 1)
    return torch.nn.functional.interpolate(blocks, scale_factor=8, mode="nearest")[..., :height, :width]


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(-10 * torch.log10(((a - b) ** 2).mean()))


@pytest.mark.parametrize("shape", [(120, 152), (61, 97)])
@pytest.mark.parametrize("turned", [False, True])
def test_the_true_kernel_sharpens_and_comes_first_either_way_round(
    shape: tuple[int, int], turned: bool
) -> None:
    kernel = hook()
    sharp = scene(shape[0] + 8, shape[1] + 8)
    blurred = srgb_from_linear(convolve(linear_from_srgb(sharp[0]), kernel))[None]
    sharp = sharp[..., 4:-4, 4:-4]
    trials = trial_deconvolutions(blurred, (kernel.flip((0, 1)) if turned else kernel)[None])
    assert trials.shape == (1, 4, 3, *shape)
    before = psnr(blurred, sharp)
    exact, safe, exact_wrong, safe_wrong = (psnr(trials[:, i], sharp) for i in range(4))
    assert exact > before + 6
    assert safe > before + 1.5
    assert exact_wrong < before and safe_wrong < before


def test_no_motion_and_no_structure_change_nothing() -> None:
    still = torch.zeros(1, 5, 5)
    still[:, 2, 2] = 1
    grey = torch.full((1, 3, 40, 60), 0.4)
    assert torch.allclose(
        trial_deconvolutions(grey, hook()[None]), grey[:, None].expand(1, 4, -1, -1, -1), atol=1e-4
    )
    photo = scene(40, 60)
    assert torch.equal(*trial_deconvolutions(photo, still)[:, [0, 2]].unbind(1))
    assert psnr(trial_deconvolutions(photo, still)[:, 0], photo) > 30


def test_every_photo_of_a_batch_is_deconvolved_with_its_own_kernel() -> None:
    photo = scene(48, 48).repeat(2, 1, 1, 1)
    kernels = torch.stack([hook(), hook().flip(0)])
    both = trial_deconvolutions(photo, kernels)
    for index in (0, 1):
        alone = trial_deconvolutions(photo[index : index + 1], kernels[index : index + 1])
        assert torch.allclose(both[index : index + 1], alone, atol=1e-5)
    assert not torch.allclose(both[0], both[1], atol=1e-2)


def test_a_photo_is_continued_without_a_step_to_a_size_of_small_factors() -> None:
    photo = torch.linspace(0, 1, 50).expand(1, 3, 37, 50)
    closed = _closed(photo)
    assert closed.shape == (1, 3, 108, 120)
    assert torch.equal(closed[..., :37, :50], photo)
    around = torch.cat([closed, closed[..., :1]], dim=-1).diff(dim=-1)
    assert float(around.abs().max()) < 0.03
    assert [_fast_size(n) for n in (64, 97, 101, 576, 577)] == [64, 100, 108, 576, 600]


def test_the_transfer_function_of_no_motion_is_one_and_of_half_a_turn_the_conjugate() -> None:
    still = torch.zeros(1, 5, 5)
    still[:, 2, 2] = 1
    assert torch.allclose(transfer_function(still, 20, 30), torch.ones(1, 20, 16, dtype=torch.complex64))
    kernel = hook()[None]
    turned = transfer_function(kernel.flip((1, 2)), 20, 30)
    assert torch.allclose(turned, transfer_function(kernel, 20, 30).conj(), atol=1e-6)


def test_a_kernel_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="49 pixels does not fit into 40x60"):
        transfer_function(torch.ones(1, 49, 49), 40, 60)


def test_the_kernel_loss_is_its_formula_over_the_whole_plane() -> None:
    """In double precision, every frequency an entry of its own; the way round is the one a filter leaves less of."""
    down, across = (n.double() for n in (torch.fft.fftfreq(96)[:, None], torch.fft.fftfreq(96)[None]))
    power = 1 / (down**2 + across**2 + 1 / 64**2)
    power /= power.sum()
    disagreements = 0
    torch.manual_seed(0)
    for _ in range(40):
        read, true = (torch.rand(9, 9).double() ** 8 for _ in range(2))
        read, true = read / read.sum(), true / true.sum()
        one = torch.fft.fft2(torch.nn.functional.pad(read, (0, 87, 0, 87)).roll((-4, -4), (0, 1)))
        ways = []
        for kernel in (true, true.flip((0, 1))):
            truth = torch.fft.fft2(torch.nn.functional.pad(kernel, (0, 87, 0, 87)).roll((-4, -4), (0, 1)))
            blur = (power * (1 - truth).abs() ** 2).sum() + 0.03
            filters = 1.1 * one.conj() / (one.abs() ** 2 + 0.1)
            wrong = (power * (one - truth).abs() ** 2).sum() / blur
            left = (power * (1 - filters * truth).abs() ** 2).sum() / blur
            ways.append((float(left), float(wrong)))
        disagreements += min(ways)[1] != min(wrong for _, wrong in ways)
        wrong, left = (float(part) for part in kernel_loss(read.float()[None], true.float()[None]))
        assert (left, wrong) == pytest.approx(min(ways), rel=1e-4)
    assert disagreements > 0


def test_the_loss_of_a_kernel_counts_neither_half_turns_nor_frames_but_the_rest() -> None:
    true = hook(21)[None]
    kernels = {
        "same": hook(9)[None],
        "turned": true.flip((1, 2)),
        "mirrored": true.flip(2),
        "moved": true.roll(2, 2),
        "none": torch.zeros(1, 9, 9),
    }
    kernels["none"][:, 4, 4] = 1
    wrong, left = (
        {name: float(kernel_loss(k, true)[part]) for name, k in kernels.items()} for part in (0, 1)
    )
    assert wrong["same"] == pytest.approx(0, abs=1e-6) and wrong["turned"] == pytest.approx(0, abs=1e-6)
    assert left["same"] == pytest.approx(left["turned"])
    assert min(wrong["mirrored"], wrong["moved"], wrong["none"]) > 0.2
    assert min(left["mirrored"], left["moved"], left["none"]) > left["same"] + 0.1
    assert wrong["none"] == pytest.approx(left["none"]) and 0.8 < wrong["none"] < 1
