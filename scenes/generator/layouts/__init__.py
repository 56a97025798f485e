"""The scenes that can be filmed: each has a `STAND` (where from) and `build(studio, rng)` (what is there)."""

NAMES = ("desk", "shelf", "yard")
