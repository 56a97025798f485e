"""Things that stand around in several layouts. `at` is where they stand, in metres."""

from collections.abc import Sequence

import numpy as np

from scenes.generator import textures as tx
from scenes.generator.blender import Studio

Rng = np.random.Generator


def book_row(studio: Studio, rng: Rng, at: Sequence[float], count: int, tallest: float = 0.3) -> None:
    """Books side by side from `at` to the right; the last one leans."""
    x = at[0]
    for i in range(count):
        width, height = rng.uniform(0.025, 0.06), tallest * rng.uniform(0.62, 1.0)
        cover = studio.material(tx.print_(rng, 256))
        tilt = -rng.uniform(6, 12) if i == count - 1 else 0.0
        place = (x + width / 2, at[1] - rng.uniform(0.0, 0.03), at[2])
        studio.box(cover, (width, rng.uniform(0.16, 0.2), height), place, tilt_deg=tilt)
        x += width + 0.003


def book_stack(studio: Studio, rng: Rng, at: Sequence[float], count: int) -> None:
    z = at[2]
    for _ in range(count):
        thick = rng.uniform(0.02, 0.05)
        cover = studio.material(tx.print_(rng, 256))
        studio.box(cover, (rng.uniform(0.2, 0.27), 0.18, thick), (at[0], at[1], z), rng.uniform(-18, 18))
        z += thick


def mug(studio: Studio, rng: Rng, at: Sequence[float]) -> None:
    glaze = studio.material(tx.print_(rng, 256), projection="TUBE", gloss=0.5)
    profile = [
        (0.001, 0.0),
        (0.04, 0.0),
        (0.043, 0.01),
        (0.043, 0.1),
        (0.039, 0.1),
        (0.037, 0.015),
        (0.001, 0.012),
    ]
    studio.lathe(glaze, profile, at, rng.uniform(0, 360))


def vase(studio: Studio, rng: Rng, at: Sequence[float], height: float) -> None:
    z = np.linspace(0.0, 1.0, 24)
    phase, waist = rng.uniform(0, 2), rng.uniform(0.2, 0.45)
    radius = height * (0.24 + 0.5 * waist * 0.3 * np.sin(5 * z + phase)) * (1 - 0.25 * z)
    profile = [(0.001, 0.0), *((float(r), float(height * s)) for r, s in zip(radius, z, strict=True))]
    texture = [tx.terrazzo, tx.stone, tx.cloth][int(rng.integers(0, 3))](rng)
    studio.lathe(studio.material(texture, projection="TUBE", gloss=0.4), profile, at, rng.uniform(0, 360))


def plant(studio: Studio, rng: Rng, at: Sequence[float], height: float) -> None:
    """A pot with leaves."""
    pot = studio.material(tx.terrazzo(rng), projection="TUBE")
    r, h = 0.22 * height, 0.32 * height
    studio.lathe(
        pot, [(0.001, 0.0), (0.75 * r, 0.0), (r, h), (0.9 * r, h), (0.85 * r, 0.9 * h), (0.001, 0.9 * h)], at
    )
    leaves = studio.material(tx.foliage(rng))
    place = (at[0], at[1], at[2] + 0.85 * h)
    studio.blades(leaves, 46, (0.6 * r, 0.6 * r), 0.75 * height, 0.07 * height, place, rng, lean=0.9)


def small_things(
    studio: Studio, rng: Rng, count: int, x: tuple[float, float], y: tuple[float, float], floor: float
) -> None:
    """Cubes, pencils, pebbles and dice: edges near the camera, at the finest scale."""
    for _ in range(count):
        place = (rng.uniform(*x), rng.uniform(*y), floor)
        kind = rng.integers(0, 3)
        if kind == 0:
            size = rng.uniform(0.02, 0.055, 3)
            studio.box(studio.material(tx.cloth(rng)), size, place, rng.uniform(0, 90))
        elif kind == 1:
            size = (rng.uniform(0.1, 0.17), 0.008, 0.008)
            studio.box(studio.material(tx.terrazzo(rng, 64)), size, place, rng.uniform(0, 180))
        else:
            studio.rock(studio.material(tx.stone(rng, 128)), rng.uniform(0.015, 0.03), place, rng)
