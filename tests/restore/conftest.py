from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor


@pytest.fixture
def cards() -> Callable[[int, int, int], Tensor]:
    """(seed, height, width) -> a scene [3,H,W] of discs that cover each other, as things do in a photo."""

    def scene(seed: int, height: int, width: int) -> Tensor:
        rng = np.random.default_rng(seed)
        picture = torch.zeros(3, height, width)
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        for _ in range(height * width // 32):
            x, y, radius = rng.integers(0, width), rng.integers(0, height), 2 / rng.uniform(0.1, 1)
            disc = (columns - x) ** 2 + (rows - y) ** 2 < radius**2
            picture[:, disc] = torch.from_numpy(rng.random((3, 1), np.float32))
        return picture

    return scene
