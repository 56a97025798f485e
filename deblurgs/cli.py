"""The command line: one function call per command, errors turned into one message and an exit code.

Exit codes: 0 done, 1 bug, 2 usage, 3 input unusable, 4 SfM failed, 5 out of resources, 130 interrupted.
"""

import contextlib
import dataclasses
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, get_args

import tyro

from deblurgs import __version__
from deblurgs.config import PresetName, TrainConfig, preset
from deblurgs.errors import EXIT_INTERRUPTED, DeblurgsError, UsageError
from deblurgs.log import Log, console
from deblurgs.stages import ProcessConfig

MethodName = Literal["plain", "deblurgs", "oracle"]
Source = Annotated[Path, tyro.conf.Positional]


@dataclass
class Run:
    """Blurry video or photos in, sharp frames, sharp video and splat file out."""

    source: Source
    """A video, a folder of images, a COLMAP project (images/ + sparse/0) or a Deblur-NeRF folder."""
    output: Path | None = None
    """The run folder; default: deblurgs_runs/<name of the source>."""
    preset: PresetName = "default"
    """fast: about a minute; default: minutes; best: as long as it helps."""
    overwrite: bool = False
    """Repeat stages that are already done."""
    quiet: bool = False
    """Print only warnings and errors."""
    process: tyro.conf.OmitArgPrefixes[ProcessConfig] = field(default_factory=ProcessConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


@dataclass
class Process:
    """Only frames and camera poses: choose frames, find cameras."""

    source: Source
    """A video, a folder of images, a COLMAP project or a Deblur-NeRF folder."""
    output: Path | None = None
    """The run folder; default: deblurgs_runs/<name of the source>."""
    overwrite: bool = False
    """Repeat stages that are already done."""
    quiet: bool = False
    """Print only warnings and errors."""
    process: tyro.conf.OmitArgPrefixes[ProcessConfig] = field(default_factory=ProcessConfig)


@dataclass
class Train:
    """Only the joint optimisation, in a run folder that `process` filled."""

    run: Source
    """The run folder."""
    preset: PresetName = "default"
    """fast: about a minute; default: minutes; best: as long as it helps."""
    overwrite: bool = False
    """Train again although a scene is there."""
    quiet: bool = False
    """Print only warnings and errors."""
    train: TrainConfig = field(default_factory=TrainConfig)


@dataclass
class Render:
    """Pictures of a trained run: sharp and re-blurred frames, or a calm novel path as video."""

    run: Source
    """The run folder."""
    path: Literal["frames", "smooth"] = "frames"
    """frames: every frame at its own pose; smooth: an interpolated novel path to renders/path.mp4."""
    seconds: float = 8.0
    """Length of the novel path."""
    fps: int = 30
    """Frame rate of the novel path."""
    smoothing: float = 1.5
    """Window over which the path is calmed, in frames."""
    overwrite: bool = False
    """Render again although pictures are there."""
    quiet: bool = False
    """Print only warnings and errors."""


@dataclass
class Eval:
    """Measure on a scene with held-out sharp views or sharp twins, beside plain splats."""

    scene: Source
    """A Deblur-NeRF folder, or a folder with images/ and sharp/ and/or test/."""
    methods: str = "plain,deblurgs"
    """Comma-separated: plain (splats of the blurred frames), deblurgs, oracle (plain splats of the sharp twins, where
    there are twins: what perfect deblurring would reach)."""
    seeds: str = "0"
    """Comma-separated seeds; each method is trained once per seed."""
    sfm: Literal["auto", "given", "blurry-only"] = "auto"
    """given: the camera model that comes with the scene, or the exact poses of a rendered one (cameras.json);
    blurry-only: poses from the blurry frames alone; auto: the camera model where there is one, else blurry-only."""
    json: Path | None = None
    """Write the results there as JSON."""
    output: Path | None = None
    """Working folder; default: deblurgs_runs/eval-<name of the scene>."""
    preset: PresetName = "default"
    """fast trains and measures at half size."""
    overwrite: bool = False
    """Repeat frame choice and SfM."""
    quiet: bool = False
    """Print only the table, warnings and errors."""
    train: TrainConfig = field(default_factory=TrainConfig)


@dataclass
class Demo:
    """The main job on a small capture that ships with the package; a few minutes on two cores."""

    output: Path = Path("deblurgs_runs/demo")
    """The run folder."""
    overwrite: bool = False
    """Repeat stages that are already done."""
    quiet: bool = False
    """Print only warnings and errors."""


@dataclass
class Doctor:
    """What this installation can do, and why not more."""

    json: bool = False
    """Print JSON instead of text."""


Command = Run | Process | Train | Render | Eval | Demo | Doctor
COMMANDS: dict[str, type] = {
    "run": Run, "process": Process, "train": Train, "render": Render, "eval": Eval, "demo": Demo, "doctor": Doctor,
}  # fmt: skip


def parse(arguments: Sequence[str]) -> Command:
    """Arguments -> command. `--preset` is read first, because it decides the defaults that the help shows."""
    settings = preset(_preset_of(arguments))
    union: list[object] = []
    for name, command in COMMANDS.items():
        fields = command.__dataclass_fields__
        default = command(**{
            n: tyro.MISSING if n in ("source", "run", "scene") else settings if n == "train" else _default(f)
            for n, f in fields.items()
        })  # fmt: skip
        union.append(Annotated[command, tyro.conf.subcommand(name, default=default)])
    merged = union[0]
    for item in union[1:]:
        merged = merged | item  # type: ignore[operator]
    return tyro.cli(
        merged,  # type: ignore[arg-type]
        prog="deblurgs", args=list(arguments),
        description="Sharp frames, sharp video and a splat file from blurry hand-held footage.",
    )  # fmt: skip


def _default(item: object) -> object:
    assert isinstance(item, dataclasses.Field)
    return item.default if item.default is not dataclasses.MISSING else item.default_factory()  # type: ignore[misc]


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


def execute(command: Command) -> None:
    """Run one parsed command. Raises DeblurgsError for everything the user can do something about."""
    if isinstance(command, Doctor):
        from deblurgs.doctor import doctor

        doctor(as_json=command.json)
        return
    log = Log(quiet=command.quiet)
    if isinstance(command, Eval):
        _evaluate(command, log)
        return
    from deblurgs import stages
    from deblurgs.run import RunFolder

    if isinstance(command, Demo):
        from deblurgs.demo import demo_source

        command = Run(
            demo_source(), command.output, "default", command.overwrite, command.quiet, train=demo_config()
        )
    if isinstance(command, Run | Process):
        folder = command.output or default_output(command.source)
        with RunFolder(folder, log=log) as run:
            stages.process(run, command.source, command.process, log, overwrite=command.overwrite)
            if isinstance(command, Run):
                stages.save_config(run, command.preset, command.train, preset(command.preset))
                stages.train(run, command.train, log, overwrite=command.overwrite)
                stages.render(run, log, overwrite=command.overwrite)
            print(folder)
        return
    if not command.run.is_dir():
        raise UsageError(
            f"{command.run} is not a run folder. `deblurgs run SOURCE` or `deblurgs process SOURCE` makes one."
        )
    with RunFolder(command.run, log=log) as run:
        if isinstance(command, Train):
            stages.save_config(run, command.preset, command.train, preset(command.preset))
            stages.train(run, command.train, log, overwrite=command.overwrite)
        elif command.path == "smooth":
            if not (0 < command.seconds <= 3600 and 0 < command.fps <= 240 and 0 < command.smoothing <= 1e3):
                raise UsageError("--seconds (up to 3600), --fps (up to 240) and --smoothing must be above 0")
            print(
                stages.novel_path(
                    run, log, seconds=command.seconds, fps=command.fps, smoothing=command.smoothing,
                    overwrite=command.overwrite,
                )
            )  # fmt: skip
        else:
            stages.render(run, log, overwrite=command.overwrite)


def _evaluate(command: Eval, log: Log) -> None:
    from deblurgs import stages
    from deblurgs.run import RunFolder

    known = get_args(MethodName)
    asked = [m.strip() for m in command.methods.split(",") if m.strip()]
    methods: tuple[MethodName, ...] = tuple(k for k in known if k in asked)
    if not methods or len(methods) < len(set(asked)):
        raise UsageError(f"--methods {command.methods!r}: known methods are {', '.join(known)}")
    try:
        seeds = tuple(int(s) for s in command.seeds.split(","))
    except ValueError:
        raise UsageError(
            f"--seeds {command.seeds!r}: give whole numbers separated by commas, like 0,1"
        ) from None
    folder = command.output or Path("deblurgs_runs") / f"eval-{command.scene.resolve().name}"
    with RunFolder(folder, log=log) as run:
        stages.evaluate(
            run, command.scene, command.train, log, methods=methods, seeds=seeds, sfm=command.sfm,
            json_path=command.json, overwrite=command.overwrite,
        )  # fmt: skip


def demo_config() -> TrainConfig:
    """The default preset with fewer steps: a person who tries the demo waits for it."""
    return dataclasses.replace(preset("default"), steps=(600, 600, 600))


def default_output(source: Path) -> Path:
    """deblurgs_runs/<name>: beside the caller, never beside the user's footage."""
    return Path("deblurgs_runs") / (source.resolve().stem or "run")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Returns the exit code; argument errors exit with 2 from the parser itself."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments == ["--version"]:
        print(f"deblurgs {__version__}")
        return 0
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        execute(parse(arguments))
        return 0
    except DeblurgsError as error:
        console.print(f"error: {error}", style="red", markup=False)
        return error.exit_code
    except KeyboardInterrupt:
        console.print(
            "interrupted. Finished stages are kept; the same command goes on from there.", markup=False
        )
        return EXIT_INTERRUPTED
    except MemoryError:
        console.print(
            "error: out of memory. Use --train.max-side or --train.density.max-gaussians.", style="red"
        )
        return 5
    except RuntimeError as error:
        # torch reports a failed allocation this way.
        if "can't allocate memory" not in str(error):
            return _bug()
        console.print(f"error: out of memory ({error}). Use --train.max-side.", style="red", markup=False)
        return 5
    except BrokenPipeError:
        # The reader of our output went away (a pipe to head); the rest has no one to be printed to.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception:
        return _bug()


def _bug() -> int:
    console.print_exception()
    console.print(
        "This is a bug in deblurgs: please report it with the text above.", style="red", markup=False
    )
    return 1


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
