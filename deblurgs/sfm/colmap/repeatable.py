"""What makes pycolmap give the same cameras for the same photos: nearly always to the bit, else to four digits."""

import os

SEED = 0
"""Of everything random."""
THREADS_FROM = 100
"""Images from which bundle adjustment uses several threads. Below that they win nothing, and sums in an order that
threads decide make a model that now and then differs from the last one of the same photos."""


def adjustment_threads(num_images: int) -> int:
    """Threads for bundle adjustment of so many images."""
    return (os.cpu_count() or 1) if num_images >= THREADS_FROM else 1
