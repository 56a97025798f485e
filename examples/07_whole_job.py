"""The whole job from Python: the stages of `deblurgs run`, one by one.

    python examples/07_whole_job.py clip.mp4 RUN --preset fast

- finished stages are not repeated: run it twice, or after Ctrl-C, and it goes on (`deblurgs resume` does not know how
  it was begun)
- without camera poses it ends with exit code 4; the command would then restore the frames singly
- errors that you can do something about are `DeblurgsError`; their `exit_code` is that of the command
"""

import sys
from pathlib import Path

import tyro

from deblurgs import config
from deblurgs.errors import DeblurgsError
from deblurgs.log import Log
from deblurgs.run import RunFolder
from deblurgs.stages.process import ProcessConfig, process
from deblurgs.stages.render import render
from deblurgs.stages.report import report
from deblurgs.stages.train import train


def main(source: Path, run: Path, /, preset: config.PresetName = "fast", max_frames: int = 40) -> None:
    """Sharp frames and a scene from blurry ones.

    Args:
        source: A video, a folder of photos, or another source of `deblurgs run`.
        run: The run folder, new or begun.
        preset: How much time to spend.
        max_frames: Most frames to use.
    """
    log = Log()
    try:
        with RunFolder(run, log=log) as folder:
            process(folder, source, ProcessConfig(max_frames=max_frames), log)
            train(folder, config.preset(preset), log)
            render(folder, log)
            print(report(folder, log))
    except DeblurgsError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    tyro.cli(main)
