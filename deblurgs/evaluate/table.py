"""Evaluation results as a table for people and as JSON for scripts."""

import platform
from typing import Any

from rich.table import Table

from deblurgs.evaluate.protocol import COLUMNS, EvaluationScene, Row
from deblurgs.machine import package_versions
from deblurgs.raster.native import threads


def as_table(scene: EvaluationScene, rows: list[Row]) -> Table:
    """PSNR / SSIM per method, task and seed; the columns are explained in `evaluate/protocol.py`."""
    table = Table(title=f"{scene.name} (poses: {scene.sfm}): PSNR dB / SSIM")
    for heading in ("method", "task", "seed", "size", *COLUMNS, "train s", "peak MB"):
        table.add_column(heading, justify="left" if heading in ("method", "task") else "right")
    for row in rows:
        scores = [row.columns.get(c) for c in COLUMNS]
        cells = [f"{s['psnr']:.2f} / {s['ssim']:.3f}" if s else "-" for s in scores]
        table.add_row(
            row.method, row.task, str(row.seed), f"{row.size[0]}x{row.size[1]}", *cells,
            f"{row.train_seconds:.0f}", f"{row.peak_mb:.0f}",
        )  # fmt: skip
    return table


def as_json(scene: EvaluationScene, rows: list[Row], extra: dict[str, Any]) -> dict[str, Any]:
    """The documented result file (docs/formats.md)."""
    return {
        "scene": scene.name,
        "sfm": scene.sfm,
        "machine": {
            "platform": platform.platform(),
            "processor": platform.processor() or platform.machine(),
            "threads": threads(),
            "versions": package_versions(("deblurgs", "torch", "numpy", "pycolmap")),
        },
        **extra,
        "rows": [row.as_json() for row in rows],
    }
