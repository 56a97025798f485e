"""Textures: procedural ones by numpy, and the free sample pictures that scikit-image ships. sRGB uint8 [H,W,3]."""

import colorsys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
Rng = np.random.Generator

PICTURES = {
    "astronaut": "astronaut.png", "coffee": "coffee.png", "chelsea": "chelsea.png", "rocket": "rocket.jpg",
    "hubble": "hubble_deep_field.jpg", "brick": "brick.png", "grass": "grass.png", "gravel": "gravel.png",
    "page": "page.png", "text": "text.png",
}  # fmt: skip
"""Only those whose licence allows any use: README.md lists them."""


def picture(name: str) -> Pixels:
    """A sample picture of scikit-image by its name in PICTURES. Raises FileNotFoundError without scikit-image."""
    found = find_spec("skimage")
    if found is None or not found.submodule_search_locations:
        raise FileNotFoundError("scikit-image is not installed; its sample pictures are used as textures")
    path = Path(found.submodule_search_locations[0]) / "data" / PICTURES[name]
    with Image.open(path) as opened:
        image = opened.convert("RGB")
        image.thumbnail((512, 512))
        return np.asarray(image)


def colour(
    rng: Rng, saturation: tuple[float, float] = (0.35, 0.8), value: tuple[float, float] = (0.4, 0.85)
) -> NDArray:
    """A random sRGB colour [3] in [0,1]."""
    return np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(*saturation), rng.uniform(*value)))


def fractal(size: int, rng: Rng, slope: float = 1.0, stretch: tuple[float, float] = (1.0, 1.0)) -> NDArray:
    """Periodic noise [size,size] in [0,1] with a power-law spectrum: detail at every scale.

    slope: fall of amplitude with frequency; stretch: factors by which features are longer in x and y.
    """
    fx = np.fft.fftfreq(size)[None, :] * size * stretch[0]
    fy = np.fft.fftfreq(size)[:, None] * size * stretch[1]
    radius = np.sqrt(fx**2 + fy**2)
    radius[0, 0] = np.inf
    noise = np.fft.ifft2(np.fft.fft2(rng.standard_normal((size, size))) / radius**slope).real
    rank = (noise - noise.mean()) / (2.2 * noise.std())
    return np.clip(0.5 + 0.5 * rank, 0.0, 1.0)


def plaster(rng: Rng, base: NDArray | None = None, size: int = 512) -> Pixels:
    """A rough wall: mottled colour with dark and light specks."""
    base = colour(rng, (0.1, 0.35), (0.5, 0.8)) if base is None else base
    tone = 0.7 + 0.6 * (fractal(size, rng, 1.1) - 0.5) + 0.5 * (fractal(size, rng, 0.35) - 0.5)
    return _bytes(base * tone[..., None])


def wood(rng: Rng, size: int = 512) -> Pixels:
    """Planks along x: rings warped by noise, fine fibres, darker joints."""
    base = np.array(
        colorsys.hsv_to_rgb(rng.uniform(0.05, 0.1), rng.uniform(0.4, 0.65), rng.uniform(0.5, 0.8))
    )
    y = np.arange(size)[:, None] / size
    warp = fractal(size, rng, 1.3, (6.0, 1.0))
    rings = 0.5 + 0.5 * np.sin(2 * np.pi * (9 * y + 5 * warp))
    fibres = fractal(size, rng, 0.4, (20.0, 1.0))
    plank = (np.floor(4 * y) * 37 % 5) / 5
    joint = np.where((4 * y) % 1.0 < 0.02, 0.45, 1.0)
    return _bytes(
        base * ((0.62 + 0.3 * rings * warp + 0.4 * (fibres - 0.5) + 0.14 * plank) * joint)[..., None]
    )


def cloth(rng: Rng, size: int = 256) -> Pixels:
    """A checked weave of three colours."""
    inks = [colour(rng) for _ in range(3)]
    period = int(rng.choice([8, 12, 16]))
    x, y = np.meshgrid(np.arange(size), np.arange(size))
    pattern = (x * period // size + 2 * (y * period // size)) % 3
    thread = 0.8 + 0.2 * (((x // 2) + (y // 2)) % 2) + 0.35 * (fractal(size, rng, 0.5) - 0.5)
    return _bytes(np.choose(pattern[..., None], inks) * thread[..., None])


def terrazzo(rng: Rng, size: int = 256) -> Pixels:
    """Chips of several colours in a matrix."""
    image = np.ones((size, size, 3)) * colour(rng, (0.05, 0.3), (0.6, 0.9))
    for _ in range(5):
        chips = fractal(size, rng, rng.uniform(0.6, 1.2)) > rng.uniform(0.68, 0.8)
        image[chips] = colour(rng)
    return _bytes(image * (0.85 + 0.3 * fractal(size, rng, 0.4))[..., None])


def stone(rng: Rng, size: int = 256) -> Pixels:
    """Grey to brown rock."""
    base = colour(rng, (0.05, 0.25), (0.4, 0.75))
    tone = 0.45 + 0.7 * fractal(size, rng, 1.0) + 0.6 * (fractal(size, rng, 0.3) - 0.5)
    return _bytes(base * tone[..., None])


def foliage(rng: Rng, size: int = 256) -> Pixels:
    """Greens and some yellow, streaked along y."""
    green = np.array(
        colorsys.hsv_to_rgb(rng.uniform(0.2, 0.36), rng.uniform(0.5, 0.8), rng.uniform(0.45, 0.7))
    )
    yellow = np.array([0.75, 0.7, 0.3])
    mix = fractal(size, rng, 0.8, (1.0, 4.0))[..., None] ** 2
    return _bytes(
        (green * (1 - mix) + yellow * mix) * (0.6 + 0.7 * fractal(size, rng, 0.5, (1.0, 6.0)))[..., None]
    )


def print_(rng: Rng, size: int = 256) -> Pixels:
    """A printed cover: bands, a block, and lines of letter-like marks. Its detail reaches from the sheet to a pixel."""
    paper = colour(rng, (0.1, 0.8), (0.5, 0.95))
    ink = (
        colour(rng, (0.2, 0.9), (0.05, 0.3)) if paper.mean() > 0.45 else colour(rng, (0.0, 0.3), (0.85, 1.0))
    )
    accent = colour(rng)
    image = np.ones((size, size, 3)) * paper
    top = int(rng.uniform(0.05, 0.2) * size)
    image[:top] = accent
    image[-top // 2 :] = ink
    row = top + size // 20
    while row < 0.9 * size:
        letter = int(rng.choice([size // 40, size // 26, size // 12]))
        if rng.random() < 0.15:
            width = int(rng.uniform(0.3, 0.8) * size)
            image[row : row + 2 * letter, size // 10 : size // 10 + width] = accent
        else:
            column = size // 12
            end = rng.uniform(0.5, 0.92) * size
            while column < end:
                step = max(2, int(letter * rng.uniform(0.4, 0.9)))
                if rng.random() < 0.82:
                    _glyph(image, row, column, letter, step, ink, rng)
                column += step + max(1, letter // 5)
        row += int(letter * rng.uniform(1.4, 2.4)) + 2
    return _bytes(image * (0.92 + 0.16 * fractal(size, rng, 0.7))[..., None])


def _glyph(image: NDArray, row: int, column: int, height: int, width: int, ink: NDArray, rng: Rng) -> None:
    """One letter-like mark: two or three strokes on a grid of three by three."""
    stroke = max(1, height // 6)
    for _ in range(int(rng.integers(2, 4))):
        if rng.random() < 0.5:
            at = column + int(rng.choice([0, width // 2, max(width - stroke, 0)]))
            image[row : row + height, at : at + stroke] = ink
        else:
            at = row + int(rng.choice([0, height // 2, max(height - stroke, 0)]))
            image[at : at + stroke, column : column + width] = ink


def _bytes(image: NDArray) -> Pixels:
    return np.rint(255 * np.clip(image, 0.0, 1.0)).astype(np.uint8)
