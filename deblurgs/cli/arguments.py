"""Argument types that several commands share."""

from pathlib import Path
from typing import Annotated, Any

import tyro

from deblurgs.files import RUNS

Source = Annotated[Path, tyro.conf.Positional]


def shown(default: str, *, aliases: tuple[str, ...] = ()) -> Any:
    """For `Annotated`: the help tells the default in these words, where the value itself (None) says nothing."""
    return tyro.conf.arg(help_behavior_hint=f"(default: {default})", aliases=aliases or None)


def default_output(source: Path) -> Path:
    """deblurgs_runs/<name>: beside the caller, never beside the user's footage."""
    # Every transforms.json has the same name; its folder tells which capture it is.
    named = source.resolve().parent if source.suffix.lower() == ".json" else source.resolve()
    return Path(RUNS) / (named.stem or "run")


def require_interval(seconds: float) -> None:
    """Raise ValueError, which the command line shows as wrong usage, unless checkpoints may come this often."""
    if not 0 <= seconds <= 86_400:
        raise ValueError(f"--checkpoint-every must be from 0 to 86400 seconds, not {seconds}")


def require_port(port: int) -> None:
    """Raise ValueError, which the command line shows as wrong usage, unless this can be a port."""
    if not 0 <= port <= 65535:
        raise ValueError(f"--viewer-port must be from 0 to 65535, not {port}")
