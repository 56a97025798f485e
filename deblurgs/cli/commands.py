"""The commands by name; `deblurgs --help` lists them in this order."""

from typing import Protocol

from deblurgs.cli.deblur import Deblur
from deblurgs.cli.demo import Demo
from deblurgs.cli.doctor import Doctor
from deblurgs.cli.evaluate import Eval
from deblurgs.cli.export import Export
from deblurgs.cli.render import Render
from deblurgs.cli.report import Report
from deblurgs.cli.resume import Resume
from deblurgs.cli.run import Process, Run, Train
from deblurgs.cli.triage import Triage
from deblurgs.cli.upscale import Upscale
from deblurgs.cli.view import View


class Command(Protocol):
    """The parsed arguments of one command."""

    def execute(self) -> None:
        """Do it. Raises DeblurgsError for everything the user can do something about."""
        ...


COMMANDS: dict[str, type[Command]] = {
    "run": Run,
    "process": Process,
    "train": Train,
    "resume": Resume,
    "render": Render,
    "triage": Triage,
    "view": View,
    "export": Export,
    "report": Report,
    "upscale": Upscale,
    "eval": Eval,
    "deblur": Deblur,
    "demo": Demo,
    "doctor": Doctor,
}
