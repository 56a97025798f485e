"""Single photos -> restored photos by the network alone: what `deblurgs deblur` does, and what `run` falls back to."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from deblurgs.command import command_line
from deblurgs.errors import CaptureError, DeviceError, UsageError
from deblurgs.files import same_file
from deblurgs.log import Log

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from deblurgs.restore.mimo_unet import MimoUNet
    from deblurgs.sfm.restored import Restorer

Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class DeblurConfig:
    """weights: a .safetensors file or an official MIMO-UNet checkpoint; None: the weights that ship.

    ensemble: mean over four mirror images. tile: side of the pieces the photo is worked on in, pixels. max_pixels:
    larger photos are refused.
    """

    weights: Path | None = None
    ensemble: bool = False
    device: Device = "auto"
    tile: int = 512
    max_pixels: int = 200_000_000


@dataclass(frozen=True)
class PhotoTask:
    """One photo to restore: how messages call it, where it is and where the result goes (suffix may change)."""

    name: str
    source: Path
    target: Path


def deblur(
    sources: Sequence[Path], output: Path, config: DeblurConfig, log: Log, *, overwrite: bool = False
) -> list[Path]:
    """Restore photos and folders of photos into the folder `output`, or one photo into a file of that name; returns the
    files written.

    JPEG stays JPEG, everything else becomes PNG with the same depth; size, orientation (applied to the pixels) and
    EXIF are kept. A photo that cannot be read is left out with a warning. Raises CaptureError when that is true for
    more than half of them (the others are written first), UsageError, before the first is restored, when a result would
    replace a photo, or what is there already without `overwrite`.
    """
    return restore_photos(plan(sources, output, log), output, config, log, overwrite=overwrite)


def restore_photos(
    tasks: "Sequence[PhotoTask]", output: Path, config: DeblurConfig, log: Log, *, overwrite: bool = False
) -> list[Path]:
    """`deblur` for photos that are known one by one."""
    from deblurgs.files import checked_target, made_folder

    for task in tasks:
        checked_target(task.target, overwrite=overwrite)
    network = load_restorer(config, log)
    with ExitStack() as made:
        for folder in sorted({task.target.parent for task in tasks}):
            made.enter_context(made_folder(folder))
        written: list[Path] = []
        failed: list[tuple[str, str]] = []
        with log.progress("deblur", len(tasks)) as bar:
            for done, task in enumerate(tasks, start=1):
                from deblurgs.capture.photo import UnusablePhoto

                try:
                    written.append(_restore_file(network, task, config, log))
                except UnusablePhoto as error:
                    failed.append((task.name, str(error)))
                    log.warn(f"{task.name} is left out: {error}")
                bar.update(done, task.name)
        if 2 * len(failed) > len(tasks):
            first = "; ".join(f"{name}: {reason}" for name, reason in failed[:3])
            raise CaptureError(
                f"{len(failed)} of {len(tasks)} photos cannot be used ({first})."
                + (f" The other {len(written)} are in {output}." if written else "")
            )
        return written


def plan(sources: Sequence[Path], output: Path, log: Log) -> list[PhotoTask]:
    """Which photo goes where. Raises CaptureError when a source is missing or holds no photo, UsageError for an
    `output` that cannot be meant."""
    from deblurgs.capture.detect import VIDEO_SUFFIXES, list_photos
    from deblurgs.capture.save_photo import named_file

    if not sources:
        raise UsageError("name at least one photo or folder of photos")
    found: list[tuple[str, Path]] = []
    for source in sources:
        if source.is_dir():
            photos, ignored = list_photos(source)
            for name, reason in ignored:
                log.warn(f"{name}: {reason}")
            found += list(photos.items())
        elif source.is_file():
            if source.suffix.lower() in VIDEO_SUFFIXES:
                raise CaptureError(
                    f"{source} is a video.  {command_line('run', source)}  sharpens its frames together."
                )
            found.append((source.name, source))
        elif source.exists():
            raise CaptureError(f"{source} is neither a file nor a folder.")
        else:
            raise CaptureError(f"{source} does not exist.")
    target = named_file(output, [path for _, path in found])
    if target is None:
        return name_results(found, output)
    return [PhotoTask(*photo, target) for photo in found]


def name_results(photos: Sequence[tuple[str, Path]], output: Path) -> list[PhotoTask]:
    """Where the results of photos (name, path) go. Raises UsageError when one would replace a photo."""
    from deblurgs.capture.names import FrameNames
    from deblurgs.capture.save_photo import JPEG_SUFFIXES

    names = FrameNames()
    tasks = []
    for name, path in photos:
        stem = names.add(name).rsplit(".", 1)[0]
        suffix = path.suffix if path.suffix.lower() in JPEG_SUFFIXES else ".png"
        target = output / f"{stem}{suffix}"
        if any(same_file(target, other) for _, other in photos):
            raise UsageError(
                f"{target} is one of the photos and would be replaced. Name another --output DIR."
            )
        tasks.append(PhotoTask(name, path, target))
    return tasks


def load_restorer(config: DeblurConfig, log: Log) -> "MimoUNet":
    """The network on the device it is to run on. Raises CaptureError for weights, DeviceError for devices."""
    import torch

    from deblurgs.restore.weights import load_network

    if config.tile % 4 or not 128 <= config.tile <= 4096:
        raise UsageError(f"--tile {config.tile}: a multiple of 4 between 128 and 4096 is needed")
    if config.device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("--device cuda: torch finds no usable CUDA GPU here. Use --device cpu.")
    on_gpu = config.device == "cuda" or (config.device == "auto" and torch.cuda.is_available())
    network = load_network(config.weights).to("cuda" if on_gpu else "cpu")
    network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    count = sum(p.numel() for p in network.parameters())
    log.info(f"restoring with {config.weights or 'the built-in network'} ({count / 1e6:.2f} M parameters)")
    return network


def restorer(config: DeblurConfig, log: Log) -> "Restorer":
    """The network as a plain function from 8-bit pixels to 8-bit pixels, for the SfM ladder; loaded on first use."""
    loaded: list[MimoUNet] = []

    def restore(pixels: "NDArray[np.uint8]") -> "NDArray[np.uint8]":
        from deblurgs.restore.tiling import restore_pixels

        if not loaded:
            loaded.append(load_restorer(config, log))
        return restore_pixels(loaded[0], pixels, tile=config.tile)  # pyright: ignore[reportReturnType]

    return restore


def _restore_file(network: "MimoUNet", task: PhotoTask, config: DeblurConfig, log: Log) -> Path:
    from deblurgs.capture.photo import decode_photo, read_exif
    from deblurgs.capture.save_photo import check_size, save_photo
    from deblurgs.restore.tiling import restore_pixels

    photo = decode_photo(task.source, config.max_pixels)
    for note in photo.notes:
        log.warn(f"{task.name}: {note}")
    if photo.mask is not None:
        log.warn(f"{task.name}: its transparency is not kept")
    height, width = photo.pixels.shape[:2]
    check_size(task.target, height, width)
    restored = restore_pixels(network, photo.pixels, tile=config.tile, ensemble=config.ensemble)
    save_photo(task.target, restored, read_exif(task.source, (width, height)))
    return task.target


def convert(weights: Path, target: Path, *, overwrite: bool = False) -> None:
    """Write any accepted weights file as float32 safetensors. Raises CaptureError and UsageError."""
    from deblurgs.files import checked_target
    from deblurgs.restore.weights import load_network, save_weights

    if target.suffix != ".safetensors":
        raise UsageError(f"--convert {target}: name a file that ends in .safetensors")
    checked_target(target, overwrite=overwrite)
    save_weights(target, load_network(weights), notes={"converted_from": weights.name}, half=False)
