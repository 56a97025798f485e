"""The command line: one file per command, each a dataclass of its arguments with `execute()`."""

from deblurgs.cli.entry import main

__all__ = ["main"]
