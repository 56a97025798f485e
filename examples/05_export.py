"""Hand a run on: a page for people, splats for viewers, cameras for other trainers, a path for a video.

    python examples/05_export.py RUN --output handed-on

- opens the run folder as the commands do: locked, so that no other command changes it meanwhile
- writes the formats of `deblurgs export` (docs/exports.md) to a folder of your choice
"""

import sys
from pathlib import Path
from typing import get_args

import tyro

from deblurgs.errors import DeblurgsError
from deblurgs.log import Log
from deblurgs.run import RunFolder
from deblurgs.stages.formats import DEFAULT_NAMES, Format, export

FORMATS: tuple[Format, ...] = ("html", "spz", "colmap", "camera-path")


def main(
    run: Path,
    /,
    output: Path = Path("handed-on"),
    formats: tuple[Format, ...] = FORMATS,
    overwrite: bool = False,
) -> None:
    """Write a run in several formats.

    Args:
        run: The run folder.
        output: The folder for the results.
        formats: What to write.
        overwrite: Replace results that are there already.
    """
    log = Log()
    if not (run / "manifest.json").is_file():
        sys.exit(f"error: {run} is not a run folder")
    try:
        with RunFolder(run, log=log) as folder:
            for kind in formats:
                target = output / DEFAULT_NAMES.get(kind, "sharp.mp4")
                print(export(folder, kind, log, target, overwrite=overwrite))
    except DeblurgsError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    left = sorted(set(get_args(Format)) - set(formats))
    print(f"there are also: {', '.join(left)}")


if __name__ == "__main__":
    tyro.cli(main)
