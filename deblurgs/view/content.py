"""What the viewer shows, as plain data: who reads the files stays outside."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from deblurgs.scene.camera import Camera
from deblurgs.scene.gaussians import Gaussians
from deblurgs.train.trained import TrainedScene

Floats = NDArray[np.float32]
StoredKind = Literal["sharp", "reblur", "support"]


@dataclass(frozen=True)
class Frames:
    """The frames of a run. cameras: of the input. observed(frame) -> its photo, stored(kind, frame) -> the picture in
    the run folder or None; both [H,W,3] display values."""

    scene: TrainedScene
    names: list[str]
    cameras: list[Camera]
    observed: Callable[[int], Floats]
    stored: Callable[[StoredKind, int], Floats | None]


@dataclass(frozen=True)
class Content:
    """A scene to walk around in: of a run with its frames, or of a splat file without."""

    gaussians: Gaussians
    antialiased: bool
    frames: Frames | None = None

    @property
    def supersample(self) -> int:
        """How many pixels lie side by side in one of the picture when the scene is drawn as it was trained."""
        return 1 if self.frames is None else self.frames.scene.config.train_scale
