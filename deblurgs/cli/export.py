"""deblurgs export."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from deblurgs.cli.arguments import Source, shown
from deblurgs.errors import UsageError
from deblurgs.log import Log
from deblurgs.stages.folders import require_run_folder

if TYPE_CHECKING:
    from deblurgs.stages.formats import Format

FormatName = Literal[
    "auto", "ply", "spz", "splat", "html", "colmap", "transforms", "tum", "camera-path", "mp4", "depth"
]
VideoName = Literal["sharp", "side-by-side", "wipe", "slow-motion", "stabilised"]
_ENDINGS: "dict[str, Format]" = {
    ".html": "html", ".htm": "html", ".ply": "ply", ".spz": "spz", ".splat": "splat", ".tum": "tum", ".mp4": "mp4",
}  # fmt: skip
"""Endings that leave no doubt."""


@dataclass
class Export:
    """A trained run as a file for another tool: splats, cameras, video, depth.

    All formats describe one world, that of sfm/sparse/0.

    Examples:
      deblurgs export RUN
      deblurgs export RUN -o desk.spz
      deblurgs export RUN --format mp4 --video wipe
    """

    run: Source
    """The run folder."""
    format: FormatName = "auto"
    """auto: what the ending of --output says; html without --output.
    html: one page with the scene and a viewer, for any browser, offline.
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
        meant = format_meant(self.format, self.output)
        log = Log(quiet=self.quiet)
        with RunFolder(require_run_folder(self.run), log=log) as run:
            print(
                export(
                    run, meant, log, self.output, overwrite=self.overwrite, spz_version=self.spz_version,
                    video=self.video, fps=self.fps, slowdown=self.slowdown, smoothing=self.smoothing,
                )
            )  # fmt: skip


def format_meant(asked: FormatName, output: Path | None) -> "Format":
    """The format, by --format or by the file's ending. Raises UsageError where one contradicts the other, or where the
    ending is unknown or missing."""
    ending = output.suffix.lower() if output is not None else ""
    by_ending = _ENDINGS.get(ending)
    if asked == "auto":
        if output is not None and by_ending is None:
            raise UsageError(f"{output}: the name does not tell which format is meant; add --format")
        return by_ending or "html"
    if by_ending not in (None, asked):
        raise UsageError(
            f"{output} would hold --format {asked} under the ending of another: name it otherwise, or use "
            f"--format {by_ending}"
        )
    return asked
