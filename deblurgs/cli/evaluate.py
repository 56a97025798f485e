"""deblurgs eval."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, get_args

from deblurgs.cli.arguments import Source, shown
from deblurgs.config import PresetName, TrainConfig
from deblurgs.errors import UsageError
from deblurgs.files import RUNS
from deblurgs.log import Log
from deblurgs.raster.devices import DeviceName, require

MethodName = Literal["plain", "deblurgs", "oracle", "restore-plain"]


@dataclass
class Eval:
    """Measure on a scene with held-out sharp views or sharp twins, beside plain splats.

    Prints a table in dB: raw poses, poses aligned by one similarity, and each pose refined on its reference.
    eval.json in the working folder holds all of it.

    Examples:
      deblurgs eval captures/desk
      deblurgs eval captures/desk --methods plain,deblurgs,oracle --seeds 0,1 --json desk.json
    """

    scene: Source
    """A Deblur-NeRF folder, or a folder with images/ and sharp/ and/or test/."""
    methods: str = "plain,deblurgs"
    """Comma-separated names of methods.
    plain: splats of the blurred frames.
    deblurgs: what `run` does.
    oracle: plain splats of the sharp twins, where there are twins: what perfect deblurring would reach.
    restore-plain: plain splats of the frames as `deblur` restores them one by one."""
    seeds: str = "0"
    """Comma-separated seeds; each method is trained once per seed."""
    sfm: Literal["auto", "given", "blurry-only"] = "auto"
    """given: the camera model that comes with the scene, or the exact poses of a rendered one (cameras.json).
    blurry-only: poses from the blurry frames alone.
    auto: the camera model where there is one, else blurry-only."""
    json: Annotated[Path | None, shown("no copy")] = None
    """A file for a copy of the results.
    "-" prints JSON events to stdout instead of text, one per line, the results as the last."""
    output: Annotated[Path | None, shown("deblurgs_runs/eval-<name of the scene>", aliases=("-o",))] = None
    """Working folder."""
    preset: PresetName = "default"
    """fast trains and measures at half size."""
    overwrite: bool = False
    """Repeat frame choice and SfM."""
    quiet: bool = False
    """Print only the table, warnings and errors."""
    device: DeviceName = "auto"
    """Where to train and measure; auto: an NVIDIA GPU where one can be used, else the CPU."""
    train: TrainConfig = field(default_factory=TrainConfig)

    def execute(self) -> None:
        from deblurgs.run import RunFolder
        from deblurgs.stages.evaluate import evaluate, require_truth

        require(self.device)
        events = self.json == Path("-")
        log = Log(quiet=self.quiet, events=events)
        known = get_args(MethodName)
        asked = [m.strip() for m in self.methods.split(",") if m.strip()]
        methods: tuple[MethodName, ...] = tuple(k for k in known if k in asked)
        if not methods or len(methods) < len(set(asked)):
            raise UsageError(f"--methods {self.methods!r}: known methods are {', '.join(known)}")
        try:
            seeds = tuple(int(s) for s in self.seeds.split(","))
        except ValueError:
            raise UsageError(
                f"--seeds {self.seeds!r}: give whole numbers separated by commas, like 0,1"
            ) from None
        folder = self.output or Path(RUNS) / f"eval-{self.scene.resolve().name}"
        # Before the working folder is touched and anything is computed.
        require_truth(self.scene, sfm=self.sfm, methods=methods, exclude=folder)
        with RunFolder(folder, log=log) as run:
            evaluate(
                run, self.scene, self.train, log, methods=methods, seeds=seeds, sfm=self.sfm,
                json_path=None if events else self.json, overwrite=self.overwrite, device=self.device,
            )  # fmt: skip
