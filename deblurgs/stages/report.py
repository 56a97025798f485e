"""A run folder -> report.html: gathers what the stages left and hands it to the report."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deblurgs.command import command_line
from deblurgs.errors import SfmError, UsageError
from deblurgs.files import read_json, read_json_lines, write_bytes_atomic
from deblurgs.log import Log
from deblurgs.run import RunFolder, StageStatus
from deblurgs.stages.render import unique_stems
from deblurgs.stages.single import SINGLE_JSON
from deblurgs.stages.splats import FinishedScene, load_finished

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from deblurgs.capture.dataset import Capture
    from deblurgs.export.trajectories import FrameTrajectory
    from deblurgs.report.data import Candidate, ReportFrame
    from deblurgs.scene.camera import Camera
    from deblurgs.sfm.model import SparseModel

REPORT_FILE = "report.html"
PATHS_PER_FRAME = 40


def where_to_look(run: RunFolder, page: Path) -> str:
    """The line with which a command ends that made the pictures of a scene."""
    walk = command_line("view", run.path)
    return f"to look at in a browser: {page};  {walk}  walks through the scene"


def report(run: RunFolder, log: Log) -> Path:
    """Write report.html into the run folder. What is missing is left out of it.

    Raises UsageError or CaptureError when the run folder has no frames at all.
    """
    from deblurgs.capture.dataset import load_capture
    from deblurgs.report.data import ReportData
    from deblurgs.report.page import report_page

    singly = _restored_singly(run)
    # With too few frames nothing was stored: a list of frames that lies there is of an earlier source.
    stored = not singly or (run.status("capture") == StageStatus.DONE and run.frames_json.is_file())
    if stored and not run.frames_json.is_file():
        run.require_done("capture")
    capture = load_capture(run.path) if stored else None
    finished, model = _scene(run, log), _cameras(run)
    trust = {} if singly else _object(run.trust_json)
    if singly:
        frames = _single_frames(run, capture, singly["frames"])
    else:
        stems = _stems(run, model, trust)
        scene_frames = [] if finished is None else _frames(run, finished, trust, stems)
        frames = [*scene_frames, *_network_frames(run, capture, trust, stems)]
    current = run.status("train") != StageStatus.OUTDATED and run.metrics_jsonl.is_file()
    data = ReportData(
        title=run.path.resolve().name,
        command=_command(run.manifest, singly=bool(singly)),
        frames=frames,
        candidates=[] if capture is None else _candidates(run, capture, model),
        metrics=read_json_lines(run.metrics_jsonl) if current else [],
        # Written last: of an estimation that failed there is none, so it would be an earlier one's.
        sfm=_object(run.sfm / "sfm.json") if run.status("sfm") in (None, StageStatus.DONE) else {},
        manifest=run.manifest,
        config=_object(run.config_json),
        # Without a scene its frames are not shown, and the judgement on them is an earlier one.
        trust={} if finished is None else trust,
        splats=None if finished is None else finished.splats(),
        views=[] if finished is None else finished.views(),
        notice=_notice(singly),
    )  # fmt: skip
    target = run.path / REPORT_FILE
    write_bytes_atomic(target, report_page(data).encode("utf-8", "replace"))
    return target


def _scene(run: RunFolder, log: Log) -> FinishedScene | None:
    """None where no training was finished or left a scene behind when it was interrupted."""
    try:
        return load_finished(run, log)
    except (UsageError, SfmError) as error:
        if run.status("train") == StageStatus.DONE:
            log.warn(f"the report has no scene: {error}")
        return None


def _cameras(run: RunFolder) -> "SparseModel | None":
    from deblurgs.sfm.model import load_model

    if run.status("sfm") != StageStatus.DONE:
        return None
    try:
        return load_model(run.sfm)
    except SfmError:
        return None


def _restored_singly(run: RunFolder) -> dict[str, Any]:
    """single.json while renders/sharp holds the frames that it speaks of, else empty."""
    if run.status("single") != StageStatus.DONE or run.status("render") == StageStatus.DONE:
        return {}
    noted = _object(run.path / SINGLE_JSON)
    return noted if isinstance(noted.get("frames"), list) else {}


def _notice(singly: Mapping[str, Any]) -> str:
    if not singly:
        return ""
    reason = str(singly.get("reason") or "No cameras were found").rstrip(". ")
    return (
        f"{reason}. So there is no scene: a neural network restored each frame alone. Every pixel of the sharp frames "
        "is the network's work, and detail in them may be invented."
    )


def _object(path: Path) -> dict[str, Any]:
    """A JSON object, empty where the file is missing or damaged: a report shows what there is."""
    try:
        value = read_json(path)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _command(manifest: Mapping[str, Any], *, singly: bool) -> str:
    """The command that made the frames, trained the scene or brought the photos; the latest may be `report`."""
    entries = manifest.get("stages") or {}
    for stage in (*(["single"] if singly else []), "train", "sfm", "capture"):
        words = (entries.get(stage) or {}).get("command")
        if isinstance(words, list) and words:
            return command_line(*words[1:])
    return "not recorded: this run was made by an older version"


def _stems(run: RunFolder, model: "SparseModel | None", trust: Mapping[str, Any]) -> dict[str, str]:
    """File stems of the sharp frames by frame name, as `render` chose them: among all frames that it wrote."""
    if model is None:
        names = _network_names(trust)
    else:
        rendered = (run.manifest["stages"].get("render") or {}).get("config") or {}
        lost = [] if rendered.get("fallback") == "none" else [name for name, _ in model.failed]
        names = [*model.names, *lost]
    return dict(zip(names, unique_stems(names), strict=True))


def _frames(
    run: RunFolder, finished: FinishedScene, trust: Mapping[str, Any], stems: Mapping[str, str]
) -> "list[ReportFrame]":
    from deblurgs.errors import CaptureError
    from deblurgs.export.trajectories import read_trajectories
    from deblurgs.report.data import ReportFrame

    verdicts = _by_name(trust.get("frames"))
    try:
        trajectories = {t.name: t for t in read_trajectories(run.trajectories_json)}
    except CaptureError:
        trajectories = {}
    model, frames = finished.model, []
    for f, name in enumerate(finished.names):
        stem = stems.get(name, name.rsplit(".", 1)[0])
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


def _network_names(trust: Mapping[str, Any]) -> list[str]:
    listed = trust.get("made_by_network")
    return [str(name) for name in listed] if isinstance(listed, list) else []


def _network_frames(
    run: RunFolder, capture: "Capture | None", trust: Mapping[str, Any], stems: Mapping[str, str]
) -> "list[ReportFrame]":
    """Frames that a network restored without the scene, where trust.json names such."""
    from deblurgs.report.data import ReportFrame

    wanted = set(_network_names(trust))
    return [
        ReportFrame(frame.name, frame.path, sharp, None, frame.width, frame.height, [], by_network=True)
        for frame in (() if capture is None else capture.frames)
        if frame.name in wanted
        and (sharp := run.sharp / f"{stems.get(frame.name, frame.name.rsplit('.', 1)[0])}.png").is_file()
    ]


def _single_frames(run: RunFolder, capture: "Capture | None", names: "list[Any]") -> "list[ReportFrame]":
    """The frames of single.json: frames of the capture, or files in renders/sharp where nothing was stored."""
    from deblurgs.capture.image import read_pixels
    from deblurgs.errors import CaptureError
    from deblurgs.report.data import ReportFrame

    stored = {} if capture is None else {frame.name: frame for frame in capture.frames}
    stems = dict(zip(stored, unique_stems(list(stored)), strict=True))
    frames = []
    for name in map(str, names):
        known = stored.get(name)
        sharp = run.sharp / (Path(name).name if known is None else f"{stems[name]}.png")
        try:
            height, width = read_pixels(sharp).shape[:2]
        except CaptureError:
            continue
        observed = None if known is None else known.path
        frames.append(ReportFrame(name, observed, sharp, None, width, height, [], by_network=True))
    return frames


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


def _by_name(listed: object) -> dict[str, dict[str, Any]]:
    """Entries of a JSON list by their name; those without one are left out."""
    entries = listed if isinstance(listed, list) else []
    return {
        entry["name"]: entry
        for entry in entries
        if isinstance(entry, dict) and isinstance(entry.get("name"), str)
    }


def _candidates(run: RunFolder, capture: "Capture", model: "SparseModel | None") -> "list[Candidate]":
    """All photos that were looked at and have a name (of a video: those chosen); with why some are left out."""
    from deblurgs.capture.dataset import TRIAGE_FILE
    from deblurgs.report.data import Candidate, number

    frames = {frame.name: frame for frame in capture.frames}
    dropped = dict(capture.dropped)
    failed = {} if model is None else dict(model.failed)
    registered = set() if model is None else set(model.names)
    triage = _object(run.path / TRIAGE_FILE)
    verdicts = _by_name(triage.get("frames"))
    by_source = {source: name for name, source in capture.source_names.items()}
    names = {by_source.get(key, key): entry for key, entry in _by_name(triage.get("candidates")).items()}
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
            blur_probability=number(verdicts.get(name, {}).get("probability")),
            reason=failed.get(name)
            or dropped.get(name)
            or ("" if name in frames else str(entry.get("reason") or "not chosen")),
        )
        for name, entry in names.items()
    ]
