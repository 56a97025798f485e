"""deblurgs run, and its first stages on their own: process, train."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from deblurgs.cli.arguments import (
    Source,
    default_output,
    require_interval,
    require_port,
    shown,
)
from deblurgs.config import PresetName, TrainConfig
from deblurgs.log import Log
from deblurgs.raster.devices import DeviceName, require
from deblurgs.stages.folders import require_run_folder
from deblurgs.stages.observe import MonitorName, require_monitors, watching
from deblurgs.stages.process import ProcessConfig, with_shutter


@dataclass
class Run:
    """Blurry video or photos in, sharp frames, sharp video and splat file out.

    Everything goes into the run folder: sharp frames in renders/sharp, observed beside sharp in renders/compare.jpg,
    the scene in export/scene.ply, an overview in report.html. Finished stages are not repeated, and a command that was
    stopped goes on when it is given again.

    Examples:
      deblurgs run clip.mp4
      deblurgs run photos/ --output runs/desk --preset fast
      deblurgs run clip.mp4 --viewer
    """

    source: Source
    """A video or a folder of photos.
    Also: a COLMAP project (images/ and sparse/0), a transforms.json of nerfstudio or instant-ngp, a Polycam export,
    a zip file of one of these, a Deblur-NeRF folder."""
    output: Annotated[Path | None, shown("deblurgs_runs/<name of the source>", aliases=("-o",))] = None
    """The run folder."""
    preset: PresetName = "default"
    """fast: about a minute, at half size.
    default: minutes.
    best: as long as it helps."""
    fallback: Literal["single", "none"] = "single"
    """What happens without a scene (too few frames, no camera poses), and to frames that found no pose.
    single: each is restored alone by a neural network, which is said.
    none: no scene is an error, and frames without a pose are left out."""
    overwrite: bool = False
    """Repeat stages that are already done."""
    quiet: bool = False
    """Print only warnings and errors."""
    device: DeviceName = "auto"
    """Where to train and render; auto: an NVIDIA GPU where one can be used, else the CPU."""
    checkpoint_every: float = 45.0
    """Seconds between two checkpoints of the training, from which `resume` goes on."""
    json: bool = False
    """Print JSON events to stdout, one per line, instead of text."""
    viewer: bool = False
    """Watch the training in the browser, on this machine only: scene, loss curve, pause."""
    viewer_port: int = 8080
    """Port of the viewer; the next free one when it is taken."""
    monitor: Annotated[tuple[MonitorName, ...], shown("none")] = ()
    """Write the training's curves for these tools too (they come with the extra `log`)."""
    process: tyro.conf.OmitArgPrefixes[ProcessConfig] = field(default_factory=ProcessConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        require_interval(self.checkpoint_every)
        require_port(self.viewer_port)

    def execute(self) -> None:
        from deblurgs.capture.source import require_source
        from deblurgs.run import RunFolder
        from deblurgs.stages.render import render
        from deblurgs.stages.report import report, where_to_look
        from deblurgs.stages.request import save_request
        from deblurgs.stages.single import process_or_restore
        from deblurgs.stages.train import train

        require(self.device)
        require_monitors(self.monitor)
        # Before the run folder is touched: a typing error must not make a finished run outdated.
        folder = self.output or default_output(self.source)
        require_source(self.source, self.process.max_frames, folder)
        log = Log(quiet=self.quiet, events=self.json)
        asked = with_shutter(self.process, self.train.trajectory, self.source)
        with RunFolder(folder, log=log) as run:
            # First of all: a run that is killed can then be resumed from its folder alone.
            save_request(
                run, source=self.source, process=asked, preset_name=self.preset, train=self.train,
                checkpoint_every=self.checkpoint_every, fallback=self.fallback, device=self.device,
                overwrite=self.overwrite,
            )  # fmt: skip
            if not process_or_restore(
                run, self.source, asked, log, fallback=self.fallback, device=self.device,
                overwrite=self.overwrite,
            ):  # fmt: skip
                log.info(f"to look at in a browser: {report(run, log)}")
                log.result(str(folder))
                return
            with watching(
                run, log, viewer=self.viewer, port=self.viewer_port, monitors=self.monitor
            ) as observers:
                train(
                    run, self.train, log, overwrite=self.overwrite, checkpoint_every=self.checkpoint_every,
                    device=self.device, observers=observers,
                )  # fmt: skip
                render(
                    run, log, overwrite=self.overwrite, device=self.device, fallback=self.fallback == "single"
                )
                page = report(run, log)
            log.info(where_to_look(run, page))
            log.result(str(folder))


@dataclass
class Process:
    """Only frames and camera poses: choose frames, find cameras.

    The first part of `run`. `train` and `render` go on from there; sfm/sfm.json tells what was tried.

    Examples:
      deblurgs process clip.mp4 --max-frames 100
      deblurgs train deblurgs_runs/clip
      deblurgs render deblurgs_runs/clip
    """

    source: Source
    """A video or a folder of photos.
    Also: a COLMAP project (images/ and sparse/0), a transforms.json of nerfstudio or instant-ngp, a Polycam export,
    a zip file of one of these, a Deblur-NeRF folder."""
    output: Annotated[Path | None, shown("deblurgs_runs/<name of the source>", aliases=("-o",))] = None
    """The run folder."""
    overwrite: bool = False
    """Repeat stages that are already done."""
    quiet: bool = False
    """Print only warnings and errors."""
    json: bool = False
    """Print JSON events to stdout, one per line, instead of text."""
    rolling_shutter: bool = False
    """Refine the cameras of a video for rows that were exposed one after the other.
    `run` does it where --train.trajectory.rolling-shutter asks for it."""
    readout: float | None = None
    """Known time from the first to the last row of a rolling shutter, in frame intervals.
    Negative from bottom to top."""
    process: tyro.conf.OmitArgPrefixes[ProcessConfig] = field(default_factory=ProcessConfig)

    def execute(self) -> None:
        from deblurgs.capture.source import require_source
        from deblurgs.run import RunFolder
        from deblurgs.stages.process import process
        from deblurgs.stages.request import save_request

        folder = self.output or default_output(self.source)
        require_source(self.source, self.process.max_frames, folder)
        log = Log(quiet=self.quiet, events=self.json)
        asked = replace(
            self.process, rolling_shutter=self.rolling_shutter or bool(self.readout), readout=self.readout
        )
        with RunFolder(folder, log=log) as run:
            save_request(run, source=self.source, process=asked, overwrite=self.overwrite)
            process(run, self.source, asked, log, overwrite=self.overwrite)
            log.result(str(folder))


@dataclass
class Train:
    """Only the joint optimisation, in a run folder that `process` filled.

    Gaussians and the path of the camera during every exposure are optimised together until the simulated photos agree
    with the observed ones. `render` makes pictures of the result. The first Ctrl-C finishes the step and keeps what
    was reached; `resume` goes on from there.

    Examples:
      deblurgs train RUN
      deblurgs train RUN --preset best --overwrite
      deblurgs train RUN --trajectory continuous --overwrite
    """

    run: Source
    """The run folder."""
    preset: PresetName = "default"
    """fast: about a minute, at half size.
    default: minutes.
    best: as long as it helps."""
    overwrite: bool = False
    """Train again although a scene is there."""
    quiet: bool = False
    """Print only warnings and errors."""
    device: DeviceName = "auto"
    """Where to train; auto: an NVIDIA GPU where one can be used, else the CPU."""
    checkpoint_every: float = 45.0
    """Seconds between two checkpoints of the training, from which `resume` goes on."""
    json: bool = False
    """Print JSON events to stdout, one per line, instead of text."""
    viewer: bool = False
    """Watch the training in the browser, on this machine only: scene, loss curve, pause."""
    viewer_port: int = 8080
    """Port of the viewer; the next free one when it is taken."""
    monitor: Annotated[tuple[MonitorName, ...], shown("none")] = ()
    """Write the training's curves for these tools too (they come with the extra `log`)."""
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        require_interval(self.checkpoint_every)
        require_port(self.viewer_port)

    def execute(self) -> None:
        from deblurgs.run import RunFolder
        from deblurgs.stages.request import save_request
        from deblurgs.stages.train import train

        require(self.device)
        require_monitors(self.monitor)
        log = Log(quiet=self.quiet, events=self.json)
        with RunFolder(require_run_folder(self.run), log=log) as run:
            save_request(
                run, preset_name=self.preset, train=self.train, checkpoint_every=self.checkpoint_every,
                device=self.device, overwrite=self.overwrite,
            )  # fmt: skip
            with watching(
                run, log, viewer=self.viewer, port=self.viewer_port, monitors=self.monitor
            ) as observers:
                train(
                    run, self.train, log, overwrite=self.overwrite, checkpoint_every=self.checkpoint_every,
                    device=self.device, observers=observers,
                )  # fmt: skip
            log.result(str(self.run))
