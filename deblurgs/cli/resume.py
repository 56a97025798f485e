"""deblurgs resume."""

from dataclasses import dataclass
from typing import Annotated

from deblurgs.cli.arguments import Source, require_port, shown
from deblurgs.log import Log
from deblurgs.stages.folders import require_run_folder
from deblurgs.stages.observe import MonitorName, require_monitors


@dataclass
class Resume:
    """Go on with a run that was interrupted or killed, or that ran out of disk or memory.

    Its own settings are used. Finished stages are not repeated, and a training goes on from its last checkpoint: on the
    CPU with the same result, bit for bit, as if it had never been stopped.

    Examples:
      deblurgs resume RUN
      deblurgs resume RUN --viewer
    """

    run: Source
    """The run folder."""
    quiet: bool = False
    """Print only warnings and errors."""
    json: bool = False
    """Print JSON events to stdout, one per line, instead of text."""
    viewer: bool = False
    """Watch the training in the browser, on this machine only: scene, loss curve, pause."""
    viewer_port: int = 8080
    """Port of the viewer; the next free one when it is taken."""
    monitor: Annotated[tuple[MonitorName, ...], shown("none")] = ()
    """Write the training's curves for these tools too (they come with the extra `log`)."""

    def __post_init__(self) -> None:
        require_port(self.viewer_port)

    def execute(self) -> None:
        from deblurgs.run import RunFolder
        from deblurgs.stages.resume import resume

        require_monitors(self.monitor)
        log = Log(quiet=self.quiet, events=self.json)
        with RunFolder(require_run_folder(self.run), log=log) as run:
            resume(run, log, viewer=self.viewer, viewer_port=self.viewer_port, monitors=self.monitor)
            log.result(str(self.run))
