import torch

from deblurgs.restore.blur_code import CODE_SIZE
from deblurgs.restore.steering import Steering


def test_every_block_gets_scales_and_shifts_that_begin_at_nothing() -> None:
    steers = Steering([4, 8])(torch.rand(2, CODE_SIZE))
    assert [tuple(s.shape) for s in steers] == [(2, 8, 1, 1), (2, 16, 1, 1)]
    assert all(float(s.detach().abs().max()) == 0 for s in steers)
