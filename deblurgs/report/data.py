"""What a report shows, gathered from a run folder by the caller: plain values, no file formats of other rooms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblurgs.export.html import View
from deblurgs.export.ply import SplatArrays

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class ReportFrame:
    """One frame with a sharp rendering. observed, sharp, support: image files (the photo is None where the run folder
    does not hold it, support where there is none). paths: where points of the scene go during the exposure, each [V,2]
    pixels of the observed image. trust: its entry in trust.json, empty where there is none. by_network: restored alone
    by a neural network, not by the scene."""

    name: str
    observed: Path | None
    sharp: Path
    support: Path | None
    width: int
    height: int
    paths: Sequence[Doubles]
    trust: Mapping[str, Any] = field(default_factory=dict)
    by_network: bool = False

    @property
    def path_px(self) -> float:
        value = self.trust.get("path_px")
        return float(value) if isinstance(value, int | float) else 0.0


@dataclass(frozen=True)
class Candidate:
    """One photo of the input. sharpness: higher is sharper, within one capture; blur_probability in [0,1] where a
    classifier looked at it. reason: why it was dropped or has no camera, else empty."""

    name: str
    image: Path | None
    kept: bool
    registered: bool
    sharpness: float | None = None
    blur_probability: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class ReportData:
    """title: name of the run. command: the exact command line. metrics: the lines of metrics.jsonl; sfm: sfm.json;
    manifest: manifest.json; config: config.json; trust: trust.json.
    splats: None where there is no scene. notice: what the reader must know first, else empty."""

    title: str
    command: str
    frames: Sequence[ReportFrame]
    candidates: Sequence[Candidate]
    metrics: Sequence[Mapping[str, Any]]
    sfm: Mapping[str, Any]
    manifest: Mapping[str, Any]
    config: Mapping[str, Any]
    trust: Mapping[str, Any]
    splats: SplatArrays | None
    views: Sequence[View]
    notice: str = ""


def number(value: Any) -> float | None:
    """A finite number or None: JSON of another version may hold anything."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        return None
    return float(value)
