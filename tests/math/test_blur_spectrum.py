"""Direction and length of a known motion, and a disk told from a line."""

import numpy as np
import pytest
from skimage import data
from skimage.draw import disk

from deblurgs.math.blur_spectrum import fit_blur, motion_direction


def scene() -> np.ndarray:
    rng = np.random.default_rng(0)
    fy, fx = np.fft.fftfreq(320)[:, None], np.fft.fftfreq(480)[None]
    spectrum = np.fft.fft2(rng.standard_normal((320, 480))) / np.maximum(np.hypot(fy, fx), 1 / 480) ** 1.1
    grey = np.fft.ifft2(spectrum).real
    return (0.5 + 0.15 * grey / grey.std()).astype(np.float32)


def moved(grey: np.ndarray, angle_deg: float, length: float) -> np.ndarray:
    fy, fx = np.fft.fftfreq(grey.shape[0])[:, None], np.fft.fftfreq(grey.shape[1])[None]
    turn = np.radians(angle_deg)
    gain = np.sinc(length * (fx * np.cos(turn) + fy * np.sin(turn)))
    return np.fft.ifft2(np.fft.fft2(grey) * gain).real.astype(np.float32)


@pytest.mark.parametrize("angle", [0.0, 35.0, 90.0, 150.0])
def test_the_direction_of_a_motion_is_found_despite_noise(angle: float) -> None:
    # A photograph whose own edges have a favourite direction pulls the answer a little.
    for grey, most in ((scene(), 8), (data.camera().astype(np.float32) / 255, 20)):
        picture = moved(grey, angle, 9.0) + 0.004 * np.random.default_rng(1).standard_normal(grey.shape)
        error = (motion_direction(picture.astype(np.float32)) - angle + 90) % 180 - 90
        assert abs(error) < most


def test_longer_motion_is_called_longer() -> None:
    true = (3.0, 5.0, 8.0, 12.0, 16.0)
    lengths = [fit_blur(moved(scene(), 35.0, length)).line_px for length in true]
    assert lengths == pytest.approx(true, rel=0.06)


def test_a_disk_explains_defocus_better_than_a_line_does() -> None:
    grey = scene()
    kernel = np.zeros(grey.shape)
    rows, columns = disk((0, 0), 5.5)
    kernel[rows, columns] = 1 / len(rows)
    soft = np.fft.ifft2(np.fft.fft2(grey) * np.fft.fft2(kernel)).real.astype(np.float32)
    assert fit_blur(soft).disk_gain > fit_blur(soft).line_gain + 0.05
    assert fit_blur(moved(grey, 35.0, 10.0)).line_gain > fit_blur(moved(grey, 35.0, 10.0)).disk_gain + 0.2


@pytest.mark.parametrize("shape", [(1, 1), (30, 500), (96, 96)])
def test_any_size_and_blank_pictures_are_taken(shape: tuple[int, int]) -> None:
    grey = np.full(shape, 0.5, np.float32)
    assert np.isfinite(fit_blur(grey).numbers()).all() and 0 <= motion_direction(grey) < 180
