"""deblurgs report."""

from dataclasses import dataclass

from deblurgs.cli.arguments import Source
from deblurgs.log import Log
from deblurgs.stages.folders import require_run_folder


@dataclass
class Report:
    """report.html: what came out of a run, how far it can be trusted and why.

    `run` writes it at its end; this writes it again, also for a run that is not finished. One file, which works offline
    and can be sent to anyone.

    Example:
      deblurgs report RUN
    """

    run: Source
    """The run folder."""
    quiet: bool = False
    """Print only warnings and errors."""

    def execute(self) -> None:
        from deblurgs.run import RunFolder
        from deblurgs.stages.report import report

        log = Log(quiet=self.quiet)
        with RunFolder(require_run_folder(self.run), log=log) as run:
            print(report(run, log))
