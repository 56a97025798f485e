"""Folders that are named where a run folder is wanted."""

from pathlib import Path

from deblurgs.command import command_line
from deblurgs.errors import UsageError
from deblurgs.files import MANIFEST, is_run_folder


def require_run_folder(folder: Path) -> Path:
    """`folder`, which must be one that a run was begun in. Raises UsageError: what it is instead, and what to do."""
    if (folder / MANIFEST).is_file():
        return folder
    if not folder.exists():
        raise UsageError(
            f"{folder} is not a run folder: nothing of that name is there. `deblurgs run SOURCE` or "
            "`deblurgs process SOURCE` makes one."
        )
    what, advice = _found_instead(folder)
    raise UsageError(f"{folder} is not a run folder ({what}).  {advice}")


def _found_instead(folder: Path) -> tuple[str, str]:
    from deblurgs.capture.detect import IMAGE_SUFFIXES, RAW_SUFFIXES, VIDEO_SUFFIXES

    if not folder.is_dir():
        return "it is a file", f"{command_line('run', folder)}  makes one of a video."
    inside = sorted(folder.iterdir())
    runs = [path for path in inside if path.is_dir() and is_run_folder(path)]
    if runs:
        return "it holds such folders", f"Name one of them: {', '.join(str(run) for run in runs[:5])}"
    files = [path for path in inside if path.is_file()]
    if any(path.suffix.lower() in IMAGE_SUFFIXES | RAW_SUFFIXES for path in files):
        return "it holds photos", f"{command_line('run', folder)}  makes one."
    for path in files:
        if path.suffix.lower() in VIDEO_SUFFIXES:
            return "it holds a video", f"{command_line('run', path)}  makes one."
        if path.suffix.lower() == ".ply":
            return "it holds a splat file", f"{command_line('view', path)}  shows that."
    if not inside:
        return "it is empty", "`deblurgs run SOURCE` makes one."
    return f"it has no {MANIFEST}", "`deblurgs run SOURCE` makes one of a video or a folder of photos."
