import math

import pytest
import torch

from deblurgs.train.holdout import BLOCK_PX, BestState, HeldOutBlocks
from deblurgs.train.sampler import FrameSampler


def test_blocks_are_scored_where_nothing_was_trained() -> None:
    blocks = HeldOutBlocks([(200, 150), (200, 150)], 0.1, seed=0)
    for train, score in zip(blocks.train, blocks.score, strict=True):
        assert train is not None and score is not None and train.shape == (150, 200)
        assert float((train * score).sum()) == 0.0 and score.sum() > 0
        held = int((train == 0).sum())
        assert held % BLOCK_PX**2 == 0 and held == round(0.1 * 6 * 8) * BLOCK_PX**2
    assert not torch.equal(blocks.train[0], blocks.train[1])  # type: ignore[arg-type]


def test_small_images_and_no_share_hold_nothing_out() -> None:
    assert not HeldOutBlocks([(60, 60)], 0.1, seed=0).any
    assert not HeldOutBlocks([(600, 600)], 0.0, seed=0).any


def test_blocks_behind_a_mask_are_no_score() -> None:
    masks: list[torch.Tensor | None] = [torch.zeros(150, 200), None]
    blocks = HeldOutBlocks([(200, 150), (200, 150)], 0.1, 0, masks)
    assert blocks.score[0] is None and blocks.score[1] is not None
    assert not HeldOutBlocks([(200, 150)], 0.1, 0, masks[:1]).any


def test_the_score_looks_at_the_blocks_alone() -> None:
    blocks = HeldOutBlocks([(200, 150)], 0.1, seed=0)
    score = blocks.score[0]
    assert score is not None
    observed = torch.full((150, 200, 3), 0.5)
    wrong_outside = torch.where(score[..., None] > 0, observed, torch.zeros(()))
    assert blocks.psnr(lambda _: wrong_outside, [observed]) > 60
    assert blocks.psnr(lambda _: observed + 0.1, [observed]) == pytest.approx(20.0, abs=1e-3)


def test_the_best_state_is_kept_and_failures_are_counted() -> None:
    class Owner:
        value = 0.0

        def snapshot(self):
            return {"x": torch.tensor(self.value)}, {}, {}

    owner, best = Owner(), BestState()
    for owner.value, score in ((1.0, 20.0), (2.0, 25.0), (3.0, 24.0), (4.0, 23.0)):
        best.offer(score, owner)
    assert best.state is not None and float(best.state[0]["x"]) == 2.0
    assert best.stale == 2 and best.latest == 23.0


def test_every_frame_comes_once_and_bad_ones_again() -> None:
    sampler = FrameSampler(5, 1.0, torch.Generator().manual_seed(0))
    first = [sampler.next() for _ in range(5)]
    assert sorted(first) == [0, 1, 2, 3, 4]
    for frame in range(5):
        sampler.saw(frame, 1.0 if frame == 3 else 0.01)
    second = [sampler.next() for _ in range(10)]
    assert set(second) == {0, 1, 2, 3, 4} and second.count(3) >= 4
    assert all(math.isfinite(x) for x in sampler.losses.tolist())
