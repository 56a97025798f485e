"""Enlarging single pictures, folders of them and the sharp frames of a run by the CausalSR network."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deblurgs.command import command_line
from deblurgs.errors import CaptureError, UsageError
from deblurgs.files import UPSCALED
from deblurgs.log import Log

if TYPE_CHECKING:
    from deblurgs.restore.causal_sr import CausalSR

MAX_OUTPUT_PIXELS = 1e9


@dataclass(frozen=True)
class UpscaleSettings:
    """scale 2, 3 or 4; do: factors set by hand; intervention: strength of the learnt one, 0 to 1."""

    scale: int = 2
    do: tuple[str, ...] = ()
    intervention: float = 1.0
    weights: Path | None = None
    max_pixels: float = 200e6


def picture_files(sources: Sequence[Path]) -> list[Path]:
    """The pictures named, and those of the folders named, in the order of their names; a run gives its sharp frames.

    Raises CaptureError for a path that does not exist, and when a folder holds no picture.
    """
    from deblurgs.capture.detect import IMAGE_SUFFIXES

    found: list[Path] = []
    for source in sources:
        if source.is_dir():
            sharp = source / "renders" / "sharp"
            is_run = (source / "manifest.json").is_file()
            # Of JPEG photos that were restored one by one the sharp frames are JPEG too.
            if is_run and not (
                sharp.is_dir() and any(p.suffix.lower() in IMAGE_SUFFIXES for p in sharp.iterdir())
            ):
                raise UsageError(
                    f"{source} has no sharp frames yet. Run  {command_line('render', source)}  first."
                )
            folder = sharp if is_run else source
            inside = sorted(
                p for p in folder.iterdir()
                if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".") and p.is_file()
            )  # fmt: skip
            if not inside:
                raise CaptureError(f"{folder} holds no picture ({', '.join(sorted(IMAGE_SUFFIXES))}).")
            found += inside
        elif source.exists():
            found.append(source)
        else:
            raise CaptureError(f"{source} does not exist.")
    return found


def default_folder(sources: Sequence[Path], scale: int) -> Path:
    """renders/sharp_x2 in a run, else deblurgs_upscaled beside the caller."""
    if len(sources) == 1 and (sources[0] / "manifest.json").is_file():
        return sources[0] / "renders" / f"sharp_x{scale}"
    return Path(UPSCALED)


def upscale(
    sources: Sequence[Path],
    output: Path | None,
    settings: UpscaleSettings,
    log: Log,
    *,
    overwrite: bool = False,
) -> list[Path]:
    """Enlarge every picture into a folder; upscale.json there tells what each was taken to be. -> the files written.

    Of one picture `output` may also name the file, which gets no upscale.json beside it. A picture that cannot be used
    is named in a warning and left out; when none can be used CaptureError is raised. Pictures that are there already
    are kept unless `overwrite` is set.
    """
    from deblurgs.capture.save_photo import named_file
    from deblurgs.files import checked_target, made_folder, write_json_atomic
    from deblurgs.restore.upscale import load_model, parse_do, shipped_model

    do = parse_do(settings.do)
    pictures = picture_files(sources)
    folder = output or default_folder(sources, settings.scale)
    named = named_file(folder, pictures)
    if named is not None:
        folder = checked_target(named, overwrite=overwrite).parent
    model = load_model(settings.weights) if settings.weights else shipped_model()
    with made_folder(folder):
        written: list[Path] = []
        rows: list[dict[str, Any]] = []
        with log.progress("upscale", len(pictures)) as ticker:
            for i, path in enumerate(pictures):
                done = _one(path, named or folder, settings, do, model, log, overwrite, taken=written)
                if done is not None:
                    written.append(done[0])
                    rows.append(done[1])
                ticker.update(i + 1)
        if not written:
            raise CaptureError("none of the pictures could be enlarged; the warnings above say why.")
        if named is None:
            write_json_atomic(
                folder / "upscale.json",
                {
                    "format": "deblurgs-upscale", "version": 1, "scale": settings.scale, "do": do,
                    "intervention": settings.intervention, "pixels_made_by": "network", "pictures": rows,
                },
            )  # fmt: skip
        return written


def _one(
    path: Path,
    output: Path,
    settings: UpscaleSettings,
    do: dict[str, float],
    model: "CausalSR",
    log: Log,
    overwrite: bool,
    taken: list[Path],
) -> tuple[Path, dict[str, Any]] | None:
    from deblurgs.capture.photo import UnusablePhoto, decode_photo, read_exif
    from deblurgs.capture.save_photo import check_size, output_suffix, save_photo
    from deblurgs.restore.upscale import enlarge_pixels, explain

    try:
        photo = decode_photo(path, settings.max_pixels)
    except UnusablePhoto as reason:
        log.warn(f"{path}: {reason}")
        return None
    for note in photo.notes:
        log.warn(f"{path}: {note}")
    if photo.mask is not None:
        log.warn(f"{path}: transparency is not kept")
    height, width = (settings.scale * n for n in photo.pixels.shape[:2])
    if height * width > MAX_OUTPUT_PIXELS:
        log.warn(f"{path}: {width}x{height} would be more than {MAX_OUTPUT_PIXELS / 1e6:.0f} million pixels")
        return None
    target = output
    if output.is_dir():
        target = _target(
            path, output, output_suffix(path, photo.pixels.dtype, height, width), overwrite, taken
        )
    check_size(target, height, width)
    told, explanation = explain(model, photo.pixels, do, settings.intervention)
    enlarged = enlarge_pixels(model, photo.pixels, told, settings.scale)
    save_photo(target, enlarged, read_exif(path, (width, height)))
    row = {"source": path.name, "file": target.name, "width": width, "height": height}
    return target, row | {"estimated": explanation.estimated, "told": explanation.told}


def _target(path: Path, folder: Path, suffix: str, overwrite: bool, taken: list[Path]) -> Path:
    target = folder / f"{path.stem}{suffix}"
    if target in taken:  # a.jpg and b/a.jpg, or a.png and a.tif
        target = folder / f"{path.stem}_{len(taken)}{suffix}"
    if target.exists() and (not overwrite or target.resolve() == path.resolve()):
        raise UsageError(f"{target} exists. Use --overwrite to replace it, or --output for another folder.")
    return target
