"""Restored copies: more contrast at edges, the same size and brightness, and an interface for any restorer."""

from pathlib import Path

import numpy as np
import pytest
import sfm_rendered as rendered
from PIL import Image

from deblurgs.errors import SfmError
from deblurgs.sfm.restored import wiener, write_restored


def blurred(image: np.ndarray, sigma: float) -> np.ndarray:
    fy, fx = np.fft.fftfreq(image.shape[0])[:, None], np.fft.fftfreq(image.shape[1])[None]
    gain = np.exp(-2 * (np.pi * sigma) ** 2 * (fx**2 + fy**2))[..., None]
    return np.clip(np.fft.ifft2(np.fft.fft2(image, axes=(0, 1)) * gain, axes=(0, 1)).real, 0, 255).astype(
        np.uint8
    )


def test_wiener_comes_closer_to_the_sharp_image_and_keeps_its_brightness() -> None:
    sharp = rendered.texture(3, 129).astype(np.uint8)
    soft = blurred(sharp, 2.0)
    restored = wiener(soft)
    inner = (slice(10, -10), slice(10, -10))
    errors = [np.mean((x[inner].astype(float) - sharp[inner]) ** 2) for x in (restored, soft)]
    assert restored.shape == sharp.shape and errors[0] < 0.8 * errors[1]
    assert abs(restored[inner].mean() - soft[inner].mean()) < 1.0
    flat = np.full((20, 31, 3), 200, np.uint8)
    assert (wiener(flat) == flat).all()


def test_any_restorer_may_be_used_but_must_keep_the_size(tmp_path: Path) -> None:
    (frame,) = rendered.save([np.full((20, 30, 3), 90, np.uint8)], tmp_path)
    paths = write_restored([frame], ["f000000.png"], tmp_path / "restored", lambda image: 255 - image)
    assert (np.asarray(Image.open(paths["f000000.png"])) == 165).all()
    with pytest.raises(SfmError, match="must keep the size"):
        write_restored([frame], ["f000000.png"], tmp_path / "restored", lambda image: image[::2])
