"""tools/train_restore.py and tools/train_kernel.py: what their networks learn from, and going on where they stopped."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
import restore_pairs
import train_kernel
import train_restore
from checkpoints import Trained

from deblurgs.restore.blur_kernel import KERNEL_PX, KernelEstimator
from deblurgs.restore.deconvolution import trial_deconvolutions
from deblurgs.restore.mimo_unet import MimoConfig, MimoUNet
from deblurgs.restore.weights import save_weights

GUIDED = MimoConfig(4, 1, guided=True)


@pytest.fixture(scope="module")
def photos() -> list[torch.Tensor]:
    rng = np.random.default_rng(0)
    return [torch.from_numpy(rng.integers(0, 256, (3, 260, 260), dtype=np.uint8))]


@pytest.fixture
def estimator(tmp_path: Path) -> Path:
    """As tools/train_kernel.py writes it."""
    torch.manual_seed(1)
    path = tmp_path / "estimator.safetensors"
    save_file(KernelEstimator().state_dict(), path)
    return path


def batch(photos: list[torch.Tensor], seed: int, count: int = 2) -> "restore_pairs.Batch":
    return restore_pairs.draw_batch(np.random.default_rng(seed), photos, 192, count)


def test_a_batch_has_pictures_twins_and_kernels(photos: list[torch.Tensor]) -> None:
    drawn = batch(photos, 0, 8)
    assert drawn.blurred.shape == drawn.sharp.shape == (8, 3, 192, 192)
    assert drawn.kernels.shape == (8, 65, 65)
    assert torch.allclose(drawn.kernels.sum((1, 2)), torch.ones(8), atol=1e-5)
    places = torch.arange(65.0) - 32
    for dim in (1, 2):
        assert float(((drawn.kernels.sum(dim) * places).sum(1)).abs().max()) < 0.3  # the centroid


def test_the_kernel_of_a_batch_is_the_one_that_blurred_it(photos: list[torch.Tensor]) -> None:
    """Deconvolving with it brings the sharp twin back, deconvolving with another's kernel does not."""
    blocks = [p[:, ::8, ::8].repeat_interleave(8, 1).repeat_interleave(8, 2)[:, :260, :260] for p in photos]
    drawn = restore_pairs.draw_batch(np.random.default_rng(2), blocks, 128, 12)
    blurred = drawn.kernels.amax((1, 2)) < 0.5
    assert blurred.sum() > 6
    errors = [
        ((x - drawn.sharp) ** 2).mean((1, 2, 3))[blurred]
        for x in (
            drawn.blurred,
            trial_deconvolutions(drawn.blurred, drawn.kernels)[:, 1],
            trial_deconvolutions(drawn.blurred, drawn.kernels.roll(1, 0))[:, 1],
        )
    ]
    assert (errors[1] < errors[0]).float().mean() > 0.8
    assert (errors[1] < errors[2]).float().mean() > 0.8


def test_crops_with_detail_are_drawn_more_often() -> None:
    rng = np.random.default_rng(0)
    flat = torch.full((3, 160, 160), 90, dtype=torch.uint8)
    busy = torch.from_numpy(rng.integers(0, 256, (3, 160, 160), dtype=np.uint8))
    drawn = [float(restore_pairs._draw_crop(rng, [flat, busy], 100).float().std()) > 10 for _ in range(60)]
    assert np.mean(drawn) > 0.8


def gradients(
    training: "train_restore.Training", drawn: "restore_pairs.Batch", cut: tuple[int, int]
) -> torch.Tensor:
    """Of the estimator, after one step at rate 0."""
    training.advance(drawn, 0.0, cut)
    return torch.cat(
        [p.grad.flatten() for p in training.network.estimator.parameters() if p.grad is not None]
    )


def test_a_step_teaches_the_network_fast_and_the_estimator_slowly(
    photos: list[torch.Tensor], estimator: Path
) -> None:
    torch.manual_seed(0)
    training = train_restore.Training(GUIDED, "cpu", estimator=estimator)
    before = {name: value.clone() for name, value in training.network.named_parameters()}
    assert training.advance(batch(photos, 1), 1e-3, (3, 5)) > 0
    # The first step of AdamW has about the size of its rate.
    moved = {
        name: float((value - before[name]).detach().abs().max())
        for name, value in training.network.named_parameters()
    }
    assert moved["feat_extract.5.main.0.weight"] == pytest.approx(1e-3, rel=0.1)
    assert moved["estimator.whole.2.bias"] == pytest.approx(1e-3 * train_restore.ESTIMATOR_RATE, rel=0.1)
    for name, mean in training.average.named_parameters():
        if moved[name] > 1e-5:
            assert 0 < float((mean - before[name]).detach().abs().max()) < moved[name]


def test_the_estimator_learns_from_the_kernels_and_from_the_pictures_that_are_cut_out(
    photos: list[torch.Tensor], estimator: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    training = train_restore.Training(GUIDED, "cpu", estimator=estimator)
    for parameter in training.network.guide.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    drawn = batch(photos, 1)
    both, elsewhere = gradients(training, drawn, (0, 0)), gradients(training, drawn, (40, 64))
    other = restore_pairs.Batch(drawn.blurred, drawn.sharp, drawn.kernels.roll(5, 1))
    assert not torch.allclose(both, elsewhere, rtol=0.01)
    assert not torch.allclose(both, gradients(training, other, (0, 0)), rtol=0.01)
    monkeypatch.setattr(train_restore, "KERNEL_WEIGHT", 0.0)
    pictures = gradients(training, drawn, (0, 0))
    assert float(pictures.abs().max()) > 0 and not torch.allclose(pictures, both, rtol=0.01)


def test_a_guided_network_needs_an_estimator_and_may_begin_as_a_plain_one(
    tmp_path: Path, estimator: Path
) -> None:
    plain = MimoUNet(MimoConfig(4, 1))
    save_weights(tmp_path / "plain.safetensors", plain, notes={}, half=False)
    with pytest.raises(ValueError, match="estimator"):
        train_restore.Training(GUIDED, "cpu", init=tmp_path / "plain.safetensors")
    training = train_restore.Training(GUIDED, "cpu", init=tmp_path / "plain.safetensors", estimator=estimator)
    state = training.average.state_dict()
    assert all(torch.equal(state[name], value) for name, value in plain.state_dict().items())
    with pytest.raises(ValueError, match="width 4 and 1 blocks"):
        train_restore.Training(MimoConfig(4, 2), "cpu", init=tmp_path / "plain.safetensors")
    save_weights(tmp_path / "guided.safetensors", training.network, notes={}, half=False)
    with pytest.raises(ValueError, match="guided"):
        train_restore.Training(MimoConfig(4, 1), "cpu", init=tmp_path / "guided.safetensors")
    again = train_restore.Training(GUIDED, "cpu", init=tmp_path / "guided.safetensors").network.state_dict()
    assert all(torch.equal(again[name], value) for name, value in state.items())
    wide = train_restore.Training(
        MimoConfig(8, 1, guided=True), "cpu", estimator=tmp_path / "guided.safetensors"
    )
    read = training.network.estimator.state_dict()
    assert all(torch.equal(read[name], value) for name, value in wide.network.estimator.state_dict().items())


def test_files_that_do_not_fit_are_told_in_a_sentence(tmp_path: Path, estimator: Path) -> None:
    save_weights(tmp_path / "plain.safetensors", MimoUNet(MimoConfig(4, 1)), notes={}, half=False)
    (tmp_path / "broken.safetensors").write_bytes(b"x" * 20)
    for name, word in (
        ("plain", "holds no estimator"),
        ("broken", "cannot read"),
        ("missing", "cannot read"),
    ):
        with pytest.raises(ValueError, match=rf"{word}.*{name}|{name}.*{word}"):
            train_kernel.read_estimator(tmp_path / f"{name}.safetensors")
    (tmp_path / "run").mkdir()
    train_restore.Training(MimoConfig(4, 1), "cpu").save(tmp_path / "run")
    with pytest.raises(ValueError, match="another network"):
        train_restore.Training(GUIDED, "cpu", estimator=estimator).resume(tmp_path / "run")
    with pytest.raises(ValueError, match="has the shape"):
        train_restore.Training(MimoConfig(8, 1), "cpu").resume(tmp_path / "run")


def test_training_goes_on_where_it_stopped(
    tmp_path: Path, photos: list[torch.Tensor], estimator: Path
) -> None:
    torch.manual_seed(0)
    one = train_restore.Training(GUIDED, "cpu", estimator=estimator)
    one.advance(batch(photos, 1), 1e-3)
    one.save(tmp_path)
    other = train_restore.Training(GUIDED, "cpu", estimator=estimator)
    assert other.resume(tmp_path) and other.step == 1
    for training in (one, other):
        training.advance(batch(photos, 2), 1e-3)
    for a, b in zip(one.network.parameters(), other.network.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_the_pool_gives_the_newest_and_turns_maps_and_kernels_together() -> None:
    rng = np.random.default_rng(0)
    pool = train_kernel.Pool()
    marked = torch.zeros(12, 3, KERNEL_PX, KERNEL_PX)
    marked[..., 3, 10] = torch.arange(1.0, 13)[:, None]
    for part in marked.split(4):
        pool.add(part, part[:, 0])
    maps, kernels = pool.draw(rng)
    assert len(maps) == train_kernel.BATCH
    assert torch.equal(maps[:, 0], kernels)
    assert kernels[: train_kernel.NEW].amax((1, 2)).tolist() == list(range(13 - train_kernel.NEW, 13))
    places = {tuple(torch.nonzero(pool.draw(rng)[1][0])[0].tolist()) for _ in range(100)}
    assert len(places) == 8


@pytest.mark.parametrize("shape", [(200, 200), (230, 900), (700, 900)])
def test_turned_and_reduced_crops_lie_within_the_photo(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    white = torch.full((3, *shape), 255, dtype=torch.uint8)
    for _ in range(60):
        crop = restore_pairs._draw_crop(rng, [white], 200)
        assert crop.shape == (3, 200, 200)
        assert int(crop.min()) == 255
    with pytest.raises(ValueError, match="too small"):
        restore_pairs._draw_crop(rng, [white[:, :199]], 200)


def test_crops_are_turned_by_any_angle_and_reduced() -> None:
    """Of a photo with upright stripes of 40 pixels."""
    rng = np.random.default_rng(0)
    stripes = (torch.arange(900) // 20 % 2 * 255).to(torch.uint8).expand(3, 700, 900)
    angles, widths = [], []
    for _ in range(40):
        crop = restore_pairs._draw_crop(rng, [stripes], 200)[1].float()
        power = torch.fft.rfft2(crop - crop.mean(), s=(800, 800)).abs()
        y, x = divmod(int(power.argmax()), power.shape[1])
        y = y - 800 if y > 400 else y
        angles.append(float(np.degrees(np.arctan2(y, x))) % 90)
        widths.append(800 / float(np.hypot(x, y)))
    upright = [a < 1 or a > 89 for a in angles]
    assert 10 < sum(upright) < 30
    turned = [angle for angle, up in zip(angles, upright, strict=True) if not up]
    assert np.count_nonzero(np.histogram(turned, 6, (0, 90))[0]) > 4
    assert min(widths) < 28 and 37 < max(widths) < 42


def test_a_step_brings_an_estimator_closer_to_its_kernels(photos: list[torch.Tensor]) -> None:
    torch.manual_seed(0)
    training = Trained(KernelEstimator(), KernelEstimator())
    drawn = batch(photos, 3, 4)
    maps = train_kernel.photo_maps(drawn.blurred.mean(1))
    losses = [train_kernel.step(training, maps, drawn.kernels, 1e-3)[0] for _ in range(20)]
    assert losses[-1] < 0.9 * losses[0]
