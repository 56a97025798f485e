"""What was asked of a run folder, kept in config.json so that it can be gone on with."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from deblurgs.config import PresetName, TrainConfig, from_dict, preset, to_dict
from deblurgs.errors import UsageError
from deblurgs.files import plain_json, read_json, same_file, write_json_atomic
from deblurgs.raster.devices import DeviceName
from deblurgs.run import RunFolder, StageStatus
from deblurgs.stages.process import ProcessConfig
from deblurgs.stages.single import FallbackName
from deblurgs.stages.train import CHECKPOINT_EVERY_S, refuse_other_settings


@dataclass(frozen=True)
class Request:
    """source: needed only while frames and cameras are not finished. train: None when only they were asked for."""

    source: Path | None
    process: ProcessConfig
    train: TrainConfig | None
    checkpoint_every: float
    fallback: FallbackName
    device: DeviceName


def save_request(
    run: RunFolder,
    *,
    source: Path | None = None,
    process: ProcessConfig | None = None,
    preset_name: PresetName | None = None,
    train: TrainConfig | None = None,
    checkpoint_every: float = CHECKPOINT_EVERY_S,
    fallback: FallbackName | None = None,
    device: DeviceName | None = None,
    overwrite: bool = False,
) -> None:
    """Write config.json: the source, the preset and all training settings, so that other defaults of a later version do
    not change a run that was begun; what is not given stays.

    Raises UsageError, and leaves the file, where an unfinished training was begun with other settings, or where the
    folder holds results of another source.
    """
    data = _noted(run)
    if source is not None and not overwrite:
        _refuse_another_source(run, data.get("source"), source)
    if train is not None and not overwrite:
        refuse_other_settings(run, train)
    if source is not None:
        data["source"] = str(source.resolve())
    if process is not None:
        data["process"] = to_dict(process, ProcessConfig())
    if train is not None and preset_name is not None:
        data |= {
            "preset": preset_name,
            "train": to_dict(train),
            "checkpoint_every": checkpoint_every,
        }
    if fallback is not None:
        data["fallback"] = fallback
    if device is not None:
        data["device"] = device
    write_json_atomic(run.config_json, plain_json(data))


def _noted(run: RunFolder) -> dict[str, object]:
    """What config.json says; nothing where it is damaged, so that it is written anew."""
    try:
        before = read_json(run.config_json) if run.config_json.is_file() else {}
        return dict(before) if isinstance(before, dict) else {}
    except (ValueError, OSError):
        return {}


def _refuse_another_source(run: RunFolder, before: object, source: Path) -> None:
    """Two sources of one name have one default folder, and the second must not replace what the first gave.

    A source that is not there any more has been moved or renamed: it may be the one that is named now.
    """
    if not isinstance(before, str) or not Path(before).exists() or same_file(Path(before), source):
        return
    if all(run.status(stage) in (None, StageStatus.FAILED) for stage in run.manifest["stages"]):
        return
    raise UsageError(
        f"{run.path} holds the results of {before}, not of {source.resolve()}. Name another folder with --output DIR, "
        "or replace them with --overwrite."
    )


def read_request(run: RunFolder) -> Request:
    """The counterpart. Raises UsageError when the file is missing or says nothing of use."""
    path = run.config_json
    try:
        data = read_json(path)
        source, asked = data.get("source"), dict(data.get("process", {}))
        most = asked.pop("max_frames", None)
        process = dataclasses.replace(
            from_dict(ProcessConfig(), asked), max_frames=None if most is None else int(most)
        )
        if data.get("preset", "default") not in get_args(PresetName):
            raise ValueError(f"preset {data['preset']!r}")
        train = from_dict(preset(data["preset"]), data.get("train", {})) if "preset" in data else None
        every = float(data.get("checkpoint_every", CHECKPOINT_EVERY_S))
        fallback, device = data.get("fallback", "single"), data.get("device", "auto")
        if fallback not in get_args(FallbackName) or device not in get_args(DeviceName):
            raise ValueError(f"fallback {fallback!r}, device {device!r}")
    except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
        raise UsageError(
            f"{path} does not tell how the run was begun ({error}). Repeat the command it was begun with."
        ) from error
    return Request(None if source is None else Path(str(source)), process, train, every, fallback, device)


def asked_fallback(run: RunFolder) -> FallbackName:
    """What the run was begun with; the default where its folder does not say."""
    try:
        return read_request(run).fallback
    except UsageError:
        return "single"
