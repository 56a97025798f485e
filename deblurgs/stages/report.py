"""A run folder -> report.html: gathers what the stages left and hands it to the report."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deblurgs.files import read_json, read_json_lines, write_bytes_atomic
from deblurgs.log import Log
from deblurgs.run import RunFolder
from deblurgs.stages.render import unique_stems
from deblurgs.stages.splats import FinishedScene, load_finished

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from deblurgs.capture.dataset import Capture
    from deblurgs.export.trajectories import FrameTrajectory
    from deblurgs.report.data import Candidate, ReportFrame
    from deblurgs.scene.camera import Camera

REPORT_FILE = "report.html"
PATHS_PER_FRAME = 40


def report(run: RunFolder, log: Log) -> Path:
    """Write report.html into the run folder. What is missing is left out of it.

    Raises CaptureError when the run folder has no frames at all.
    """
    from deblurgs.capture.dataset import load_capture
    from deblurgs.report.data import ReportData
    from deblurgs.report.page import report_page

    finished = load_finished(run, log) if _has_scene(run) else None
    trust = _object(run.trust_json)
    capture = load_capture(run.path)
    data = ReportData(
        title=run.path.resolve().name,
        command=_command(run.manifest),
        frames=[*([] if finished is None else _frames(run, finished, trust)), *_network_frames(run, capture, trust)],
        candidates=_candidates(run, capture, finished),
        metrics=read_json_lines(run.metrics_jsonl) if run.metrics_jsonl.is_file() else [],
        sfm=_object(run.sfm / "sfm.json"),
        manifest=run.manifest,
        config=_object(run.config_json),
        trust=trust,
        splats=None if finished is None else finished.splats(),
        views=[] if finished is None else finished.views(),
    )  # fmt: skip
    target = run.path / REPORT_FILE
    write_bytes_atomic(target, report_page(data).encode("utf-8", "replace"))
    return target


def _has_scene(run: RunFolder) -> bool:
    from deblurgs.stages.train import PARTIAL_FILE, SCENE_FILE

    return any((run.checkpoint / file).is_file() for file in (SCENE_FILE, PARTIAL_FILE))


def _object(path: Path) -> dict[str, Any]:
    """A JSON object, empty where the file is missing or damaged: a report shows what there is."""
    try:
        value = read_json(path)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _command(manifest: Mapping[str, Any]) -> str:
    """The command that trained the scene, or else brought the frames; the latest one may be `deblurgs report`."""
    entries = manifest.get("stages") or {}
    for stage in ("train", "sfm", "capture"):
        words = (entries.get(stage) or {}).get("command")
        if isinstance(words, list) and words:
            return shlex.join(["deblurgs", *(str(word) for word in words[1:])])
    return "not recorded: this run was made by an older version"


def _frames(run: RunFolder, finished: FinishedScene, trust: Mapping[str, Any]) -> "list[ReportFrame]":
    from deblurgs.errors import CaptureError
    from deblurgs.export.trajectories import read_trajectories
    from deblurgs.report.data import ReportFrame

    listed = trust.get("frames")
    verdicts = {
        str(e.get("name")): e for e in (listed if isinstance(listed, list) else []) if isinstance(e, dict)
    }
    try:
        trajectories = {t.name: t for t in read_trajectories(run.trajectories_json)}
    except CaptureError:
        trajectories = {}
    model, frames = finished.model, []
    for f, (name, stem) in enumerate(zip(finished.names, unique_stems(finished.names), strict=True)):
        camera, support = model.cameras[f], run.support / f"{stem}.png"
        known = trajectories.get(name)
        points = model.points[model.observations[f]]
        frames.append(
            ReportFrame(
                name, Path(model.image_paths[f]), run.sharp / f"{stem}.png", support if support.is_file() else None,
                camera.width, camera.height, [] if known is None else point_paths(known, points, camera),
                verdicts.get(name, {}),
            )
        )  # fmt: skip
    return frames


def _network_frames(run: RunFolder, capture: "Capture", trust: Mapping[str, Any]) -> "list[ReportFrame]":
    """Frames that a network restored without the scene, where trust.json names such."""
    from deblurgs.report.data import ReportFrame

    listed = trust.get("made_by_network")
    wanted = {str(name) for name in listed} if isinstance(listed, list) else set()
    frames = [frame for frame in capture.frames if frame.name in wanted]
    stems = unique_stems([frame.name for frame in frames])
    return [
        ReportFrame(frame.name, frame.path, sharp, None, frame.width, frame.height, [], by_network=True)
        for frame, stem in zip(frames, stems, strict=True)
        if (sharp := run.sharp / f"{stem}.png").is_file()
    ]


def point_paths(
    trajectory: "FrameTrajectory", points: "NDArray[np.float64]", camera: "Camera"
) -> "list[NDArray[np.float64]]":
    """Where points [P,3] of the SfM world go in the picture during one exposure: at most PATHS_PER_FRAME, spread over
    the picture, each [V,2] pixels."""
    import numpy as np

    def project(pose: "NDArray[np.float64]") -> "NDArray[np.float64]":
        local = points @ pose[:3, :3].T + pose[:3, 3]
        with np.errstate(divide="ignore", invalid="ignore"):
            xy = local[:, :2] / np.where(local[:, 2:] > 1e-6, local[:, 2:], np.nan)
        return xy * [camera.fx, camera.fy] + [camera.cx, camera.cy]

    if not len(points):
        return []
    middle = project(trajectory.mid_camera_from_world)
    inside = (middle > 0).all(1) & (middle < [camera.width, camera.height]).all(1)
    # One point per cell of a grid over the picture.
    cell = np.sqrt(camera.width * camera.height / PATHS_PER_FRAME)
    chosen: dict[tuple[int, int], int] = {}
    for i in np.flatnonzero(inside):
        chosen.setdefault((int(middle[i, 0] // cell), int(middle[i, 1] // cell)), int(i))
    rows = list(chosen.values())[:PATHS_PER_FRAME]
    tracks = np.stack([project(pose)[rows] for pose in trajectory.camera_from_world], axis=1)
    return [track for track in tracks if np.isfinite(track).all()]


def _candidates(run: RunFolder, capture: "Capture", finished: FinishedScene | None) -> "list[Candidate]":
    """All photos that triage looked at, or at least the frames; with why some are left out."""
    from deblurgs.capture.dataset import TRIAGE_FILE
    from deblurgs.report.data import Candidate, number

    frames = {frame.name: frame for frame in capture.frames}
    dropped = dict(capture.dropped)
    failed = {} if finished is None else dict(finished.model.failed)
    registered = set() if finished is None else set(finished.names)
    listed = _object(run.path / TRIAGE_FILE).get("candidates")
    scores = {
        str(e.get("name")): e for e in (listed if isinstance(listed, list) else []) if isinstance(e, dict)
    }
    by_source = {source: name for name, source in capture.source_names.items()}
    names = {by_source.get(key, key): entry for key, entry in scores.items()}
    for name in (*frames, *dropped):
        names.setdefault(name, {})
    return [
        Candidate(
            name=name,
            image=frames[name].path if name in frames else None,
            kept=name in frames,
            registered=name in registered,
            sharpness=number(entry.get("sharpness"))
            if "sharpness" in entry
            else (frames[name].sharpness if name in frames else None),
            blur_probability=number(entry.get("blur_probability")),
            reason=failed.get(name)
            or dropped.get(name)
            or ("" if name in frames else str(entry.get("reason") or "not chosen")),
        )
        for name, entry in names.items()
    ]
