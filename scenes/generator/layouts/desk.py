"""A desk before a wall: books, a mug, a globe, papers, pictures, small things in front."""

import numpy as np

from scenes.generator import textures as tx
from scenes.generator.blender import Studio
from scenes.generator.layouts.things import book_row, book_stack, mug, plant, small_things
from scenes.generator.plan import Stand

STAND = Stand(focus=(0.0, 0.05, 0.17), distance=1.55, azimuth_deg=24.0, elevation_deg=(16.0, 34.0))


def build(studio: Studio, rng: np.random.Generator) -> None:
    studio.box(studio.material(tx.wood(rng), metres=0.9), (2.4, 1.2, 0.04), (0, 0.05, -0.04))
    wall = tx.picture("brick") if rng.random() < 0.6 else tx.plaster(rng)
    studio.box(studio.material(wall, metres=0.8), (4.0, 0.05, 2.6), (0, 0.66, -0.9))
    studio.box(studio.material(tx.terrazzo(rng), metres=0.5), (8.0, 5.0, 0.02), (0, -1.8, -0.75))
    pictures = list(rng.permutation(["astronaut", "chelsea", "rocket", "hubble", "coffee"]))
    frame = studio.material(tx.wood(rng), metres=0.3)
    for x, name in zip((-0.62, 0.1, 0.68), pictures, strict=False):
        width, height = rng.uniform(0.28, 0.42), rng.uniform(0.26, 0.36)
        z = rng.uniform(0.32, 0.44)
        studio.box(frame, (width + 0.05, 0.03, height + 0.05), (x, 0.62, z - 0.025))
        studio.sheet(
            studio.material(tx.picture(name), projection="UV"), (width, height), (x, 0.6, z), upright=True
        )
    book_row(studio, rng, (-0.72, 0.42, 0.0), 9)
    book_stack(studio, rng, (0.5, 0.3, 0.0), 5)
    mug(studio, rng, (0.42, -0.06, 0.0))
    globe = studio.material(tx.terrazzo(rng, 512), projection="SPHERE", gloss=0.3)
    profile = [
        (0.115 * np.sin(a), 0.115 * (1 - np.cos(a)) + 0.05) for a in np.linspace(0.02, np.pi - 0.02, 24)
    ]
    studio.lathe(globe, profile, (-0.1, 0.28, 0.0))
    studio.lathe(
        frame, [(0.001, 0.0), (0.07, 0.0), (0.06, 0.015), (0.012, 0.03), (0.012, 0.06)], (-0.1, 0.28, 0.0)
    )
    plant(studio, rng, (0.2, 0.42, 0.0), 0.3)
    for x, y, name in ((-0.3, -0.16, "page"), (0.12, -0.26, "text")):
        sheet = studio.material(tx.picture(name), projection="UV")
        studio.sheet(sheet, (0.3, 0.22), (x, y, 0.003), turn_deg=rng.uniform(-25, 25))
    for _ in range(2):
        cover = studio.material(tx.print_(rng, 512), projection="UV")
        place = (rng.uniform(-0.7, 0.7), rng.uniform(-0.4, -0.05), 0.002 + 0.002 * rng.random())
        studio.sheet(cover, (0.2, 0.28), place, turn_deg=rng.uniform(-50, 50))
    small_things(studio, rng, 28, (-0.75, 0.75), (-0.42, 0.12), 0.0)
