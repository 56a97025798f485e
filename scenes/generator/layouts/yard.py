"""A corner of a yard: gravel and grass, a brick wall, a fence, crates, rocks, pots with plants, a ball."""

import numpy as np

from scenes.generator import textures as tx
from scenes.generator.blender import Studio
from scenes.generator.layouts.things import plant
from scenes.generator.plan import Stand

STAND = Stand(focus=(0.0, 0.3, 0.45), distance=3.6, azimuth_deg=24.0, elevation_deg=(9.0, 24.0))


def build(studio: Studio, rng: np.random.Generator) -> None:
    studio.box(studio.material(tx.picture("gravel"), metres=1.3), (14, 10, 0.1), (0, -1.0, -0.1))
    studio.box(studio.material(tx.picture("grass"), metres=1.0), (3.0, 1.6, 0.03), (-0.9, 0.9, 0.0))
    brick = studio.material(tx.picture("brick"), metres=1.2)
    studio.box(brick, (3.6, 0.2, 2.6), (-1.3, 2.0, 0.0))
    studio.box(studio.material(tx.stone(rng), metres=0.7), (3.7, 0.3, 0.12), (-1.3, 2.0, 2.6))
    boards = [studio.material(tx.wood(rng), metres=0.6) for _ in range(3)]
    for i in range(16):
        size = (0.17, 0.03, rng.uniform(1.4, 1.65))
        studio.box(
            boards[i % 3], size, (0.65 + 0.19 * i, 1.75 + 0.02 * rng.random(), 0.0), tilt_deg=rng.normal(0, 1)
        )
    for z in (0.35, 1.15):
        studio.box(boards[0], (3.2, 0.04, 0.1), (2.1, 1.8, z))
    studio.box(studio.material(tx.plaster(rng), metres=1.5), (14, 0.2, 5.0), (0, 4.5, 0.0))
    pictures = list(rng.permutation(["astronaut", "rocket", "chelsea", "coffee"]))
    studio.sheet(
        studio.material(tx.picture(pictures[0]), projection="UV"), (0.8, 0.8), (-0.7, 1.88, 0.7), upright=True
    )
    studio.sheet(
        studio.material(tx.print_(rng, 512), projection="UV"), (0.6, 0.8), (-1.75, 1.88, 0.6), upright=True
    )
    for i, x in enumerate((0.55, 0.95, 0.75)):
        crate = studio.material(tx.print_(rng) if i == 1 else tx.wood(rng, 256))
        size = rng.uniform(0.3, 0.42)
        studio.box(
            crate,
            (size, size, size * 0.8),
            (x, 0.95 - 0.15 * i, 0.34 if i == 2 else 0.0),
            rng.uniform(-30, 30),
        )
    for _ in range(9):
        place = (rng.uniform(-1.5, 1.5), rng.uniform(-0.9, 0.6), 0.0)
        studio.rock(studio.material(tx.stone(rng), metres=0.35), rng.uniform(0.06, 0.2), place, rng)
    for x, y in ((-0.35, 0.45), (1.35, 0.45)):
        plant(studio, rng, (x, y, 0.0), rng.uniform(0.5, 0.75))
    grass = [studio.material(tx.foliage(rng)) for _ in range(2)]
    for i in range(26):
        place = (rng.uniform(-2.3, 0.4), rng.uniform(0.3, 1.6), 0.03)
        studio.blades(grass[i % 2], 40, (0.12, 0.12), rng.uniform(0.12, 0.28), 0.012, place, rng)
    ball = studio.material(tx.cloth(rng), projection="SPHERE", gloss=0.2)
    profile = [(0.15 * np.sin(a), 0.15 * (1 - np.cos(a))) for a in np.linspace(0.02, np.pi - 0.02, 24)]
    studio.lathe(ball, profile, (0.3, -0.15, 0.0), rng.uniform(0, 360))
    studio.sheet(
        studio.material(tx.print_(rng, 512), projection="UV"), (0.4, 0.55), (-0.75, -0.35, 0.01), turn_deg=25
    )
