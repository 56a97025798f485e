"""How much memory a training will need, told before it starts rather than by the system's killer in its middle.

Counted are the buffers that grow with the number of frames, pixels, Gaussians and virtual views, as the code allocates
them. What the interpreter and its libraries hold is in use already when the question is asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from deblurgs.config import TrainConfig
from deblurgs.errors import ResourceError
from deblurgs.log import Log
from deblurgs.machine import available_memory_bytes
from deblurgs.scene.camera import Camera
from deblurgs.train.data import scaled, training_camera

# float32 sRGB of a frame, and the map of its clipped pixels (as large where a frame has any).
_IMAGE_BYTES = 2 * 12
# While one frame is read or rendered at full size: photo, sharp, re-blur, depth, a dozen images of three floats while
# its detail is carried back, and the paths of 15 views on a grid of every second pixel.
_FULL_SIZE_BYTES = 240
# Per further pixel that is drawn for one of the photo's with `train_scale`: image, alpha and depth, twice, since the
# drawing before may still wait to be averaged.
_DRAWN_BYTES = 2 * 20
# Copies of each parameter: value, gradient, two Adam moments, the snapshot and its successor, the best state so far,
# activated values and their gradients.
_PARAMETER_COPIES = 9
# Per Gaussian and virtual view: one record on the screen (64 bytes), and entries by tile.
_RECORD_BYTES = 64
# Tiles that a Gaussian touches in one view, on average; small Gaussians touch one or two, those of a start many.
_TILES = 4
_ENTRY_BYTES = 6  # index and live micro-tiles, for each view
_SLOT_BYTES = 64 + 24  # gradient sums and sorting, once for all views
_VIEW_PIXEL_BYTES = 12  # final colour of each view
_STEP_PIXEL_BYTES = 125  # image, its slices spread, depth, alpha, developed photo, loss and their gradients
WARN_SHARE = 0.8


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes by purpose; `render` is the largest step at training size, `full_size` the largest single frame."""

    images: int
    gaussians: int
    render: int
    full_size: int

    @property
    def total(self) -> int:
        # Reading and writing full frames happens before and after the steps, never at the same time.
        return self.images + self.gaussians + max(self.render, self.full_size)

    def __str__(self) -> str:
        parts = (
            f"frames {_gb(self.images)}, Gaussians {_gb(self.gaussians)}, rendering a step {_gb(self.render)}, "
            f"one frame at full size {_gb(self.full_size)}"
        )
        return f"about {_gb(self.total)} ({parts})"

    def advice(self) -> str:
        """The settings that lower the largest part."""
        flags = {
            self.images: "--train.max-side or --max-frames",
            self.gaussians: "--train.density.max-gaussians or --train.sh-degree",
            self.render: "--train.density.max-gaussians or --train.trajectory.max-views",
            self.full_size: "the size of the input images or --train.train-scale",
        }
        return flags[max(self.images, self.gaussians, self.render, self.full_size)]


def estimate_memory(
    cameras: Sequence[Camera], config: TrainConfig, *, keep_full_size: bool = False
) -> MemoryEstimate:
    """cameras: of the frames at full input size. keep_full_size: they stay in memory beside the reduced ones."""
    full = [c.width * c.height for c in cameras]
    small = [training_camera(c, config) for c in cameras]
    # The scales are worked through one after the other beside the largest; equal sizes share their pixels.
    levels = [
        sum(r.width * r.height for r in (scaled(c, factor) for c in small))
        for factor in config.scales
        if factor < 1.0
    ]
    own = sum(c.width * c.height for c in small)
    held = sum(full) if keep_full_size and own != sum(full) else 0
    largest = max(c.width * c.height for c in small) * config.train_scale**2
    n = config.density.max_gaussians
    views = 1 if config.trajectory.kind == "static" else config.trajectory.max_views
    floats = 3 + 4 + 3 + 1 + 3 * (config.sh_degree + 1) ** 2
    return MemoryEstimate(
        images=_IMAGE_BYTES * (own + max(levels, default=0)) + 12 * held,
        gaussians=_PARAMETER_COPIES * 4 * floats * n,
        render=(
            views * (n * (_RECORD_BYTES + _TILES * _ENTRY_BYTES) + largest * _VIEW_PIXEL_BYTES)
            + n * _TILES * _SLOT_BYTES
            + largest * _STEP_PIXEL_BYTES
        ),
        full_size=(_FULL_SIZE_BYTES + _DRAWN_BYTES * (config.train_scale**2 - 1)) * max(full)
        + n * (_RECORD_BYTES + _TILES * _ENTRY_BYTES),
    )


def check_memory(estimate: MemoryEstimate, log: Log) -> None:
    """Raise ResourceError when the estimate is above what this process may still use, warn when it is near."""
    available = available_memory_bytes()
    if available is None:
        return
    text = f"training needs {estimate}, and {_gb(available)} of memory are free"
    if estimate.total > available:
        raise ResourceError(
            f"{text}. Lower {estimate.advice()}, or close other programs. Nothing was trained."
        )
    if estimate.total > WARN_SHARE * available:
        log.warn(f"{text}: it may run out. Lower {estimate.advice()} if it does.")


def _gb(number: int) -> str:
    return f"{number / 2**30:.2f} GB"
