"""Registers held-out images to a finished model, for evaluation only. Runs in the SfM child.

The training model is read and never written: features of the held-out images are matched against a copy of its
database, and each pose is estimated on its own from 2D-3D matches with the training camera's intrinsics. Held-out
images therefore influence neither the points nor the poses of training, nor each other.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from deblurgs.errors import SfmError
from deblurgs.sfm import colmap
from deblurgs.sfm.given import View
from deblurgs.sfm.output import fit_lens
from deblurgs.sfm.staging import FrameFile, Settings, stage_images

_MIN_INLIERS = 12
_MAX_ERROR_PX = 8.0


def register(
    sfm_dir: Path,
    train: Sequence[FrameFile],
    frames: Sequence[FrameFile],
    folder: Path,
    say: Callable[[str], None],
) -> tuple[list[View], list[tuple[str, str]]]:
    """(frame, camera_from_world [4, 4], lens) of each held-out frame, and (name, reason) of those that fail.

    `train` are the training frames with the staged names of the database. Works in `folder`.
    """
    source = sfm_dir / "database.db"
    if not source.is_file():
        raise SfmError(
            f"There are no features in {sfm_dir} (its cameras were given as a COLMAP model), so held-out "
            "images cannot be registered to it. Take their poses from the given model instead."
        )
    report = json.loads((sfm_dir / "sfm.json").read_text(encoding="utf-8"))
    options = report["settings"]
    settings = Settings("held-out", sift=options["sift"], max_image_size=options["max_image_size"])
    model = colmap.read_model(sfm_dir / "sparse" / "0")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    database = folder / "database.db"
    shutil.copyfile(source, database)
    images = folder / "stage"
    stage_images([*train, *frames], images)
    say(f"SfM: registering {len(frames)} held-out images")
    colmap.extract(database, images, frames, settings)
    colmap.match(database, [(f.staged, t.staged) for f in frames for t in train])
    found, failed = [], []
    lenses = {
        model.image(i).name: colmap.lens(model, model.image(i).camera_id) for i in model.reg_image_ids()
    }
    for frame in frames:
        lens = lens_for(frame, list(lenses.values()))
        if lens is None:
            failed.append((frame.name, f"no training camera has the shape {frame.width}x{frame.height} px"))
            continue
        pixels, points = colmap.matches_to_points(database, model, frame.staged)
        limit = _MAX_ERROR_PX * max(1.0, max(frame.width, frame.height) / 1000.0)
        result = colmap.absolute_pose(pixels, points, lens, limit) if len(pixels) >= _MIN_INLIERS else None
        if result is None or result[1] < _MIN_INLIERS:
            count = 0 if result is None else result[1]
            failed.append(
                (frame.name, f"{len(pixels)} matches with the model's points, {count} agree on a pose")
            )
        else:
            found.append((frame, result[0], lens))
    return found, failed


def lens_for(frame: FrameFile, lenses: Sequence[colmap.Lens]) -> colmap.Lens | None:
    """The training lens of the frame's size, else one of its aspect ratio scaled to it."""
    exact = [x for x in lenses if (x.width, x.height) == (frame.width, frame.height)]
    for lens in [*exact, *lenses]:
        try:
            return fit_lens(lens, frame)
        except SfmError:
            continue
    return None
