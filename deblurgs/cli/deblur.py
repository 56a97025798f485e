"""deblurgs deblur."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from deblurgs.cli.arguments import shown
from deblurgs.files import DEBLURRED
from deblurgs.log import Log


@dataclass
class Deblur:
    """Sharpen single photos with a neural network, without a second view. For many views of one scene use `run`.

    The network may invent detail, and the weights that ship take a part of the blur away (docs/restore.md).
    Photos keep their names, their size, their bit depth and their EXIF date, camera and place.

    Examples:
      deblurgs deblur IMG_1234.jpg holiday/ -o deblurred
      deblurgs deblur IMG_1234.jpg --ensemble
      deblurgs deblur IMG_1234.jpg --weights MIMO-UNetPlus.pkl
    """

    photos: tyro.conf.Positional[tuple[Path, ...]]
    """Photos and folders of photos."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path(DEBLURRED)
    """Folder for the results, which keep their names; for one photo also a .jpg or .png file."""
    weights: Annotated[Path | None, shown("those that ship")] = None
    """Other weights: a .safetensors file or an official MIMO-UNet / MIMO-UNet+ checkpoint (.pkl)."""
    convert: Annotated[Path | None, shown("restore photos")] = None
    """Only write --weights as safetensors to this file; no photo is needed."""
    ensemble: bool = False
    """Mean over four mirror images: slightly better, four times as long."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: an NVIDIA GPU where one can be used, else the CPU."""
    tile: int = 512
    """Side of the pieces that are worked on, in pixels; smaller needs less memory."""
    max_pixels: int = 200_000_000
    """Refuse photos with more pixels than this."""
    overwrite: bool = False
    """Replace results that are there already."""
    quiet: bool = False
    """Print only warnings and errors."""

    def execute(self) -> None:
        from deblurgs.errors import UsageError
        from deblurgs.stages.deblur import DeblurConfig, convert, deblur

        log = Log(quiet=self.quiet)
        if self.convert is not None:
            if self.weights is None or self.photos:
                raise UsageError("--convert FILE needs --weights and no photos")
            convert(self.weights, self.convert, overwrite=self.overwrite)
            print(self.convert)
            return
        config = DeblurConfig(self.weights, self.ensemble, self.device, self.tile, self.max_pixels)
        for path in deblur(self.photos, self.output, config, log, overwrite=self.overwrite):
            print(path)
