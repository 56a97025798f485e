"""deblurgs upscale."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from deblurgs.cli.arguments import shown
from deblurgs.errors import UsageError
from deblurgs.log import Log


@dataclass
class Upscale:
    """Enlarge pictures: blur, noise and JPEG loss of each are estimated and removed.

    One picture at a time, whatever it shows. Detail that several views of a scene really recorded comes from
    `run --train-scale 2` instead.

    Examples:
      deblurgs upscale photo.jpg --scale 2
      deblurgs upscale photo.jpg --scale 4 -o large.png
      deblurgs upscale RUN
      deblurgs upscale photo.jpg --do noise=0
    """

    sources: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Pictures, folders of pictures, or a run folder (its sharp frames)."""
    scale: Literal[2, 3, 4] = 2
    """Pixels per side, relative to the input."""
    output: Annotated[
        Path | None, shown("deblurgs_upscaled; of a run, renders/sharp_x<scale> in it", aliases=("-o",))
    ] = None
    """Folder for the results; for one picture also a .jpg or .png file."""
    do: tuple[str, ...] = ()
    """Set factors by hand instead of estimating them: blur=, noise=, jpeg= with 0 (absent) to 1 (strongest).
    `--do noise=0` keeps the grain and changes nothing else."""
    intervention: float = 1.0
    """Strength of the learnt correction of the estimated factors, 0 (off) to 1."""
    weights: Annotated[Path | None, shown("those that ship")] = None
    """Weights of your own: a .safetensors file of tools/train_causal_sr.py."""
    max_pixels: float = 200e6
    """Refuse pictures with more pixels than this."""
    overwrite: bool = False
    """Replace results that are there already."""
    quiet: bool = False
    """Print only warnings and errors."""

    def execute(self) -> None:
        from deblurgs.stages.upscale import UpscaleSettings, upscale

        if not self.sources:
            raise UsageError("name at least one picture, folder or run folder")
        if not 0.0 <= self.intervention <= 1.0:
            raise UsageError(f"--intervention must be from 0 to 1, not {self.intervention}")
        if not self.max_pixels > 0:
            raise UsageError("--max-pixels must be above 0")
        settings = UpscaleSettings(self.scale, self.do, self.intervention, self.weights, self.max_pixels)
        for path in upscale(
            self.sources, self.output, settings, Log(quiet=self.quiet), overwrite=self.overwrite
        ):
            print(path)
