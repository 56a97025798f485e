"""Argument types that several commands share."""

from pathlib import Path
from typing import Annotated

import tyro

from deblurgs.errors import UsageError

Source = Annotated[Path, tyro.conf.Positional]


def default_output(source: Path) -> Path:
    """deblurgs_runs/<name>: beside the caller, never beside the user's footage."""
    return Path("deblurgs_runs") / (source.resolve().stem or "run")


def require_run_folder(folder: Path) -> Path:
    """`folder`, which must exist. Raises UsageError."""
    if not folder.is_dir():
        raise UsageError(
            f"{folder} is not a run folder. `deblurgs run SOURCE` or `deblurgs process SOURCE` makes one."
        )
    return folder
