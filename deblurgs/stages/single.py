"""When there is no scene: the frames restored one by one by the network, said plainly and marked as such."""

from collections.abc import Sequence
from pathlib import Path

from deblurgs.errors import DeblurgsError, TooFewFramesError
from deblurgs.log import Log
from deblurgs.run import RunFolder
from deblurgs.stages.deblur import DeblurConfig, deblur, restorer

SINGLE_JSON = "renders/single.json"


def restore_singly(
    run: RunFolder, source: Path, reason: DeblurgsError, log: Log, *, max_pixels: int, overwrite: bool = False
) -> None:
    """No cameras were found or there are too few frames (`reason`): fill renders/sharp with the network's work.

    Writes renders/sharp and renders/single.json, as the stage `single` of the manifest. Raises `reason` again when no
    frame can be had: a film too short to hold three frames, photos that cannot be read.
    """
    from deblurgs.capture.detect import VIDEO_SUFFIXES

    too_few = isinstance(reason, TooFewFramesError)
    if too_few and source.suffix.lower() in VIDEO_SUFFIXES:
        raise reason
    log.warn(
        f"{reason} Without a scene each frame is restored alone by a neural network: detail may be invented, and "
        "there is no splat file. --fallback none stops here instead."
    )

    def work() -> None:
        names = _from_source(run, source, max_pixels, log) if too_few else _from_capture(run, log)
        _note(run, names, str(reason))

    run.stage(
        "single", {"reason": str(reason)}, work, outputs=[run.sharp, run.path / SINGLE_JSON], overwrite=overwrite
    )  # fmt: skip


def restore_frames(
    run: RunFolder, names: Sequence[str], stems: Sequence[str], log: Log, *, title: str
) -> list[str]:
    """Stored frames -> renders/sharp/<stem>.png by the network; returns the names that could be read."""
    from deblurgs.capture.dataset import load_capture
    from deblurgs.capture.image import read_pixels, to_8_bit, write_png
    from deblurgs.errors import CaptureError

    paths = {frame.name: frame.path for frame in load_capture(run.path).frames}
    restore = restorer(DeblurConfig(), log)
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


def _from_source(run: RunFolder, source: Path, max_pixels: int, log: Log) -> list[str]:
    return [
        p.name for p in deblur([source], run.sharp, DeblurConfig(max_pixels=max_pixels), log, overwrite=True)
    ]


def _from_capture(run: RunFolder, log: Log) -> list[str]:
    from deblurgs.capture.dataset import load_capture
    from deblurgs.stages.render import unique_stems, write_sharp_video

    capture = load_capture(run.path)
    if run.sharp.is_dir():
        for old in run.sharp.glob("*.png"):
            old.unlink()
    names = [frame.name for frame in capture.frames]
    stems = unique_stems(names)
    done = restore_frames(run, names, stems, log, title="single frames")
    if capture.kind == "video" and len(done) == len(names):
        write_sharp_video(run, stems, [f.time_s for f in capture.frames], capture.fps or 30.0, log)
    return done


def _note(run: RunFolder, names: list[str], reason: str) -> None:
    from deblurgs.files import write_json_atomic

    write_json_atomic(
        run.path / SINGLE_JSON,
        {"format": "deblurgs-single", "version": 1, "made_by": "network", "reason": reason, "frames": names},
    )
