"""Stable radix sort of 32-bit keys on the device, by the kernels of cuda/sort.cuh."""

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor

    from deblurgs.raster.launcher import Launcher

_KEYS_PER_BLOCK = 4096
_DIGIT_BITS = 8


def sort_pairs(
    launcher: "Launcher",
    keys: "Tensor",
    values: "Tensor | None",
    *,
    bits: int,
    count: "Tensor | None" = None,
) -> tuple["Tensor", "Tensor"]:
    """Keys [M] (int32 storage of unsigned numbers below 2^bits) in ascending order, and their values [M].

    values: None for the places 0..M-1. count [1] int32 on the device: how many of the M pairs are in use (None = all);
    what lies behind them is left undefined. Equal keys keep their order, so the result is one and the same always.
    """
    limit = keys.shape[0]
    blocks = max(1, -(-limit // _KEYS_PER_BLOCK))
    counts = torch.empty((1 << _DIGIT_BITS) * blocks, dtype=torch.int32, device=keys.device)
    grid, block, size = (blocks, 1, 1), (256, 1, 1), np.int32(limit)
    spare: list[tuple[Tensor, Tensor]] = []
    for shift in range(0, bits, _DIGIT_BITS):
        launcher.launch("deblurgs_sort_count", grid, block, (keys, count, counts, size, np.int32(shift)))
        ends = torch.cumsum(counts, 0, dtype=torch.int32)
        # Two pairs of buffers take turns, but the caller's are never written.
        out = spare.pop() if spare else (torch.empty_like(keys), torch.empty_like(keys))
        arguments = (keys, values, count, counts, ends, *out, size, np.int32(shift))
        launcher.launch("deblurgs_sort_move", grid, block, arguments)
        if shift > 0 and values is not None:
            spare.append((keys, values))
        keys, values = out
    assert values is not None
    return keys, values
