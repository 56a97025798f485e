"""What a run found out, as numbers: the path of the camera during every exposure, and how far each frame is trusted.

    python examples/02_read_run.py RUN

- reads trajectories.json, trust.json and sfm/model.npz; docs/formats.md describes them
- needs neither torch nor a lock on the run folder: it may be done while a command works there
"""

import sys
from pathlib import Path

import numpy as np
import tyro

from deblurgs.errors import DeblurgsError
from deblurgs.export.trajectories import read_shutter, read_trajectories
from deblurgs.files import read_json
from deblurgs.sfm.model import load_model


def main(run: Path, /) -> None:
    """Print a line for every frame of a run.

    Args:
        run: The run folder.
    """
    if not (run / "manifest.json").is_file():
        sys.exit(f"error: {run} is not a run folder")
    if not (run / "trust.json").is_file():
        sys.exit(f"error: {run} is not rendered yet:  deblurgs resume {run}")
    try:
        tell(run)
    except DeblurgsError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def tell(run: Path) -> None:
    """The lines. Raises DeblurgsError for files that cannot be read."""
    model = load_model(run / "sfm")
    trust = {entry["name"]: entry for entry in read_json(run / "trust.json")["frames"]}
    lens = model.cameras[0]
    print(f"{model.num_frames} frames with a camera, {len(model.failed)} without; {len(model.points)} points")
    print(f"focal length {lens.fx:.0f} px at {lens.width}x{lens.height}")
    print("frame                       turned    moved     blur  trust")
    for path in read_trajectories(run / "trajectories.json"):
        first, last = path.camera_from_world[0], path.camera_from_world[-1]  # [4,4] at path.u[0], path.u[-1]
        cosine = (np.trace(first[:3, :3].T @ last[:3, :3]) - 1) / 2
        degrees = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
        moved = np.linalg.norm(place(last) - place(first))
        entry = trust[path.name]
        numbers = f"{degrees:6.2f} deg  {moved:7.4f}  {entry['path_px']:4.0f} px   {entry['trust']:.2f}"
        print(f"{path.name:24.24}  {numbers}  {' '.join(entry['reasons'])}")
    shutter = read_shutter(run / "trajectories.json")
    if shutter.exposure_s is not None:
        print(f"shutter: open for {1000 * shutter.exposure_s:.1f} ms")


def place(camera_from_world: np.ndarray) -> np.ndarray:
    """Where the camera is in the world, [3]."""
    return -camera_from_world[:3, :3].T @ camera_from_world[:3, 3]


if __name__ == "__main__":
    tyro.cli(main)
