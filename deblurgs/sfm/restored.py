"""Restored copies of the frames, in which the last rung of the ladder looks for features. Training never sees them.

Any function that takes and returns pixels of the same size can restore. The one here needs no training: a Wiener filter
against a Gaussian, which lifts the contrast that blur took from edges without lifting noise alike.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deblurgs.errors import SfmError
from deblurgs.files import atomic_path
from deblurgs.scene.frame import Frame

# Pixels [H, W, 3] uint8 sRGB -> pixels of the same shape.
Restorer = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]

_SIGMA_PX = 2.0
_NOISE_TO_SIGNAL = 0.02


def wiener(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Wiener deconvolution of a Gaussian blur (sigma 2 px) with constant noise-to-signal power, per channel.

    The image is mirrored at its border first: a jump there would ring through the whole picture.
    """
    pad = round(4 * _SIGMA_PX)
    padded = np.pad(image.astype(np.float32), ((pad, pad), (pad, pad), (0, 0)), mode="reflect")
    fy = np.fft.fftfreq(padded.shape[0])[:, None]
    fx = np.fft.rfftfreq(padded.shape[1])[None, :]
    transfer = np.exp(-2.0 * (np.pi * _SIGMA_PX) ** 2 * (fx**2 + fy**2))
    # The gain is 1 at zero frequency, so that the brightness stays.
    gain = (1 + _NOISE_TO_SIGNAL) * transfer / (transfer**2 + _NOISE_TO_SIGNAL)
    spectrum = np.fft.rfft2(padded, axes=(0, 1)) * gain[..., None]
    result = np.fft.irfft2(spectrum, s=padded.shape[:2], axes=(0, 1))
    inner = result[pad : pad + image.shape[0], pad : pad + image.shape[1]]
    return np.clip(inner + 0.5, 0, 255).astype(np.uint8)


def write_restored(
    frames: Sequence[Frame], staged: Sequence[str], folder: Path, restore: Restorer
) -> dict[str, str]:
    """Restored copies as PNG in `folder`: staged name of each frame that can be read -> path.

    Raises SfmError if `restore` changes the size of an image.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for frame, name in zip(frames, staged, strict=True):
        try:
            with Image.open(frame.path) as opened:
                pixels = np.asarray(opened.convert("RGB"))
        except (OSError, ValueError, SyntaxError):
            continue  # COLMAP cannot read it either, and the report will say so
        result = restore(pixels)
        if result.shape != pixels.shape:
            raise SfmError(
                f"The restorer returned {result.shape} for {frame.name}, which is {pixels.shape}: it must keep "
                "the size."
            )
        target = folder / f"{Path(name).stem}.png"
        with atomic_path(target) as temporary, temporary.open("wb") as file:
            Image.fromarray(result).save(file, format="PNG", compress_level=1)
        paths[name] = str(target.resolve())
    return paths
