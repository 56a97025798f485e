"""deblurgs export."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from deblurgs.cli.arguments import Source, require_run_folder, shown
from deblurgs.errors import UsageError
from deblurgs.log import Log

FormatName = Literal[
    "ply", "spz", "splat", "html", "colmap", "transforms", "tum", "camera-path", "mp4", "depth"
]
VideoName = Literal["sharp", "side-by-side", "wipe", "slow-motion", "stabilised"]


@dataclass
class Export:
    """A trained run as a file for another tool: splats, cameras, video, depth.

    All formats describe one world, that of sfm/sparse/0.

    Examples:
      deblurgs export RUN
      deblurgs export RUN --format spz -o desk.spz
      deblurgs export RUN --format mp4 --video wipe
    """

    run: Source
    """The run folder."""
    format: FormatName = "html"
    """html: one page with the scene and a viewer, for any browser, offline.
    ply, spz, splat: splats for viewers and editors.
    colmap, transforms: a folder with refined cameras and sharp images, for COLMAP or for nerfstudio.
    tum: poses as text.
    camera-path: a calm path as JSON, to edit and to render.
    mp4: a video, see --video.
    depth: a folder of 16-bit pictures."""
    output: Annotated[Path | None, shown("in export/ of the run folder", aliases=("-o",))] = None
    """The file; the folder, for colmap, transforms and depth."""
    video: VideoName = "sharp"
    """mp4, sharp: the sharp frames.
    side-by-side: observed left, sharp right.
    wipe: observed left of a bar that travels, sharp right.
    slow-motion: the inside of every exposure.
    stabilised: the capture's own path without shake."""
    fps: Annotated[float | None, shown("the source's; 6 for photos, 30 for rendered videos")] = None
    """mp4, camera-path: frames per second."""
    slowdown: int = 8
    """mp4 slow-motion: pictures per exposure."""
    smoothing: float = 1.5
    """mp4 stabilised, camera-path: window over which the path is calmed, in frames."""
    spz_version: Literal[3, 4] = 3
    """spz: 3 is read everywhere; 4 is newer and needs the package zstandard."""
    overwrite: bool = False
    """Write again what exists."""
    quiet: bool = False
    """Print only warnings and errors."""

    def execute(self) -> None:
        from deblurgs.run import RunFolder
        from deblurgs.stages.formats import export

        if not (self.fps is None or 0 < self.fps <= 240):
            raise UsageError("--fps must lie above 0 and up to 240")
        if not (1 <= self.slowdown <= 1000 and 0 < self.smoothing <= 1000):
            raise UsageError("--slowdown must lie in 1..1000, --smoothing above 0 and up to 1000")
        log = Log(quiet=self.quiet)
        with RunFolder(require_run_folder(self.run), log=log) as run:
            print(
                export(
                    run, self.format, log, self.output, overwrite=self.overwrite, spz_version=self.spz_version,
                    video=self.video, fps=self.fps, slowdown=self.slowdown, smoothing=self.smoothing,
                )
            )  # fmt: skip
