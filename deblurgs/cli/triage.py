"""deblurgs triage."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from deblurgs.cli.arguments import Source, default_output, shown
from deblurgs.errors import UsageError
from deblurgs.log import Log


@dataclass
class Triage:
    """Which pictures are blurred, how, and which are the sharpest of the sequence.

    Prints a table, the sharpest first, and writes it as triage.json with a contact sheet triage.jpg. No scene is made;
    seconds are enough. Trust the rank first, the probability second.

    Examples:
      deblurgs triage clip.mp4
      deblurgs triage photos/ --output triage
    """

    source: Source
    """A picture, a folder of pictures or a video."""
    output: Annotated[Path | None, shown("deblurgs_runs/<name of the source>-triage", aliases=("-o",))] = None
    """The folder for triage.json and triage.jpg."""
    max_frames: int = 300
    """Look at an even choice of at most this many frames."""
    max_pixels: int = 200_000_000
    """Refuse images with more pixels than this."""
    overwrite: bool = False
    """Replace an earlier result."""
    quiet: bool = False
    """Print only the table, warnings and errors."""

    def execute(self) -> None:
        from rich.console import Console

        from deblurgs.capture.dataset import TRIAGE_FILE
        from deblurgs.stages.triage import SHEET_FILE, as_table, triage_source

        if self.max_frames < 1 or self.max_pixels < 1:
            raise UsageError("--max-frames and --max-pixels must be at least 1")
        plain = default_output(self.source)
        folder = self.output or plain.with_name(f"{plain.name}-triage")
        rows = triage_source(
            self.source, folder, Log(quiet=self.quiet),
            max_frames=self.max_frames, max_pixels=self.max_pixels, overwrite=self.overwrite,
        )  # fmt: skip
        Console().print(as_table(rows))
        print(folder / TRIAGE_FILE)
        print(folder / SHEET_FILE)
