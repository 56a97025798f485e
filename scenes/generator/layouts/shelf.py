"""A bookcase with three boards, seen from the front: rows of books, vases, boxes, plants, pictures that lean."""

import numpy as np

from scenes.generator import textures as tx
from scenes.generator.blender import Studio
from scenes.generator.layouts.things import book_row, book_stack, mug, plant, small_things, vase
from scenes.generator.plan import Stand

STAND = Stand(focus=(0.0, 0.05, 0.72), distance=1.7, azimuth_deg=24.0, elevation_deg=(-4.0, 16.0))

_WIDTH, _DEPTH, _STEP = 1.5, 0.36, 0.44


def build(studio: Studio, rng: np.random.Generator) -> None:
    case = studio.material(tx.wood(rng), metres=0.7)
    studio.box(studio.material(tx.plaster(rng), metres=1.1), (5.0, 0.05, 3.4), (0, 0.36, -0.6))
    studio.box(studio.material(tx.cloth(rng), metres=0.4), (5.0, 4.0, 0.02), (0, -1.4, -0.2))
    for level in range(5):
        studio.box(case, (_WIDTH, _DEPTH, 0.025), (0, 0.12, level * _STEP - 0.2))
    for x in (-_WIDTH / 2, 0.02, _WIDTH / 2):
        studio.box(case, (0.025, _DEPTH, 4 * _STEP), (x, 0.12, -0.2))
    pictures = list(rng.permutation(["astronaut", "chelsea", "rocket", "hubble", "coffee"]))
    for level in range(4):
        floor = level * _STEP - 0.175
        for left in (-_WIDTH / 2 + 0.04, 0.06):
            kind = (level + (left > 0) + int(rng.integers(0, 2))) % 4
            centre = left + 0.31
            if kind == 0:
                book_row(studio, rng, (left, 0.1, floor), int(rng.integers(9, 13)), tallest=0.36)
            elif kind == 1:
                book_row(studio, rng, (left, 0.1, floor), int(rng.integers(4, 6)), tallest=0.34)
                vase(studio, rng, (left + 0.46, 0.08, floor), rng.uniform(0.2, 0.3))
                small_things(studio, rng, 4, (left + 0.28, left + 0.58), (-0.02, 0.04), floor)
            elif kind == 2:
                name = pictures.pop()
                size = rng.uniform(0.24, 0.32)
                sheet = studio.material(tx.picture(name), projection="UV")
                studio.sheet(sheet, (size, 0.28), (left + 0.18, 0.14, floor), upright=True, lean_deg=8)
                book_stack(studio, rng, (left + 0.47, 0.1, floor), int(rng.integers(3, 6)))
                small_things(studio, rng, 5, (left + 0.05, left + 0.6), (-0.03, 0.02), floor)
            else:
                plant(studio, rng, (centre - 0.16, 0.1, floor), 0.26)
                crate = studio.material(tx.print_(rng))
                studio.box(crate, (0.2, 0.2, 0.24), (centre + 0.14, 0.12, floor), rng.uniform(-20, 20))
                mug(studio, rng, (centre + 0.02, 0.0, floor))
    small_things(studio, rng, 6, (-0.6, 0.6), (-0.6, -0.3), -0.18)
