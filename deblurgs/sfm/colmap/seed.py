"""The seed of everything random in pycolmap."""

SEED = 0
