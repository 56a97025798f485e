"""Direction, extent and kind of the blur of one picture, from its differences and its power spectrum.

Blur multiplies the spectrum of the scene by that of its kernel. Averaged over many windows the scene's own log
spectrum is smooth (a power law with some preference of orientation), so what remains shows the kernel: |sinc| stripes
across a motion, rings of a defocus disk (Cannon, "Blind deconvolution of spatially invariant image blurs with phase",
IEEE TASSP 24(1), 1976). A bank of kernels is fitted by least squares; the best one is the answer. Curved paths are
answered by the straight one that fills the spectrum most alike.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from deblurgs.math.patches import MIN_CONTRAST, Grey

WINDOW = 96
"""Side in pixels of the windows; extents up to about half of it can be told apart."""
MAX_WINDOWS = 48
"""Windows are spread evenly; more of them add cost but hardly any certainty."""
ANGLES_DEG = tuple(7.5 * k for k in range(24))
LENGTHS_PX = (1.0, 2.0, 3.0, 4.0, 5.0, 6.5, 8.0, 10.0, 12.5, 15.5, 19.0, 24.0, 30.0, 38.0)
RADII_PX = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.5, 8.0, 10.0, 13.0)
BENDS = (0.0, 0.3)
"""Width of a path across its main direction over its length, as standard deviations: straight, and a shaken hand's."""
NOISES = (0.1, 0.01, 0.001)
"""White noise power relative to the sharp scene's at 0.1 cycles per pixel; fills the zeros of a kernel."""

_LOW, _HIGH = 2.5 / WINDOW, 0.42
_SCENE_SLOPE = -2.2
"""Exponent of the power spectrum of sharp pictures (Field 1987 and many since: -2 to -2.4)."""
_FINE_LAG, _COARSE_LAG = 2, 8
_SLOPE_TRUST = 3.0
"""Weight of that exponent against the picture's own: with a free slope, blur would pass for a soft scene."""


@dataclass(frozen=True)
class BlurFit:
    """What explains the spectrum best.

    line_px: length of the best motion; disk_px: diameter of the best disk; line_gain, disk_gain: share of the log
    spectrum's variance that each explains beyond no kernel at all; sharp_residual: log of what is left without one. All
    lengths in pixels of the picture given.
    """

    line_px: float
    disk_px: float
    line_gain: float
    disk_gain: float
    sharp_residual: float

    def numbers(self) -> NDArray[np.float32]:
        """[6]: what the classifier reads of it."""
        return np.array(
            [
                np.log(self.line_px), np.log(self.disk_px), self.line_gain, self.disk_gain,
                self.line_gain - self.disk_gain, self.sharp_residual,
            ], np.float32,
        )  # fmt: skip


NUMBERS = ("line", "disk", "line_gain", "disk_gain", "line_over_disk", "residual")
"""Names of `BlurFit.numbers`, in order."""


def fit_blur(grey: Grey) -> BlurFit:
    """Fit the kernel bank to grey [H,W] in [0,1]. Cost: linear in pixels up to `MAX_WINDOWS` windows, then constant."""
    bank = _bank()
    spectrum = _log_spectrum(np.asarray(grey, np.float32))[bank.rows, bank.columns]
    observed = np.append((spectrum - bank.scene) * bank.weights, np.float32(0.0))
    # OpenBLAS now and then raises the flag of an invalid value over finite numbers (numpy's issue 24067); it was seen
    # here once. That they are finite is sure: windows that are not have no contrast and are left out.
    with np.errstate(invalid="ignore"):
        coefficients = bank.basis.T @ observed
        rest = observed - bank.basis @ coefficients
        total = float(rest @ rest) + 1e-12
        # Residual of each kernel after the smooth scene is fitted along: |rest - kernel|^2 with the kernels projected
        # once.
        residual = (total - 2.0 * (bank.kernels @ rest) + bank.energies) / total
    residual = residual.reshape(-1, len(NOISES)).min(1)
    shape = (len(ANGLES_DEG), len(LENGTHS_PX), len(BENDS))
    count = int(np.prod(shape))
    lines, disks = residual[:count].reshape(shape).min(-1), residual[count:]
    length = int(lines.min(0).argmin())
    radius = int(disks.argmin())
    return BlurFit(
        LENGTHS_PX[length], 2.0 * RADII_PX[radius], float(1.0 - lines.min()), float(1.0 - disks.min()),
        float(np.log(total / len(observed))),
    )  # fmt: skip


def motion_direction(grey: Grey) -> float:
    """Direction of motion in degrees, [0,180), 0 along +x, 90 along +y (down); grey [H,W] in [0,1].

    The direction along which differences over `_FINE_LAG` pixels are smallest against those over `_COARSE_LAG`: motion
    takes the fine ones along itself and leaves the coarse ones, and the ratio cancels what the scene itself prefers.
    Eigenvector of inverse(coarse) @ fine for the structure tensors of the whole picture. Under noise and compression it
    is surer than the direction of the best kernel. Cost: linear in pixels.
    """
    grey = np.asarray(grey, np.float32)
    short = [max(2 * _COARSE_LAG + 2 - size, 0) for size in grey.shape]
    if any(short):
        grey = np.pad(grey, [(0, extra) for extra in short], mode="symmetric")
    coarse = _structure(grey, _COARSE_LAG)
    coarse += (1e-3 * np.trace(coarse) + 1e-12) * np.eye(2)
    values, vectors = np.linalg.eig(np.linalg.solve(coarse, _structure(grey, _FINE_LAG)))
    x, y = np.real(vectors[:, int(np.real(values).argmin())])
    return float(np.degrees(np.arctan2(y, x)) % 180.0)


def _structure(grey: Grey, lag: int) -> NDArray[np.float64]:
    dx = grey[lag:-lag, 2 * lag :] - grey[lag:-lag, : -2 * lag]
    dy = grey[2 * lag :, lag:-lag] - grey[: -2 * lag, lag:-lag]
    xx, xy, yy = (float(np.vdot(a, b)) / dx.size for a, b in ((dx, dx), (dx, dy), (dy, dy)))
    return np.array([[xx, xy], [xy, yy]])


def _log_spectrum(grey: Grey) -> NDArray[np.float32]:
    """[WINDOW, WINDOW/2+1]: mean log power of the windows with contrast, each divided by its own mean power."""
    short = [max(WINDOW - size, 0) for size in grey.shape]
    if any(short):
        grey = np.pad(grey, [(0, extra) for extra in short], mode="symmetric")
    places = [_places(size) for size in grey.shape]
    starts = [(y, x) for y in places[0] for x in places[1]]
    step = max(-(-len(starts) // MAX_WINDOWS), 1)
    windows = np.stack([grey[y : y + WINDOW, x : x + WINDOW] for y, x in starts[::step]])
    contrast = windows.std(axis=(1, 2))
    windows = windows[contrast > min(MIN_CONTRAST, float(contrast.max()) * 0.999)]
    if len(windows) == 0:
        return np.zeros((WINDOW, WINDOW // 2 + 1), np.float32)
    hann = np.hanning(WINDOW + 1)[:WINDOW].astype(np.float32)
    windows = (windows - windows.mean(axis=(1, 2), keepdims=True)) * (hann[:, None] * hann)
    spectrum = np.fft.rfft2(windows)
    power = spectrum.real**2 + spectrum.imag**2
    power /= power.mean(axis=(1, 2), keepdims=True) + 1e-20
    return np.log(power + 1e-7).mean(axis=0).astype(np.float32)


def _places(size: int) -> list[int]:
    """Starts of half-overlapping windows that cover the whole axis."""
    count = max(-(-(size - WINDOW) // (WINDOW // 2)), 0) + 1
    return [round(i * (size - WINDOW) / max(count - 1, 1)) for i in range(count)]


@dataclass(frozen=True)
class _Bank:
    rows: NDArray[np.intp]  # [N] places in the half spectrum
    columns: NDArray[np.intp]
    weights: NDArray[np.float32]  # [N]
    scene: NDArray[np.float32]  # [N] log spectrum of the expected sharp scene
    basis: NDArray[
        np.float32
    ]  # [N+1,B] orthonormal: how a sharp scene may differ; the last row holds the slope
    kernels: NDArray[np.float32]  # [K*len(NOISES),N+1] log kernel spectra, the basis projected out
    energies: NDArray[np.float32]  # [K*len(NOISES)]


@cache
def _bank() -> _Bank:
    fy, fx = np.meshgrid(np.fft.fftfreq(WINDOW), np.fft.rfftfreq(WINDOW), indexing="ij")
    radius = np.hypot(fy, fx)
    # The row and column through 0 carry the window borders of anything bright; half of column 0 is redundant.
    use = (radius > _LOW) & (radius < _HIGH) & (fx > 0.5 / WINDOW) & (np.abs(fy) > 0.5 / WINDOW)
    rows, columns = np.nonzero(use)
    y, x, f = fy[use], fx[use], radius[use]
    # Every octave counts alike, or the many high frequencies, mostly noise, would decide.
    weights = (1.0 / np.sqrt(f)).astype(np.float32)
    weights /= np.sqrt((weights**2).mean())
    turn = np.arctan2(y, x)
    smooth = [np.ones_like(f), np.log(f), np.cos(2 * turn), np.sin(2 * turn), np.cos(4 * turn)]
    scene_terms = np.stack(smooth, axis=1) * weights[:, None]
    pull = np.zeros((1, len(smooth)))
    pull[0, 1] = _SLOPE_TRUST * np.linalg.norm(scene_terms[:, 1] - scene_terms[:, 0] * np.log(f).mean())
    basis = np.linalg.qr(np.concatenate([scene_terms, pull]))[0].astype(np.float32)
    powers = []
    for angle in np.radians(ANGLES_DEG):
        along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        for length in LENGTHS_PX:
            line = np.sinc(length * along) ** 2
            widths = [bend * length / np.sqrt(12.0) for bend in BENDS]
            powers += [line * np.exp(-((2.0 * np.pi * width * across) ** 2)) for width in widths]
    powers += [_disk(2.0 * np.pi * r * f) ** 2 for r in RADII_PX]
    noise = (f / 0.1) ** -_SCENE_SLOPE
    kernels = np.stack(
        [np.log((power + level * noise) / (1 + level * noise)) for power in powers for level in NOISES]
    )
    kernels = np.pad(kernels * weights, ((0, 0), (0, 1)))
    kernels = (kernels - (kernels @ basis) @ basis.T).astype(np.float32)
    scene = (_SCENE_SLOPE * np.log(f)).astype(np.float32)
    return _Bank(rows, columns, weights, scene, basis, kernels, (kernels**2).sum(1))


def _disk(argument: NDArray[np.floating]) -> NDArray[np.floating]:
    """2 J1(a) / a, the spectrum of a disk, by Bessel's integral with 64 midpoints (exact to 1e-12 below a = 60)."""
    turn = (np.arange(64) + 0.5) * (np.pi / 64)
    bessel = np.cos(turn - argument[:, None] * np.sin(turn)).mean(1)
    return 2.0 * bessel / argument
