"""How kernels of the GPU rasterizer are started: by the driver on a GPU, block by block on the host in its tests.

The rasterizer decides what runs in which order; a launcher only starts one kernel. Kernels are `extern "C"` functions
in cuda/, named without decoration.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch

Size = tuple[int, int, int]
"""(x, y, z), as CUDA counts."""


class Launcher(Protocol):
    """Starts kernels in order on one device (on a GPU: on torch's current stream), without waiting for them."""

    @property
    def device(self) -> "torch.device":
        """Where the tensors passed to `launch` must lie."""
        ...

    def launch(
        self,
        kernel: str,
        grid: Size,
        block: Size,
        arguments: "Sequence[torch.Tensor | np.generic | None]",
        *,
        shared_bytes: int = 0,
    ) -> None:
        """Start `kernel` on grid x block threads.

        arguments: contiguous tensors (passed as pointers to their first element), None (a null pointer), and NumPy
            scalars (int32, uint32, int64, uint64, float32: passed by value in exactly that type).
        shared_bytes: dynamic shared memory of each block.

        Raises DeviceError when the kernel is unknown or the device refuses.
        """
        ...
