"""Arguments -> command -> exit code: errors become one message.

Exit codes: 0 done, 1 bug, 2 usage, 3 input unusable, 4 SfM failed, 5 out of resources, 130 interrupted.
"""

import contextlib
import dataclasses
import difflib
import os
import signal
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, get_args

import tyro

from deblurgs import __version__
from deblurgs.cli import manual
from deblurgs.cli.commands import COMMANDS, Command
from deblurgs.cli.doctor import Doctor
from deblurgs.command import command_line
from deblurgs.config import PresetName, preset
from deblurgs.errors import EXIT_INTERRUPTED, DeblurgsError, ResourceError, UsageError
from deblurgs.files import not_allowed
from deblurgs.log import console, say, write_event

_LONGEST_PATH = 4096
"""Characters."""


def parse(arguments: Sequence[str]) -> Command:
    """Arguments -> command. `--preset` is read first, because it decides the defaults that the help shows."""
    asked = arguments[0] if arguments and arguments[0] in COMMANDS else None
    try:
        return _every_command(arguments) if asked is None else _one_command(asked, arguments)
    except SystemExit:
        if not arguments or {"-h", "--help"} & set(arguments):
            print(f"\n{manual.details(COMMANDS[asked].__doc__ if asked else manual.INTRODUCTION)}")
        raise


def _one_command(name: str, arguments: Sequence[str]) -> Command:
    """Parsed on its own: what is wrong is told by its own options, not by those of all commands."""
    command = COMMANDS[name]
    return tyro.cli(
        command, prog=f"deblurgs {name}", args=list(arguments[1:]), default=_unsaid(command, arguments),
        description=manual.summary(command.__doc__),
    )  # fmt: skip


def _every_command(arguments: Sequence[str]) -> Command:
    """Without a command only help can follow, or what is wrong with the arguments."""
    union: list[object] = []
    for name, command in COMMANDS.items():
        about = manual.summary(command.__doc__)
        chosen = tyro.conf.subcommand(name, default=_unsaid(command, arguments), description=about)
        union.append(Annotated[command, chosen])
    merged = union[0]
    for item in union[1:]:
        merged = merged | item  # type: ignore[operator]
    return tyro.cli(
        merged,  # type: ignore[arg-type]
        prog="deblurgs", args=list(arguments), description=manual.summary(manual.INTRODUCTION),
    )  # fmt: skip


def _unsaid(command: type[Command], arguments: Sequence[str]) -> Command:
    """The command as it is where the user says nothing."""
    settings = preset(_preset_of(arguments))
    fields = dataclasses.fields(command)  # type: ignore[arg-type]
    return command(**{f.name: settings if f.name == "train" else _default(f) for f in fields})


def _lies_there(argument: str) -> bool:
    try:
        return Path(argument).exists()
    except OSError:  # too long for a name
        return False


def _refuse_unknown_command(arguments: Sequence[str]) -> None:
    """Raises UsageError with the command that was probably meant, or with all of them."""
    if not arguments or arguments[0] in COMMANDS or arguments[0].startswith("-"):
        return
    alike = difflib.get_close_matches(arguments[0].lower(), COMMANDS, n=1, cutoff=0.7)
    meant = command_line(*alike, *arguments[1:]) if alike else None
    advice = f"Did you mean  {meant}" if meant else f"The commands are {', '.join(COMMANDS)}"
    raise UsageError(f"there is no command {arguments[0]!r}. {advice}  (`deblurgs --help` explains them all)")


def _refuse_a_name_in_pieces(arguments: Sequence[str]) -> None:
    """`run my clip.mp4`: the shell cuts a name without quotes at its blanks. Raises UsageError with the quoted name."""
    for start in range(1, len(arguments) - 1):
        # What is there is meant; after an option, and before what is there, stands the option's value.
        value = arguments[start - 1].startswith("-") and _lies_there(arguments[start + 1])
        if value or arguments[start].startswith("-") or _lies_there(arguments[start]):
            continue
        for end in range(start + 2, len(arguments) + 1):
            whole = " ".join(arguments[start:end])
            if arguments[end - 1].startswith("-") or len(whole) > _LONGEST_PATH:
                break
            if not _lies_there(whole):
                continue
            wanted = command_line(*arguments[:start], whole, *arguments[end:])
            raise UsageError(f"a name with blanks needs quotes:  {wanted}")


def _refuse_several_sources(arguments: Sequence[str]) -> None:
    """`run photos/*.jpg`: the shell names every photo. Raises UsageError with what to name instead."""
    if not arguments or arguments[0] not in ("run", "process", "triage", "eval"):
        return
    for before, first, second in zip(arguments, arguments[1:], arguments[2:], strict=False):
        # After an option the first may be its value.
        if before.startswith("-") or not (_lies_there(first) and _lies_there(second)):
            continue
        wanted = command_line(arguments[0], Path(first).parent)
        raise UsageError(
            f"{first} and {second}: `{arguments[0]}` takes one source. Give the folder of the photos:  {wanted}"
        )


def _default(field: dataclasses.Field[object]) -> object:
    """What a field is when the user says nothing; tyro.MISSING for one that must be given."""
    if field.default is not dataclasses.MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else tyro.MISSING


def _preset_of(arguments: Sequence[str]) -> PresetName:
    """The value of --preset wherever it stands; tyro reports a wrong one."""
    for i, argument in enumerate(arguments):
        value = argument.partition("=")[2] if argument.startswith("--preset=") else None
        if argument == "--preset" and i + 1 < len(arguments):
            value = arguments[i + 1]
        for known in get_args(PresetName):
            if value == known:
                return known
    return "default"


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Returns the exit code; argument errors exit with 2 from the parser itself."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments == ["--version"]:
        print(f"deblurgs {__version__}")
        return 0
    signal.signal(signal.SIGTERM, _interrupt)
    events = _asks_for_events(arguments)
    try:
        if arguments and arguments[0] not in COMMANDS and _lies_there(arguments[0]):
            wanted = command_line("run", *arguments)
            raise UsageError(
                f"a command is missing before {arguments[0]}. For sharp frames and a scene:  {wanted}"
            )
        _refuse_unknown_command(arguments)
        _refuse_a_name_in_pieces(arguments)
        _refuse_several_sources(arguments)
        try:
            command = parse(arguments)
        except SystemExit as stopped:
            if stopped.code:
                _event(events, "wrong usage: what the parser said on stderr", UsageError.exit_code)
            raise
        events = getattr(command, "json", False) in (True, Path("-")) and not isinstance(command, Doctor)
        command.execute()
        return 0
    except DeblurgsError as error:
        _event(events, str(error), error.exit_code)
        say(f"error: {error}", "red")
        return error.exit_code
    except KeyboardInterrupt as interruption:
        # What was interrupted may know more about how to go on.
        told = str(interruption)
        _event(events, told or "interrupted", EXIT_INTERRUPTED)
        say(
            told
            or "interrupted. What is finished is kept;  deblurgs resume RUN  or the same command goes on from there."
        )
        return EXIT_INTERRUPTED
    except MemoryError:
        _event(events, "out of memory", ResourceError.exit_code)
        say("error: out of memory. Use --train.max-side or --train.density.max-gaussians.", "red")
        return ResourceError.exit_code
    except RuntimeError as error:
        # torch reports a failed allocation this way.
        if "can't allocate memory" not in str(error) and "CUDA out of memory" not in str(error):
            return _bug(error, events)
        _event(events, f"out of memory ({error})", ResourceError.exit_code)
        say(f"error: out of memory ({error}). Use --train.max-side.", "red")
        return ResourceError.exit_code
    except PermissionError as error:
        if error.filename is None:
            return _bug(error, events)
        explained = not_allowed(error)
        _event(events, str(explained), explained.exit_code)
        say(f"error: {explained}", "red")
        return explained.exit_code
    except BrokenPipeError:
        # The reader of our output went away (a pipe to head); the rest has no one to be printed to.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        # Events come while the work goes on, and the work ended with them.
        return EXIT_INTERRUPTED if events else 0
    except Exception as error:
        return _bug(error, events)


def _asks_for_events(arguments: list[str]) -> bool:
    """Whether the words of a command line, right or wrong, want events; `doctor` and `eval` mean another --json."""
    if arguments[:1] == ["eval"]:
        return "--json=-" in arguments or ("--json", "-") in pairwise(arguments)
    return "--json" in arguments and arguments[:1] != ["doctor"]


def _event(wanted: bool, text: str, exit_code: int) -> None:
    """The last line of a command that failed. Its reader may be gone."""
    if wanted:
        with contextlib.suppress(OSError):
            write_event("error", text=text, exit_code=exit_code)


def _bug(error: Exception, events: bool) -> int:
    _event(events, f"{type(error).__name__}: {error}", 1)
    console.print_exception()
    say("This is a bug in deblurgs: please report it with the text above.", "red")
    return 1


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
