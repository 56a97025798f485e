"""deblurgs run, and its first stages on their own: process, train."""

from dataclasses import dataclass, field
from pathlib import Path

import tyro

from deblurgs.cli.arguments import Source, default_output, require_run_folder
from deblurgs.config import PresetName, TrainConfig, preset
from deblurgs.log import Log
from deblurgs.stages.observe import MonitorName, watching
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
    overwrite: bool = False
    """Repeat stages that are already done."""
    quiet: bool = False
    """Print only warnings and errors."""
    json: bool = False
    """Print JSON events to stdout, one per line, instead of text."""
    viewer: bool = False
    """Watch the training in the browser, on this machine only: scene, loss curve, pause."""
    viewer_port: int = 8080
    """Port of the viewer; the next free one when it is taken."""
    monitor: tuple[MonitorName, ...] = ()
    """Write the training's curves for other tools too: tensorboard, rerun (extra `log`)."""
    process: tyro.conf.OmitArgPrefixes[ProcessConfig] = field(default_factory=ProcessConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def execute(self) -> None:
        from deblurgs.run import RunFolder
        from deblurgs.stages.process import process
        from deblurgs.stages.render import render
        from deblurgs.stages.train import save_config, train

        log = Log(quiet=self.quiet, events=self.json)
        folder = self.output or default_output(self.source)
        with RunFolder(folder, log=log) as run:
            with watching(
                run, log, viewer=self.viewer, port=self.viewer_port, monitors=self.monitor
            ) as observers:
                process(run, self.source, self.process, log, overwrite=self.overwrite)
                save_config(run, self.preset, self.train, preset(self.preset))
                train(run, self.train, log, overwrite=self.overwrite, observers=observers)
                render(run, log, overwrite=self.overwrite)
            log.result(str(folder))


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
    json: bool = False
    """Print JSON events to stdout, one per line, instead of text."""
    process: tyro.conf.OmitArgPrefixes[ProcessConfig] = field(default_factory=ProcessConfig)

    def execute(self) -> None:
        from deblurgs.run import RunFolder
        from deblurgs.stages.process import process

        log = Log(quiet=self.quiet, events=self.json)
        folder = self.output or default_output(self.source)
        with RunFolder(folder, log=log) as run:
            process(run, self.source, self.process, log, overwrite=self.overwrite)
            log.result(str(folder))


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
    json: bool = False
    """Print JSON events to stdout, one per line, instead of text."""
    viewer: bool = False
    """Watch the training in the browser, on this machine only: scene, loss curve, pause."""
    viewer_port: int = 8080
    """Port of the viewer; the next free one when it is taken."""
    monitor: tuple[MonitorName, ...] = ()
    """Write the training's curves for other tools too: tensorboard, rerun (extra `log`)."""
    train: TrainConfig = field(default_factory=TrainConfig)

    def execute(self) -> None:
        from deblurgs.run import RunFolder
        from deblurgs.stages.train import save_config, train

        log = Log(quiet=self.quiet, events=self.json)
        with RunFolder(require_run_folder(self.run), log=log) as run:
            save_config(run, self.preset, self.train, preset(self.preset))
            with watching(
                run, log, viewer=self.viewer, port=self.viewer_port, monitors=self.monitor
            ) as observers:
                train(run, self.train, log, overwrite=self.overwrite, observers=observers)
