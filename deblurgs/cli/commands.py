"""The commands by name; `deblurgs --help` lists them in this order."""

from typing import Protocol

from deblurgs.cli.demo import Demo
from deblurgs.cli.doctor import Doctor
from deblurgs.cli.evaluate import Eval
from deblurgs.cli.render import Render
from deblurgs.cli.run import Process, Run, Train
from deblurgs.cli.upscale import Upscale


class Command(Protocol):
    """The parsed arguments of one command."""

    def execute(self) -> None:
        """Do it. Raises DeblurgsError for everything the user can do something about."""
        ...


COMMANDS: dict[str, type[Command]] = {
    "run": Run,
    "process": Process,
    "train": Train,
    "render": Render,
    "upscale": Upscale,
    "eval": Eval,
    "demo": Demo,
    "doctor": Doctor,
}
