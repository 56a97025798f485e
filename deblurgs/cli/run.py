"""deblurgs run, and its first stages on their own: process, train."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from deblurgs.cli.arguments import Source, default_output, require_run_folder
from deblurgs.config import PresetName, TrainConfig, preset
from deblurgs.log import Log
from deblurgs.stages.process import ProcessConfig


@dataclass
class Run:
    """Blurry video or photos in, sharp frames, sharp video and splat file out."""

    source: Source
    """A video, a folder of images, a COLMAP project (images/ + sparse/0) or a Deblur-NeRF folder."""
    output: Path | None = None
    """The run folder; default: deblurgs_runs/<name of the source>."""
    preset: PresetName = "default"
    """fast: about a minute; default: minutes; best: as long as it helps."""
    fallback: Literal["single", "none"] = "single"
    """Without a scene (too few frames, no camera poses), and for frames that found no pose: single restores each
    frame alone with a neural network and says so; none stops with an error and leaves such frames out."""
    overwrite: bool = False
    """Repeat stages that are already done."""
    quiet: bool = False
    """Print only warnings and errors."""
    process: tyro.conf.OmitArgPrefixes[ProcessConfig] = field(default_factory=ProcessConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def execute(self) -> None:
        from deblurgs.errors import SfmError, TooFewFramesError
        from deblurgs.run import RunFolder
        from deblurgs.stages.process import process
        from deblurgs.stages.render import render
        from deblurgs.stages.single import restore_singly
        from deblurgs.stages.train import save_config, train

        log = Log(quiet=self.quiet)
        folder = self.output or default_output(self.source)
        with RunFolder(folder, log=log) as run:
            try:
                process(run, self.source, self.process, log, overwrite=self.overwrite)
            except (SfmError, TooFewFramesError) as error:
                if self.fallback == "none":
                    raise
                limit = self.process.max_pixels
                restore_singly(run, self.source, error, log, max_pixels=limit, overwrite=self.overwrite)
                print(folder)
                return
            save_config(run, self.preset, self.train, preset(self.preset))
            train(run, self.train, log, overwrite=self.overwrite)
            render(run, log, overwrite=self.overwrite, fallback=self.fallback == "single")
            print(folder)


@dataclass
class Process:
    """Only frames and camera poses: choose frames, find cameras."""

    source: Source
    """A video, a folder of images, a COLMAP project or a Deblur-NeRF folder."""
    output: Path | None = None
    """The run folder; default: deblurgs_runs/<name of the source>."""
    overwrite: bool = False
    """Repeat stages that are already done."""
    quiet: bool = False
    """Print only warnings and errors."""
    process: tyro.conf.OmitArgPrefixes[ProcessConfig] = field(default_factory=ProcessConfig)

    def execute(self) -> None:
        from deblurgs.run import RunFolder
        from deblurgs.stages.process import process

        log = Log(quiet=self.quiet)
        folder = self.output or default_output(self.source)
        with RunFolder(folder, log=log) as run:
            process(run, self.source, self.process, log, overwrite=self.overwrite)
            print(folder)


@dataclass
class Train:
    """Only the joint optimisation, in a run folder that `process` filled."""

    run: Source
    """The run folder."""
    preset: PresetName = "default"
    """fast: about a minute; default: minutes; best: as long as it helps."""
    overwrite: bool = False
    """Train again although a scene is there."""
    quiet: bool = False
    """Print only warnings and errors."""
    train: TrainConfig = field(default_factory=TrainConfig)

    def execute(self) -> None:
        from deblurgs.run import RunFolder
        from deblurgs.stages.train import save_config, train

        log = Log(quiet=self.quiet)
        with RunFolder(require_run_folder(self.run), log=log) as run:
            save_config(run, self.preset, self.train, preset(self.preset))
            train(run, self.train, log, overwrite=self.overwrite)
