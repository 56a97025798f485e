"""User files -> upright frames and camera poses: the stages `capture` and `sfm`."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from tyro import conf

from deblurgs.config import TrajectoryConfig
from deblurgs.errors import CaptureError, TooFewFramesError, UsageError
from deblurgs.log import Log
from deblurgs.run import RunFolder

TRUE_POSES_FILE = "truth/poses.json"


@dataclass(frozen=True)
class ProcessConfig:
    """What decides which frames and poses come out of `process`."""

    max_frames: Annotated[int | None, conf.arg(help_behavior_hint="(default: 60 of a video, 300 photos)")] = (
        None
    )
    """Most frames to use; they are chosen by coverage and sharpness."""
    max_pixels: int = 200_000_000
    """Refuse images with more pixels than this."""
    own_sfm: bool = False
    """Estimate poses from the blurry frames even when the source brings a camera model."""

    sfm_restorer: Literal["wiener", "network"] = "wiener"
    """What sharpens the copies in which the last attempt to find the cameras looks for features.
    network: that of `deblurgs deblur`."""

    rolling_shutter: Annotated[bool, conf.Suppress] = False
    """Refine the cameras for rows that were exposed one after the other; see `with_shutter`."""
    readout: Annotated[float | None, conf.Suppress] = None
    """Its known readout in frame intervals."""

    def __post_init__(self) -> None:
        if self.max_pixels < 1:
            raise ValueError(f"max_pixels must be at least 1, not {self.max_pixels}")
        if self.readout is not None and not abs(self.readout) <= 4:
            raise ValueError(f"readout must be between -4 and 4, not {self.readout}")


def with_shutter(config: ProcessConfig, trajectory: TrajectoryConfig, source: Path) -> ProcessConfig:
    """The config with what the training was told about a rolling shutter.

    Only of a video can cameras be refined for it: the way between the frames tells how fast the camera moved. With a
    path per frame a given readout is in units of the exposure, which says nothing here.
    """
    from deblurgs.capture.detect import VIDEO_SUFFIXES

    one_path = trajectory.kind == "continuous"
    rolls = trajectory.rolling_shutter or bool(trajectory.readout)
    if not rolls or not (one_path or source.suffix.lower() in VIDEO_SUFFIXES):
        return config
    return replace(config, rolling_shutter=True, readout=trajectory.readout if one_path else None)


def process(
    run: RunFolder,
    source: Path,
    config: ProcessConfig,
    log: Log,
    *,
    overwrite: bool = False,
    true_poses: bool = False,
) -> None:
    """User files -> upright frames and camera poses.

    true_poses: where there is no camera model, take the exact poses of a rendered capture. For evaluation only.
    """
    read_frames(run, source, config, log, overwrite=overwrite)
    find_cameras(run, config, log, overwrite=overwrite, true_poses=true_poses)


def read_frames(
    run: RunFolder, source: Path, config: ProcessConfig, log: Log, *, overwrite: bool = False
) -> None:
    """User files -> upright frames, judged: the stage `capture`."""
    from deblurgs.capture.source import ingest
    from deblurgs.stages.triage import triage

    def capture_and_judge() -> None:
        ingest(source, run.path, max_frames=config.max_frames, max_pixels=config.max_pixels, log=log)
        triage(run.path, log)

    run.stage(
        "capture",
        {**source_identity(source), "max_frames": config.max_frames, "max_pixels": config.max_pixels},
        capture_and_judge,
        outputs=[run.frames_json], overwrite=overwrite, harmless=_ends_the_command,
    )  # fmt: skip


def _ends_the_command(error: BaseException) -> bool:
    """After the others `run` may restore the frames one by one, and the earlier scene is not theirs."""
    return isinstance(error, CaptureError | UsageError) and not isinstance(error, TooFewFramesError)


def find_cameras(
    run: RunFolder, config: ProcessConfig, log: Log, *, overwrite: bool = False, true_poses: bool = False
) -> None:
    """Stored frames -> camera poses: the stage `sfm`. true_poses: see `process`."""
    from deblurgs.capture.dataset import load_capture
    from deblurgs.capture.truth import write_true_poses
    from deblurgs.sfm.restored import wiener
    from deblurgs.sfm.stage import RollingShutter, run_sfm
    from deblurgs.stages.deblur import DeblurConfig, restorer

    capture = load_capture(run.path)
    given_model = None if config.own_sfm else capture.given_model
    given_poses = None if config.own_sfm else capture.given_poses
    if true_poses and capture.truth and not (given_model or given_poses):
        given_poses = write_true_poses(capture, run.path / TRUE_POSES_FILE)
    # Only what is not the default is named, so that run folders from before this choice stay valid.
    chosen: dict[str, object] = {}
    if config.sfm_restorer != "wiener":
        chosen["sfm_restorer"] = config.sfm_restorer
    rolling = RollingShutter(config.readout) if config.rolling_shutter else None
    if rolling is not None:
        chosen["rolling_shutter"] = True if rolling.readout is None else rolling.readout
    run.stage(
        "sfm",
        {"own_sfm": config.own_sfm, "given": bool(given_model or given_poses), **chosen},
        lambda: run_sfm(
            # Held-out frames are dropped there by their split; their names tell why a given model has more images.
            [*capture.frames, *capture.test_frames], run.sfm,
            given_model=given_model, given_poses=given_poses, masks=capture.masks, log=log,
            restore=wiener if config.sfm_restorer == "wiener" else restorer(DeblurConfig(), log), rolling=rolling,
        ),
        outputs=[run.sfm / "model.npz"], overwrite=overwrite,
    )  # fmt: skip


def source_identity(source: Path) -> dict[str, str]:
    """Name and a hash of names, sizes and times: another source in the same run folder must not meet old frames."""
    digest = hashlib.sha256(str(source.resolve()).encode("utf-8", "surrogateescape"))
    files = sorted(p for p in source.rglob("*") if p.is_file()) if source.is_dir() else [source]
    for path in files[:20_000]:
        if path.exists():
            stat = path.stat()
            digest.update(
                f"{path.name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode("utf-8", "surrogateescape")
            )
    return {"source": source.name, "content": digest.hexdigest()[:16]}
