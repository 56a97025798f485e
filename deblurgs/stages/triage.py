"""Which frames are blurred, how, and which most: `deblurgs triage`, and a part of the first stage of `run`."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deblurgs.log import Log

if TYPE_CHECKING:
    from rich.table import Table

    from deblurgs.capture.greys import GreyFrame
    from deblurgs.restore.classifier import PictureBlur

SHEET_FILE = "triage.jpg"


@dataclass(frozen=True)
class FrameTriage:
    """One frame's verdict within its sequence. rank: 1 is the sharpest of the sequence; percentile in [0,1], 0 the
    sharpest; extent_px and angle_deg: in pixels of the frame itself, upright.
    """

    name: str
    width: int
    height: int
    blur: "PictureBlur"
    rank: int
    percentile: float
    extent_px: float | None


def triage(run_folder: Path, log: Log) -> list[FrameTriage]:
    """Judge the frames that `process` stored, and add the verdicts to the run folder's `triage.json`."""
    from deblurgs.capture import dataset
    from deblurgs.capture.greys import stored_greys
    from deblurgs.math.patches import WORKING_SIDE

    capture = dataset.load_capture(run_folder)
    rows = judge(stored_greys(capture, WORKING_SIDE), log, total=len(capture.frames))
    path = run_folder / dataset.TRIAGE_FILE
    record = dataset.read_json(path) if path.is_file() else {}
    dataset.write_json(path, {**record, **as_json(rows)})
    return rows


def triage_source(
    source: Path, out_dir: Path, log: Log, *, max_frames: int, max_pixels: float, overwrite: bool
) -> list[FrameTriage]:
    """Judge a picture, folder or video; writes `triage.json` and the contact sheet `triage.jpg` into `out_dir`."""
    from deblurgs.capture.dataset import TRIAGE_FILE
    from deblurgs.capture.greys import source_greys
    from deblurgs.capture.source import require_source
    from deblurgs.export.triage_sheet import triage_sheet
    from deblurgs.files import checked_target, made_folder, write_json_atomic
    from deblurgs.math.patches import WORKING_SIDE

    require_source(source)
    with made_folder(out_dir):
        for name in (TRIAGE_FILE, SHEET_FILE):
            checked_target(out_dir / name, overwrite=overwrite)
        seen: list[GreyFrame] = []
        greys = source_greys(source, WORKING_SIDE, max_frames=max_frames, max_pixels=max_pixels, log=log)
        rows = judge(_kept(greys, seen), log)
        write_json_atomic(out_dir / TRIAGE_FILE, as_json(rows), overwrite=overwrite)
        triage_sheet(out_dir / SHEET_FILE, _cells(rows, seen), overwrite=overwrite)
    return rows


def judge(frames: "Iterable[GreyFrame]", log: Log, total: int = 0) -> list[FrameTriage]:
    """Classify every frame, then rank them among each other by fine detail, which one scene makes comparable."""
    from deblurgs.restore.classifier import shipped_classifier

    classifier = shipped_classifier()
    found: list[tuple[GreyFrame, PictureBlur]] = []
    with log.progress("judging blur", total) as bar:
        for frame in frames:
            found.append((frame, classifier.judge(frame.grey)))
            bar.update(len(found))
    order = np.argsort([-blur.detail for _, blur in found], kind="stable")
    ranks = np.empty(len(found), int)
    ranks[order] = np.arange(1, len(found) + 1)
    return [
        FrameTriage(
            frame.name, frame.width, frame.height, blur, int(rank), (int(rank) - 1) / max(len(found) - 1, 1),
            None if blur.extent_px is None else blur.extent_px * max(frame.width, frame.height) / max(frame.grey.shape),
        )
        for (frame, blur), rank in zip(found, ranks, strict=True)
    ]  # fmt: skip


def as_json(rows: list[FrameTriage]) -> dict[str, Any]:
    """The part of `triage.json` that docs/formats.md describes."""
    from deblurgs.math.patches import PATCH

    return {
        "format": "deblurgs-triage", "version": 1,
        "frames": [
            {
                "name": row.name, "probability": _rounded(row.blur.probability, 4), "kind": row.blur.kind,
                "rank": row.rank, "percentile": round(row.percentile, 4), "detail": _rounded(row.blur.detail, 4),
                "angle_deg": _rounded(row.blur.angle_deg, 1), "extent_px": _rounded(row.extent_px, 2),
                "heat_patch_px": round(PATCH * _scale(row), 2),
                "heat": [[_rounded(float(v), 2) for v in line] for line in row.blur.heat],
            }
            for row in rows
        ],
    }  # fmt: skip


def as_table(rows: list[FrameTriage]) -> "Table":
    """The verdicts for people, sharpest first."""
    from rich.table import Table

    table = Table(title="blur, sharpest first")
    for column in ("rank", "frame", "kind"):
        table.add_column(column)
    for column in ("P(blurred)", "extent px", "direction"):
        table.add_column(column, justify="right")
    for row in sorted(rows, key=lambda r: r.rank):
        blur = row.blur
        table.add_row(
            str(row.rank), _printable(row.name), blur.kind,
            "-" if blur.probability is None else f"{blur.probability:.2f}",
            "-" if row.extent_px is None else f"{row.extent_px:.1f}",
            "-" if blur.angle_deg is None else f"{blur.angle_deg:.0f}°",
        )  # fmt: skip
    return table


def _kept(frames: "Iterable[GreyFrame]", seen: "list[GreyFrame]") -> "Iterable[GreyFrame]":
    for frame in frames:
        seen.append(frame)
        yield frame


def _cells(rows: list[FrameTriage], frames: "list[GreyFrame]") -> list[Any]:
    from deblurgs.export.triage_sheet import SheetCell
    from deblurgs.math.patches import PATCH

    cells = []
    for row, frame in zip(rows, frames, strict=True):
        blur = row.blur
        parts = [f"rank {row.rank}/{len(rows)}", blur.kind]
        parts += [] if blur.probability is None else [f"P {blur.probability:.2f}"]
        parts += [] if row.extent_px is None else [f"{row.extent_px:.0f} px"]
        cells.append(
            SheetCell(
                row.name, ", ".join(parts), frame.grey, blur.heat, PATCH, blur.angle_deg, blur.extent_px
            )
        )
    return cells


def _scale(row: FrameTriage) -> float:
    from deblurgs.math.patches import WORKING_SIDE

    return max(max(row.width, row.height) / WORKING_SIDE, 1.0)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None or not np.isfinite(value) else round(float(value), digits)


def _printable(name: str) -> str:
    from rich.markup import escape

    return escape("".join(c if c.isprintable() else "?" for c in name)[:80])
