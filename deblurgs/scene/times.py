"""When the frames of a video were taken."""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def video_times(names: Sequence[str], times_s: Sequence[float | None] | None) -> NDArray[np.float64]:
    """Times of the frames in seconds, [F]; without them the numbers in their names, else their order.

    Raises ValueError unless they increase evenly from frame to frame.
    """
    numbers = [re.findall(r"\d+", name.rsplit(".", 1)[0]) for name in names]
    if times_s is not None and None not in times_s:
        times = np.array(times_s, dtype=np.float64)
    elif all(numbers):
        times = np.array([float(n[-1]) for n in numbers])
    else:
        times = np.arange(len(names), dtype=np.float64)
    gaps = np.diff(times)
    if len(times) < 2 or not (gaps > 0).all() or gaps.max() > 1e3 * np.median(gaps):
        raise ValueError("the times or numbers of the frames do not increase evenly")
    return times
