"""deblurgs view."""

from dataclasses import dataclass
from pathlib import Path

from deblurgs.cli.arguments import Source
from deblurgs.errors import UsageError
from deblurgs.log import Log


@dataclass
class View:
    """Walk through a trained run or a splat file in the browser.

    Prints an address to open; Ctrl-C ends it. Only this machine can reach it. From another one, forward the port:
    ssh -L 8080:127.0.0.1:8080 THIS_MACHINE. Nothing is written, and a run can be watched while it works.

    Examples:
      deblurgs view RUN
      deblurgs view scene.ply
    """

    source: Source
    """A run folder, or a splat file (.ply) of any program."""
    port: int = 8080
    """Port to listen on; the next free one when it is taken. 0: any free one."""
    host: str = "127.0.0.1"
    """Address to listen on. Anything but this machine's own needs --allow-remote."""
    allow_remote: bool = False
    """Let other machines in, with the secret in the printed address."""
    quiet: bool = False
    """Print only warnings and errors."""

    def execute(self) -> None:
        from deblurgs.stages.view import view

        if not 0 <= self.port <= 65535:
            raise UsageError(f"--port must be from 0 to 65535, not {self.port}")
        view(
            Path(self.source), Log(quiet=self.quiet), host=self.host, port=self.port, allow_remote=self.allow_remote
        )  # fmt: skip
