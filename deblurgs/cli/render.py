"""deblurgs render."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from deblurgs.cli.arguments import Source
from deblurgs.errors import UsageError
from deblurgs.log import Log
from deblurgs.raster.devices import DeviceName, require
from deblurgs.stages.folders import require_run_folder


@dataclass
class Render:
    """Pictures of a trained run: sharp and re-blurred frames, or a calm novel path as video.

    With a training that was interrupted it shows what had been reached.

    Examples:
      deblurgs render RUN
      deblurgs render RUN --path smooth --seconds 6
      deblurgs render RUN --path calm.json
      deblurgs render RUN --scale 2
    """

    run: Source
    """The run folder."""
    path: str = "frames"
    """frames: every frame at its own pose.
    smooth: a calm path through the capture, to renders/path.mp4.
    FILE.json: the camera path in it, to renders/FILE.mp4; `export --format camera-path` writes such files."""
    seconds: float = 8.0
    """smooth: length of the video in seconds."""
    fps: int = 30
    """smooth: frames per second."""
    smoothing: float = 1.5
    """smooth: window over which the path is calmed, in frames of the capture."""
    scale: Literal[1, 2, 3, 4] = 1
    """frames: also write every sharp frame with this many times as many pixels per side, to renders/sharp_x<scale>.
    A scene trained with --train-scale draws them itself, otherwise the network of `deblurgs upscale` enlarges."""
    overwrite: bool = False
    """Render again although pictures are there."""
    quiet: bool = False
    """Print only warnings and errors."""
    device: DeviceName = "auto"
    """Where to render; auto: an NVIDIA GPU where one can be used, else the CPU."""
    json: bool = False
    """Print JSON events to stdout, one per line, instead of text."""

    def execute(self) -> None:
        from deblurgs.run import RunFolder
        from deblurgs.stages.render import camera_path_video, novel_path, render
        from deblurgs.stages.request import asked_fallback

        if not (0 < self.seconds <= 3600 and 0 < self.fps <= 240 and 0 < self.smoothing <= 1e3):
            raise UsageError("--seconds (up to 3600), --fps (up to 240) and --smoothing must be above 0")
        require(self.device)
        if self.path not in ("frames", "smooth") and not Path(self.path).is_file():
            raise UsageError(
                f"--path {self.path}: neither `frames` nor `smooth` nor a file with a camera path"
            )
        log = Log(quiet=self.quiet, events=self.json)
        with RunFolder(require_run_folder(self.run), log=log) as run:
            if self.path == "frames":
                fallback = asked_fallback(run) == "single"
                render(run, log, overwrite=self.overwrite, device=self.device, fallback=fallback)
                made = self.run
                if self.scale > 1:
                    from deblurgs.stages.enlarge import enlarge_frames

                    made = enlarge_frames(run, self.scale, log, overwrite=self.overwrite, device=self.device)
                log.result(str(made))
                return
            if self.scale > 1:
                raise UsageError(f"--scale enlarges the frames; it cannot be used with --path {self.path}")
            if self.path != "smooth":
                path = camera_path_video(
                    run, Path(self.path), log, overwrite=self.overwrite, device=self.device
                )
                log.result(str(path))
                return
            path = novel_path(
                run, log, seconds=self.seconds, fps=self.fps, smoothing=self.smoothing, overwrite=self.overwrite,
                device=self.device,
            )  # fmt: skip
            log.result(str(path))
