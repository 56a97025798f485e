"""When there is no scene: the frames restored one by one by the network, said plainly and marked as such."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from deblurgs.errors import DeblurgsError, SfmError, TooFewFramesError, UsageError
from deblurgs.log import Log
from deblurgs.raster.devices import DeviceName
from deblurgs.run import RunFolder, StageStatus
from deblurgs.stages.deblur import DeblurConfig, restorer
from deblurgs.stages.process import ProcessConfig, process, source_identity

if TYPE_CHECKING:
    from deblurgs.capture.image import Pixels
    from deblurgs.sfm.restored import Restorer

SINGLE_JSON = "renders/single.json"
FallbackName = Literal["single", "none"]


def process_or_restore(
    run: RunFolder,
    source: Path,
    config: ProcessConfig,
    log: Log,
    *,
    fallback: FallbackName,
    device: DeviceName,
    overwrite: bool = False,
) -> bool:
    """Frames and cameras; where there can be none, the frames restored singly (`single`) or the error (`none`).

    Returns whether there are cameras.
    """
    try:
        process(run, source, config, log, overwrite=overwrite)
        return True
    except (SfmError, TooFewFramesError) as error:
        if fallback == "none":
            raise
        restore_singly(run, source, error, config, log, device=device, overwrite=overwrite)
        return False


def restore_singly(
    run: RunFolder, source: Path, reason: DeblurgsError, config: ProcessConfig, log: Log, *,
    device: DeviceName = "auto", overwrite: bool = False,
) -> None:  # fmt: skip
    """No cameras were found or there are too few frames (`reason`): fill renders/sharp with the network's work.

    Writes renders/sharp and renders/single.json, as the stage `single` of the manifest. Raises CaptureError when no
    frame can be read, UsageError when the source lies where the results go.
    """
    # Too few frames, or all of them alike: the capture kept none.
    unstored = isinstance(reason, TooFewFramesError) or run.status("capture") != StageStatus.DONE
    if run.sharp.resolve() in (source.resolve(), *source.resolve().parents):
        raise UsageError(
            f"the source {source} lies where the results of {run.path} go. Name another --output DIR."
        )
    log.warn(
        f"{str(reason).rstrip('.')}. Without a scene each frame is restored alone by a neural network: detail may be "
        "invented, and there is no splat file. --fallback none stops here instead."
    )

    def work() -> None:
        _clear(run)
        names = (
            _from_source(run, source, config, device, log) if unstored else _from_capture(run, device, log)
        )
        _note(run, names, str(reason))

    limit = {} if config.max_frames is None else {"max_frames": config.max_frames}
    settings = {"reason": str(reason), "max_pixels": config.max_pixels, **limit, **source_identity(source)}
    run.stage("single", settings, work, outputs=[run.sharp, run.path / SINGLE_JSON], overwrite=overwrite)


def restore_frames(
    run: RunFolder, names: Sequence[str], stems: Sequence[str], log: Log, *, title: str,
    device: DeviceName = "auto",
) -> list[str]:  # fmt: skip
    """Stored frames -> renders/sharp/<stem>.png by the network; returns the names that could be read."""
    from deblurgs.capture.dataset import load_capture
    from deblurgs.capture.image import read_pixels, to_8_bit, write_png
    from deblurgs.errors import CaptureError

    paths = {frame.name: frame.path for frame in load_capture(run.path).frames}
    restore = restorer(DeblurConfig(device=device), log)
    run.sharp.mkdir(parents=True, exist_ok=True)
    done: list[str] = []
    with log.progress(title, len(names)) as bar:
        for index, (name, stem) in enumerate(zip(names, stems, strict=True), start=1):
            try:
                write_png(run.sharp / f"{stem}.png", restore(to_8_bit(read_pixels(paths[name]))))
                done.append(name)
            except CaptureError as error:
                log.warn(f"{name} is left out: {error}")
            bar.update(index)
    return done


def _clear(run: RunFolder) -> None:
    """Results of an earlier source or scene must not lie among the new ones."""
    (run.renders / "sharp.mp4").unlink(missing_ok=True)
    for old in run.sharp.iterdir() if run.sharp.is_dir() else ():
        if old.is_file():
            old.unlink()


def _from_source(
    run: RunFolder, source: Path, config: ProcessConfig, device: DeviceName, log: Log
) -> list[str]:
    """The photos or the frames of the film themselves; returns the names of the results."""
    from deblurgs.capture.detect import detect_source
    from deblurgs.capture.source import MAX_VIDEO_FRAMES, opened
    from deblurgs.stages.deblur import name_results, restore_photos

    settings = DeblurConfig(max_pixels=config.max_pixels, device=device)
    with opened(source, run.path) as place:
        try:
            found = detect_source(place, exclude=run.path)
        except TooFewFramesError:  # one photo
            photos = [(place.name, place)]
        else:
            if found.kind == "video":
                from deblurgs.capture.clip import video_stills

                most = config.max_frames or MAX_VIDEO_FRAMES
                stills = video_stills(found, most, config.max_pixels, log)
                return _restore_stills(run, stills, restorer(settings, log), log)
            photos = list(found.photos.items())
        return [p.name for p in restore_photos(name_results(photos, run.sharp), run.sharp, settings, log)]


def _restore_stills(
    run: RunFolder, stills: "Iterable[tuple[str, Pixels]]", restore: "Restorer", log: Log
) -> list[str]:
    from deblurgs.capture.image import to_8_bit, write_png

    run.sharp.mkdir(parents=True, exist_ok=True)
    done: list[str] = []
    with log.progress("single frames", 0) as bar:
        for name, pixels in stills:
            write_png(run.sharp / name, restore(to_8_bit(pixels)))
            done.append(name)
            bar.update(len(done), name)
    return done


def _from_capture(run: RunFolder, device: DeviceName, log: Log) -> list[str]:
    from deblurgs.capture.dataset import load_capture
    from deblurgs.stages.render import unique_stems, write_sharp_video

    capture = load_capture(run.path)
    names = [frame.name for frame in capture.frames]
    stems = unique_stems(names)
    done = restore_frames(run, names, stems, log, title="single frames", device=device)
    if capture.kind == "video" and len(done) == len(names):
        write_sharp_video(run, stems, [f.time_s for f in capture.frames], capture.fps or 30.0, log)
    return done


def _note(run: RunFolder, names: list[str], reason: str) -> None:
    from deblurgs.files import write_json_atomic

    write_json_atomic(
        run.path / SINGLE_JSON,
        {"format": "deblurgs-single", "version": 1, "made_by": "network", "reason": reason, "frames": names},
    )
