"""What happens when memory runs out in the middle of a training: once a smaller step, then a clean end."""

import contextlib
from typing import TYPE_CHECKING

import torch

from deblurgs.errors import DeblurgsError, ResourceError
from deblurgs.scene.camera import Camera
from deblurgs.train.state import is_whole

if TYPE_CHECKING:
    from deblurgs.train.loop import Trainer


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is Python's, torch's or a GPU's way of saying that an allocation failed."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and (
        "can't allocate memory" in text or "out of memory" in text or "bad_alloc" in text
    )


def relieve(trainer: "Trainer", camera: Camera, num_views: int, error: BaseException) -> None:
    """After a failed step: halve the virtual views and go on, the first time; a checkpoint and ResourceError then.

    Any other error is raised again. A step that failed while Gaussians were being added leaves them unfinished: the
    checkpoint before it is then the one that counts.
    """
    if not is_out_of_memory(error):
        raise error
    trainer.forget_gradients()
    whole = is_whole(trainer)
    if whole and not trainer.relieved and num_views > 1:
        trainer.relieved = True
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        trainer.most_views = max(1, num_views // 2)
        trainer.views = [min(v, trainer.most_views) for v in trainer.views]
        trainer.log.warn(
            f"memory ran out at step {trainer.step}: going on with at most {trainer.most_views} virtual views instead "
            f"of {num_views}"
        )
        return
    if whole and trainer.keep is not None:
        with contextlib.suppress(DeblurgsError, MemoryError, RuntimeError, OSError):
            trainer.keep(trainer, True)
    raise ResourceError(
        f"out of memory at step {trainer.step}: {trainer.gaussians.num_gaussians} Gaussians, {num_views} virtual "
        f"views, {camera.width}x{camera.height} pixels. The last checkpoint is kept: free some memory and repeat the "
        "command, or train anew with a lower --train.max-side or --train.density.max-gaussians."
    ) from error
