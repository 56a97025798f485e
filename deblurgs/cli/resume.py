"""deblurgs resume."""

from dataclasses import dataclass

from deblurgs.cli.arguments import Source, require_run_folder
from deblurgs.log import Log


@dataclass
class Resume:
    """Go on with a run that was interrupted or killed, or that ran out of disk or memory.

    Its own settings are used. Finished stages are not repeated, and a training goes on from its last checkpoint: on the
    CPU with the same result, bit for bit, as if it had never been stopped.

    Example:
      deblurgs resume RUN
    """

    run: Source
    """The run folder."""
    quiet: bool = False
    """Print only warnings and errors."""
    json: bool = False
    """Print JSON events to stdout, one per line, instead of text."""

    def execute(self) -> None:
        from deblurgs.run import RunFolder
        from deblurgs.stages.resume import resume

        log = Log(quiet=self.quiet, events=self.json)
        with RunFolder(require_run_folder(self.run), log=log) as run:
            resume(run, log)
            log.result(str(self.run))
