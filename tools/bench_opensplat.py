"""Times `opensplat --cpu`, the user's own build, on a data set made from work item W.

OpenSplat's CPU rasterizer is compiled into its executable, so it cannot be called alone without building against its
sources. What is timed is its whole training step (projection, raster, loss, Adam) on one 256x192 picture and the
20,000 means of W as the initial points: iterations between two runs of different length, so that loading cancels.
Its splats start round and faint (opacity 0.1), so the work is *not* that of W: compare orders of magnitude only.
"""

import os
import struct
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import torch
from bench_work import WorkItem, work_item

from deblurgs.math.quaternion import from_matrix
from deblurgs.math.sh import sh0_to_rgb
from deblurgs.raster.api import rasterize

SHORT, LONG = 5, 25  # iterations; one takes more than a second


def measure_opensplat(path: Path) -> dict[str, Any]:
    """Milliseconds per training iteration of the executable at `path`, or in a checkout's build folder there."""
    places = [
        path,
        path / "build" / "opensplat",
        path / "opensplat",
        path / "build" / "Release" / "opensplat",
    ]
    executable = next((p for p in places if p.is_file() and os.access(p, os.X_OK)), None)
    if executable is None:
        return {"skipped": f"no executable opensplat in {path} or its build folder"}
    with tempfile.TemporaryDirectory() as folder:
        write_colmap(Path(folder), work_item(num_views=4))
        seconds = {}
        for iterations in (SHORT, LONG):
            command = [
                str(executable.resolve()), folder, "--cpu", "-n", str(iterations), "--num-downscales", "0",
                "-o", str(Path(folder) / "out.ply"),
            ]  # fmt: skip
            start = time.perf_counter()
            done = subprocess.run(command, capture_output=True, text=True)
            seconds[iterations] = time.perf_counter() - start
            if done.returncode != 0:
                return {"skipped": f"opensplat failed: {(done.stderr or done.stdout)[-300:].strip()}"}
    step = 1e3 * (seconds[LONG] - seconds[SHORT]) / (LONG - SHORT)
    return {"opensplat_step_ms": step, "note": "whole training step, splats at their start: not work item W"}


def write_colmap(folder: Path, item: WorkItem) -> None:
    """Rendered pictures, one pinhole camera, the poses and the means as a binary COLMAP model in sparse/0."""
    camera, gaussians = item.camera, item.gaussians
    model, pictures = folder / "sparse" / "0", folder / "images"
    model.mkdir(parents=True)
    pictures.mkdir()
    (model / "cameras.bin").write_bytes(
        struct.pack(
            "<QiiQQ4d", 1, 1, 1, camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy
        )
    )
    records = [struct.pack("<Q", len(item.viewmats))]
    for i, viewmat in enumerate(item.viewmats):
        image = rasterize(*gaussians.values(), viewmat=viewmat, camera=camera).image
        name = f"{i:03d}.png"
        iio.imwrite(pictures / name, (255 * image.clamp(0, 1)).round().to(torch.uint8).numpy())
        quat, shift = from_matrix(viewmat[:3, :3]).tolist(), viewmat[:3, 3].tolist()
        records.append(
            struct.pack("<i7di", i + 1, *quat, *shift, 1) + name.encode() + b"\0" + struct.pack("<Q", 0)
        )
    (model / "images.bin").write_bytes(b"".join(records))
    rgb = (255 * sh0_to_rgb(gaussians["sh0"][:, 0]).clamp(0, 1)).to(torch.uint8).tolist()
    points = [struct.pack("<Q", len(rgb))]
    for i, (xyz, color) in enumerate(zip(gaussians["means"].tolist(), rgb, strict=True)):
        points.append(struct.pack("<Q3d3BdQ", i + 1, *xyz, *color, 1.0, 0))
    (model / "points3D.bin").write_bytes(b"".join(points))
