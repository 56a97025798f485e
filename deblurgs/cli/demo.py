"""deblurgs demo."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from deblurgs.cli.run import Run
from deblurgs.config import TrainConfig, preset
from deblurgs.files import RUNS


@dataclass
class Demo:
    """The main job on a small capture that ships with the package; a few minutes on two cores.

    28 blurred pictures of a desk, 480x320. Look at renders/compare.jpg in the run folder, or at report.html.

    Example:
      deblurgs demo
    """

    output: Annotated[Path, tyro.conf.arg(aliases=("-o",))] = Path(RUNS) / "demo"
    """The run folder."""
    overwrite: bool = False
    """Repeat stages that are already done."""
    quiet: bool = False
    """Print only warnings and errors."""

    def execute(self) -> None:
        from deblurgs.demo import demo_source

        Run(
            source=demo_source(), output=self.output, overwrite=self.overwrite, quiet=self.quiet, train=demo_config()
        ).execute()  # fmt: skip


def demo_config() -> TrainConfig:
    """The default preset with fewer steps and Gaussians: a person who tries the demo waits for it."""
    config = preset("default")
    density = dataclasses.replace(config.density, max_gaussians=30_000)
    return dataclasses.replace(config, steps=(600, 600, 600), density=density)
