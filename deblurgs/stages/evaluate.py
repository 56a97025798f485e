"""Measure methods on a scene with ground truth: what `deblurgs eval` does."""

from pathlib import Path
from typing import TYPE_CHECKING

from deblurgs.config import TrainConfig, to_dict
from deblurgs.errors import UsageError
from deblurgs.log import Log, write_event
from deblurgs.raster.devices import DeviceName, resolve
from deblurgs.run import RunFolder
from deblurgs.stages.data import training_set
from deblurgs.stages.deblur import DeblurConfig, restorer
from deblurgs.stages.process import TRUE_POSES_FILE, ProcessConfig, find_cameras, read_frames, with_shutter
from deblurgs.stages.request import save_request

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from deblurgs.capture.dataset import Capture
    from deblurgs.capture.detect import Source
    from deblurgs.evaluate.protocol import EvaluationScene, Method, Row


def evaluate(
    run: RunFolder,
    source: Path,
    config: TrainConfig,
    log: Log,
    *,
    methods: "tuple[Method, ...]",
    seeds: tuple[int, ...],
    sfm: str,
    json_path: Path | None,
    overwrite: bool = False,
    device: DeviceName = "auto",
) -> None:
    """Measure `methods` on a scene with ground truth; prints the table, writes JSON and the refined renders."""
    from rich.console import Console

    from deblurgs.capture.image import write_png
    from deblurgs.evaluate import protocol, table
    from deblurgs.files import write_json_atomic
    from deblurgs.sfm.model import load_model

    scene = prepared_scene(run, source, config, log, sfm=sfm, methods=methods, overwrite=overwrite)
    model = load_model(run.sfm)

    def save_picture(name: str, image: "Tensor") -> None:
        folder = run.path / "eval"
        folder.mkdir(exist_ok=True)
        write_png(folder / f"{name.rsplit('.', 1)[0]}.png", image.numpy())

    def save_rows(rows: "list[Row]") -> None:
        result = table.as_json(scene, rows, {"preset_config": to_dict(config), "failed": model.failed})
        write_json_atomic(run.path / "eval.json", result)
        if json_path is not None:
            write_json_atomic(json_path, result)

    rows = protocol.evaluate(
        scene, config, methods, seeds, log, picture=save_picture, restore=_restore_photo(log),
        on_rows=save_rows, device=resolve(device),
    )  # fmt: skip
    if log.events:
        write_event(
            "evaluation",
            **table.as_json(scene, rows, {"preset_config": to_dict(config), "failed": model.failed}),
        )
    else:
        Console(width=130 if not log.quiet else None).print(table.as_table(scene, rows))


def require_truth(
    source: Path, *, sfm: str, methods: "tuple[Method, ...]", exclude: Path | None = None
) -> None:
    """Raise UsageError for a scene that file names alone tell nothing can be measured on, before anything is written.

    exclude: the working folder, which may lie in the scene. What an archive holds shows only when it is unpacked.
    """
    from deblurgs.capture.detect import detect_source
    from deblurgs.capture.source import is_archive, require_source

    require_source(source)
    if not is_archive(source):
        _require_truth(source, detect_source(source, exclude=exclude), sfm, methods)


def _require_truth(source: Path, found: "Source | Capture", sfm: str, methods: "tuple[Method, ...]") -> None:
    from deblurgs.capture.dataset import Capture

    if isinstance(found, Capture):
        views, twins, poses = found.test_frames, found.twins, found.given_poses
    else:
        views, twins, poses = found.tests, found.sharp, found.poses_bounds or found.views
    if not views and not twins:
        raise UsageError(
            f"{source} has neither held-out sharp views (a folder test/, or a file hold=8 in a Deblur-NeRF folder) nor "
            "sharp twins (a folder sharp/ beside images/, with equal file names), so there is nothing to compare with. "
            "Use `deblurgs run` for captures without ground truth."
        )
    if "oracle" in methods and not twins:
        raise UsageError(
            f"{source} has no sharp twins (a folder sharp/), which `oracle` is trained on. "
            "Leave `oracle` out of --methods."
        )
    if sfm == "given" and not (found.given_model or poses or found.truth):
        raise UsageError(f"{source} brings no camera model. Use --sfm blurry-only.")


def prepared_scene(
    run: RunFolder, source: Path, config: TrainConfig, log: Log, *, sfm: str, methods: "tuple[Method, ...]" = (),
    overwrite: bool = False,
) -> "EvaluationScene":  # fmt: skip
    """Frames, poses and references of a scene with ground truth, as `sfm` wants them (see `deblurgs eval`).

    Raises UsageError, before cameras are looked for, where nothing can be measured with these methods, and where the
    folder holds another scene's results; ResourceError where a training with `config` would not fit into memory.
    """
    from deblurgs.capture.dataset import load_capture
    from deblurgs.evaluate.scenes import evaluation_scene
    from deblurgs.sfm.model import load_model
    from deblurgs.train.memory import check_memory, estimate_memory

    asked = with_shutter(ProcessConfig(own_sfm=sfm == "blurry-only"), config.trajectory, source)
    save_request(run, source=source, process=asked, overwrite=overwrite)
    read_frames(run, source, asked, log, overwrite=overwrite)
    capture = load_capture(run.path)
    _require_truth(source, capture, sfm, methods)
    find_cameras(run, asked, log, overwrite=overwrite, true_poses=sfm == "given")
    model = load_model(run.sfm)
    # Refused before hours of work rather than in their middle. The full-size photos stay: they are compared with.
    check_memory(estimate_memory(model.cameras, config, keep_full_size=True), log)
    given = None if sfm == "blurry-only" else capture.given_model or capture.given_poses
    if sfm == "given" and given is None:
        given = run.path / TRUE_POSES_FILE
    training = training_set(model, capture)
    return evaluation_scene(
        source.resolve().name, given, capture, model, training, run.sfm, run.path / "eval", log
    )


def _restore_photo(log: Log) -> "Callable[[Tensor], Tensor]":
    """The network of `deblurgs deblur` for photos [H,W,3] in [0,1]; loaded on first use."""
    restore = restorer(DeblurConfig(), log)

    def photo(image: "Tensor") -> "Tensor":
        import torch

        pixels = restore((image.clamp(0, 1) * 255).round().to(torch.uint8).numpy())
        return torch.from_numpy(pixels).float() / 255

    return photo
