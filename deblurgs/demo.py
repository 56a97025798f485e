"""The small blurred capture that ships with the project, for `deblurgs demo` and for tests."""

from pathlib import Path

from deblurgs.errors import UsageError


def demo_source() -> Path:
    """The folder of the 28 blurred frames (480x320, free to redistribute; README.md beside it tells more).

    Found inside the installed package or, in a checkout and an editable installation, in scenes/desk. Raises
    UsageError when it is in neither place.
    """
    package = Path(__file__).resolve().parent
    candidates = [root / "scenes" / "desk" / "images" for root in (package, package.parent)]
    for folder in candidates:
        if folder.is_dir() and any(folder.glob("*.jpg")):
            return folder
    raise UsageError(
        f"the demo capture is missing (looked in {' and '.join(str(folder) for folder in candidates)}). "
        "Install deblurgs again, or run  deblurgs run  on a capture of your own."
    )
