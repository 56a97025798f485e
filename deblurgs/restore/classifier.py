"""How blurred is this picture, where, how far and in which direction: patch features and boosted trees.

Runs on NumPy alone, without torch and without a boosting library. The trees ship as `blur_trees.json`, made by
tools/train_triage.py (docs/triage.md).
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from deblurgs.errors import UsageError
from deblurgs.files import read_json
from deblurgs.math.blur_spectrum import NUMBERS, fit_blur, motion_direction
from deblurgs.math.patches import FEATURES, PATCH, STATISTICS, WORKING_SIDE, Grey, Patches, patch_features
from deblurgs.restore.trees import Trees, trees_from_json

BlurKind = Literal["sharp", "camera motion", "defocus", "blank"]

FORMAT = "deblurgs-blur-trees"
SHIPPED = Path(__file__).with_name("blur_trees.json")
INPUTS = (*(f"{name}:{statistic}" for statistic in STATISTICS for name in FEATURES), *NUMBERS)
"""Names of the numbers that the trees of a whole picture read, in order."""

SHARP_EXTENT_PX = 0.7
"""Blur of a sharp picture at the working size: half of what counts as sharp."""


@dataclass(frozen=True)
class PictureBlur:
    """What one picture shows.

    probability: calibrated probability that the picture as a whole is blurred, None for a blank one; detail: fine
    contrast, in natural-log units, comparable only between pictures of one scene, higher is sharper; angle_deg: main
    direction in [0,180), 0 along +x, 90 along +y (down), None unless the kind is camera motion; extent_px: length of
    the blur in pixels of the picture given; heat [R,C]: probability that a patch of `PATCH` pixels is blurred, NaN
    where it has too little contrast to tell.
    """

    probability: float | None
    kind: BlurKind
    detail: float
    angle_deg: float | None
    extent_px: float | None
    heat: NDArray[np.float32]


@dataclass(frozen=True)
class BlurClassifier:
    """picture: blurred or not; motion: camera motion rather than defocus, for blurred pictures; extent: log of the
    extent in pixels if blurred; patch: blurred or not, of one patch. calibration (a, b): probability =
    sigmoid(a * sum + b).
    """

    picture: Trees
    motion: Trees
    extent: Trees
    patch: Trees
    calibration: tuple[float, float]
    patch_calibration: tuple[float, float]

    def judge(self, grey: Grey) -> PictureBlur:
        """grey [H,W] in [0,1], at the working size (longer side `WORKING_SIDE`; smaller pictures as they are)."""
        patches = patch_features(grey)
        heat = self._heat(patches)
        detail = patches.detail()
        if not patches.textured.any():
            return PictureBlur(None, "blank", detail, None, None, heat)
        fit = fit_blur(grey)
        row = picture_inputs(patches, fit.numbers())[None]
        probability = float(sigmoid(self.picture.predict(row), self.calibration)[0])
        # The trees know blurred pictures only; the surer the picture is sharp, the nearer to a sharp one's extent.
        log_extent = probability * float(self.extent.predict(row)[0]) + (1 - probability) * np.log(
            SHARP_EXTENT_PX
        )
        extent = float(np.exp(log_extent))
        moved = float(self.motion.predict(row)[0]) > 0.0
        kind: BlurKind = "sharp" if probability < 0.5 else "camera motion" if moved else "defocus"
        angle = motion_direction(grey) if kind == "camera motion" else None
        return PictureBlur(probability, kind, detail, angle, extent, heat)

    def _heat(self, patches: Patches) -> NDArray[np.float32]:
        rows, columns, count = patches.values.shape
        score = self.patch.predict(patches.values.reshape(-1, count))
        heat = sigmoid(score, self.patch_calibration).reshape(rows, columns)
        return np.where(patches.textured, heat, np.nan).astype(np.float32)


def picture_inputs(patches: Patches, numbers: NDArray[np.float32]) -> NDArray[np.float32]:
    """[len(INPUTS)]: patch statistics and the kernel fit of one picture."""
    return np.concatenate([patches.summary(), numbers])


def sigmoid(score: NDArray[np.floating], calibration: tuple[float, float]) -> NDArray[np.floating]:
    """Platt's calibration of a raw score."""
    slope, offset = calibration
    return 1.0 / (1.0 + np.exp(-np.clip(slope * score + offset, -60.0, 60.0)))


@cache
def shipped_classifier() -> BlurClassifier:
    """The classifier that comes with the package."""
    return load_classifier(SHIPPED)


def load_classifier(path: Path) -> BlurClassifier:
    """Read trees written by tools/train_triage.py. Raises UsageError naming the file when they cannot be used."""
    try:
        record = read_json(path, max_bytes=8 * 2**20)
        return classifier_from_json(record)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path} holds no usable blur classifier: {error}. Install deblurgs again."
        ) from error


def classifier_from_json(record: Any) -> BlurClassifier:
    """Raises ValueError when the record was made for other features or is damaged."""
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise ValueError(f"it is no {FORMAT} file")
    made_for = (
        record.get("inputs"),
        record.get("patch_inputs"),
        record.get("patch"),
        record.get("working_side"),
    )
    if made_for != (list(INPUTS), list(FEATURES), PATCH, WORKING_SIDE):
        raise ValueError("its trees were made for other features")
    models = record.get("trees")
    if not isinstance(models, dict):
        raise ValueError("it holds no trees")
    picture, motion, extent = (
        trees_from_json(models.get(name), len(INPUTS)) for name in ("picture", "motion", "extent")
    )
    return BlurClassifier(
        picture, motion, extent, trees_from_json(models.get("patch"), len(FEATURES)),
        _calibration(record, "calibration"), _calibration(record, "patch_calibration"),
    )  # fmt: skip


def _calibration(record: dict[str, Any], name: str) -> tuple[float, float]:
    pair = record.get(name)
    if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(v, int | float) for v in pair)):
        raise ValueError(f"{name} is not a pair of numbers")
    slope, offset = float(pair[0]), float(pair[1])
    if not (np.isfinite(slope) and np.isfinite(offset) and slope > 0):
        raise ValueError(f"{name} {pair} cannot be used")
    return slope, offset
