"""A camera path through views that the user chose: recorded in the browser, rendered here, handed back as mp4."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from deblurgs.export.video import write_mp4
from deblurgs.math.quaternion import slerp
from deblurgs.view.pictures import Pixels
from deblurgs.view.pose import View

FPS = 30
MAX_PATH_S = 120.0


def path_through(views: Sequence[View], num_views: int) -> list[View]:
    """`num_views` (2 or more) views along a curve through the given ones (2 or more): Catmull-Rom for position and
    field of view, slerp for orientation, the same time between all of them. The aspect is the first one's."""
    if len(views) < 2 or num_views < 2:
        raise ValueError("a path needs at least two views")
    places = np.array([[*v.position, v.fov_y] for v in views])
    # Beyond its ends the curve goes on as it came.
    padded = np.concatenate([2 * places[:1] - places[1:2], places, 2 * places[-1:] - places[-2:-1]])
    out = []
    for t in np.linspace(0.0, len(views) - 1, num_views):
        i = min(int(t), len(views) - 2)
        s = t - i
        p0, p1, p2, p3 = padded[i : i + 4]
        place = p1 + 0.5 * s * (
            (p2 - p0) + s * ((2 * p0 - 5 * p1 + 4 * p2 - p3) + s * (3 * (p1 - p2) + p3 - p0))
        )
        a, b = (torch.from_numpy(np.asarray(v.wxyz, np.float64)) for v in (views[i], views[i + 1]))
        turned = slerp(a, b if float(a @ b) >= 0 else -b, torch.tensor(s, dtype=torch.float64))
        out.append(
            replace(
                views[0], wxyz=turned.numpy(), position=place[:3], fov_y=float(np.clip(place[3], 0.05, 3.0))
            )
        )
    return out


def path_video(
    views: Sequence[View], seconds: float, render: Callable[[View], Pixels], progress: Callable[[float], None]
) -> bytes:
    """The path as mp4. render(view) -> one picture, all of one size; progress hears shares from 0 to 1."""
    poses = path_through(views, max(2, round(min(seconds, MAX_PATH_S) * FPS)))

    def pictures():
        for i, view in enumerate(poses):
            yield render(view)
            progress((i + 1) / len(poses))

    with tempfile.TemporaryDirectory(prefix="deblurgs-view-") as folder:
        target = Path(folder) / "path.mp4"
        write_mp4(target, pictures(), Fraction(FPS))
        return target.read_bytes()
