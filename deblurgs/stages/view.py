"""A run folder or a splat file in the browser: what `deblurgs view` does."""

import dataclasses
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING

from deblurgs.command import command_line
from deblurgs.errors import CaptureError, DeblurgsError, UsageError
from deblurgs.log import Log
from deblurgs.run import RunFolder, StageStatus
from deblurgs.stages.folders import require_run_folder
from deblurgs.stages.train import PARTIAL_FILE, SCENE_FILE, UNFINISHED

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from deblurgs.export.ply import SplatArrays
    from deblurgs.view.content import Content, StoredKind
    from deblurgs.view.viewer import Viewer

STEP_BACK = 0.35
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def view(
    source: Path, log: Log, *, host: str = "127.0.0.1", port: int = 8080, allow_remote: bool = False
) -> None:
    """Show `source` until Ctrl-C. Raises UsageError when it is neither a trained run nor a splat file."""
    viewer = open_viewer(source, log, host=host, port=port, allow_remote=allow_remote)
    try:
        log.info("Ctrl-C ends the viewer.")
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        pass  # the way to end it, not an interruption of work
    finally:
        viewer.close()


def open_viewer(
    source: Path, log: Log, *, host: str = "127.0.0.1", port: int = 8080, allow_remote: bool = False
) -> "Viewer":
    """The viewer with everything in it. Its address goes to stdout at once: a browser can draw the splats long before
    this returns."""
    if not source.exists():
        raise UsageError(f"{source} does not exist. Give a run folder or a splat file (.ply).")
    if source.is_dir():
        scene_file = _latest_scene(source)
        viewer = start_viewer(log, host=host, port=port, allow_remote=allow_remote)
        print(viewer.url, flush=True)
        return _filled(viewer, lambda: _show_run(viewer, source, scene_file))
    from deblurgs.export.ply import read_ply

    try:
        arrays = read_ply(source)
    except CaptureError as error:
        if source.suffix.lower() == ".ply":
            raise
        if source.suffix.lower() in (".html", ".htm"):
            raise UsageError(
                f"{source} is a page: it opens in any browser by itself, without `deblurgs view`"
            ) from error
        hint = "`deblurgs view` shows run folders, which `deblurgs run SOURCE` makes, and splat files (.ply)"
        raise CaptureError(f"{error}. {hint}") from error
    viewer = start_viewer(log, host=host, port=port, allow_remote=allow_remote)
    print(viewer.url, flush=True)
    return _filled(viewer, lambda: _show_splat_file(viewer, arrays))


def start_viewer(log: Log, *, host: str, port: int, allow_remote: bool) -> "Viewer":
    """An empty viewer. Raises UsageError for a foreign host without `allow_remote`."""
    if host not in LOOPBACK and not allow_remote:
        raise UsageError(
            f"--host {host} would show the scene to other machines: add --allow-remote, or better leave --host out "
            f"and forward the port:  ssh -L {port}:127.0.0.1:{port} THIS_MACHINE"
        )
    from deblurgs.view.viewer import Viewer

    token = secrets.token_urlsafe(24) if allow_remote else None
    viewer = Viewer(host=host, port=port, token=token, log=log)
    if token:
        log.warn("the viewer can be reached from other machines; whoever has the address below can use it")
    return viewer


def _filled(viewer: "Viewer", fill: "Callable[[], None]") -> "Viewer":
    """The viewer after `fill()`; a viewer that cannot be filled does not stay open."""
    try:
        fill()
    except BaseException:
        viewer.close()
        raise
    return viewer


def _latest_scene(folder: Path) -> Path:
    """What the training reached last. The folder is not locked: looking is always allowed.

    The manifest decides, not the times of the files: a copy of a run folder has others.
    """
    run = RunFolder(require_run_folder(folder)).look()
    scene, partial = run.checkpoint / SCENE_FILE, run.checkpoint / PARTIAL_FILE
    order = (partial, scene) if run.status("train") in UNFINISHED else (scene, partial)
    found = [path for path in order if path.is_file()]
    if not found:
        run.require_done("train")
        raise UsageError(
            f"{folder} holds no trained scene any more.  {command_line('train', folder, '--overwrite')}  makes one; "
            "`--viewer` there shows it while it grows."
        )
    return found[0]


def _show_run(viewer: "Viewer", folder: Path, scene_file: Path) -> None:
    import numpy as np

    from deblurgs.view.pose import View, view_of
    from deblurgs.view.splats import read_checkpoint_splats

    arrays, poses = read_checkpoint_splats(scene_file)
    forward = View(np.array([1.0, 0, 0, 0]), np.zeros(3), 0.9, 1.5)
    first = view_of(poses[len(poses) // 2], forward.camera(640)) if len(poses) else forward
    # The scene frame has a median depth of 1. A step back, all frames are in sight.
    back = dataclasses.replace(first, position=first.position - STEP_BACK * first.camera_from_world()[2, :3])
    viewer.start_at(back, poses, 1.0)
    viewer.show_splats(arrays)
    viewer.set_content(run_content(folder, scene_file, viewer.log))


def run_content(folder: Path, scene_file: Path, log: Log) -> "Content":
    """A run folder's scene with its frames; without them when the input's cameras cannot be read."""
    from deblurgs.capture.image import read_rgb
    from deblurgs.sfm.model import load_model
    from deblurgs.stages.render import unique_stems
    from deblurgs.train.checkpoint import load_scene
    from deblurgs.view.content import Content, Frames

    run = RunFolder(folder).look()
    scene, names, _ = load_scene(scene_file)
    try:
        model = load_model(run.sfm)
    except DeblurgsError as error:
        log.warn(f"the frames cannot be shown: {error}")
        return Content(scene.gaussians, scene.config.antialiased)
    cameras = dict(zip(model.names, model.cameras, strict=True))
    paths = dict(zip(model.names, model.image_paths, strict=True))
    if any(name not in cameras for name in names):
        log.warn("the frames cannot be shown: the camera poses are newer than the trained scene")
        return Content(scene.gaussians, scene.config.antialiased)
    stems = unique_stems(names)
    folders = {"sharp": run.sharp, "reblur": run.reblur, "support": run.support}
    # A finished rendering belongs to this scene whatever the times of the files say: a copy of the folder has others.
    finished = run.status("render") == StageStatus.DONE

    def stored(kind: "StoredKind", frame: int) -> "NDArray[np.float32] | None":
        path = folders[kind] / f"{stems[frame]}.png"
        if not path.is_file():
            return None
        # Pictures of an earlier training do not belong to this scene.
        if not finished and path.stat().st_mtime_ns < scene_file.stat().st_mtime_ns:
            return None
        return read_rgb(path)

    frames = Frames(
        scene, names, [cameras[name] for name in names], lambda f: read_rgb(paths[names[f]]), stored
    )
    return Content(scene.gaussians, scene.config.antialiased, frames)


def _show_splat_file(viewer: "Viewer", arrays: "SplatArrays") -> None:
    import numpy as np

    from deblurgs.view.pose import View

    finite = arrays.means[np.isfinite(arrays.means).all(axis=1)].astype(np.float64)
    centre = np.median(finite, axis=0) if len(finite) else np.zeros(3)
    radius = float(np.quantile(np.linalg.norm(finite - centre, axis=1), 0.8)) if len(finite) else 1.0
    radius = max(radius, 1e-6)
    # A splat file says nothing about up; as from COLMAP, y usually points down.
    start = View(np.array([1.0, 0, 0, 0]), centre - np.array([0, 0, 1.5 * radius]), 0.9, 1.5)
    viewer.start_at(start, start.camera_from_world()[None], 1.5 * radius)
    viewer.show_splats(arrays)
    viewer.set_content(splat_content(arrays))


def splat_content(arrays: "SplatArrays") -> "Content":
    """The scene of a splat file."""
    from deblurgs.stages.splats import gaussians_from_arrays
    from deblurgs.view.content import Content

    return Content(gaussians_from_arrays(arrays), arrays.antialiased)
