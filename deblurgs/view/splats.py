"""Gaussians as the browser draws them: colour without view dependence, covariances in half precision."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deblurgs.errors import UsageError
from deblurgs.export.ply import SplatArrays

MAX_SPLATS = 2_000_000
"""More than that a browser does not sort in time."""
_SH0 = 0.28209479177387814
_TYPICAL_STD = 16.0
"""Where half precision is at its best: variances from 6e-5 to 65504 are standard deviations from 0.008 to 256."""
_LARGEST_STD = 250.0


@dataclass(frozen=True)
class BrowserSplats:
    """What viser takes. centers [N,3] and covariances [N,3,3] are in units of `scale` of the scene; rgbs [N,3] and
    opacities [N,1] in [0,1]. dropped: Gaussians with non-finite numbers; thinned: those beyond `MAX_SPLATS`."""

    centers: NDArray[np.float32]
    covariances: NDArray[np.float32]
    rgbs: NDArray[np.float32]
    opacities: NDArray[np.float32]
    scale: float
    dropped: int
    thinned: int

    def note(self) -> str | None:
        """What was left out, in words; None when nothing was."""
        parts = [f"{self.dropped} Gaussians with non-finite numbers are not shown"] if self.dropped else []
        if self.thinned:
            parts.append(f"the {self.thinned} faintest and smallest Gaussians are not shown in the browser")
        return "; ".join(parts) or None


def browser_splats(arrays: SplatArrays, *, max_splats: int = MAX_SPLATS) -> BrowserSplats:
    """Finite Gaussians only, scaled so that their covariances survive 16-bit floats."""
    table = np.concatenate(
        [arrays.means, arrays.quats_wxyz, arrays.log_scales, arrays.logit_opacities[:, None], arrays.sh0], axis=1
    )  # fmt: skip
    length = np.linalg.norm(arrays.quats_wxyz.astype(np.float64), axis=1)
    # Logarithms above 30 overflow when squared, and no real scene has them.
    keep = np.isfinite(table).all(axis=1) & (length > 0) & (np.abs(arrays.log_scales) < 30).all(axis=1)
    chosen = np.flatnonzero(keep)
    dropped = len(arrays) - len(chosen)
    opacities = 1.0 / (1.0 + np.exp(-np.clip(arrays.logit_opacities, -30.0, 30.0)))
    thinned = max(len(chosen) - max_splats, 0)
    if thinned:
        weight = np.log(opacities[chosen]) + arrays.log_scales[chosen].sum(axis=1)
        chosen = np.sort(chosen[np.argsort(-weight)[:max_splats]])
    std = np.exp(arrays.log_scales[chosen].astype(np.float64))
    scale = float(np.quantile(std.max(axis=1), 0.9)) / _TYPICAL_STD if len(chosen) else 1.0
    axes = _rotations(arrays.quats_wxyz[chosen]) * np.minimum(std / scale, _LARGEST_STD)[:, None, :]
    return BrowserSplats(
        centers=(arrays.means[chosen] / scale).astype(np.float32),
        covariances=(axes @ axes.transpose(0, 2, 1)).astype(np.float32),
        rgbs=np.clip(0.5 + _SH0 * arrays.sh0[chosen], 0.0, 1.0).astype(np.float32),
        opacities=opacities[chosen][:, None].astype(np.float32),
        scale=scale, dropped=dropped, thinned=thinned,
    )  # fmt: skip


def read_checkpoint_splats(path: Path) -> tuple[SplatArrays, NDArray[np.float64]]:
    """Gaussians and SfM poses camera_from_world [F,4,4] of a checkpoint, without waiting for torch.

    Raises UsageError when the file is not a checkpoint.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {})["deblurgs"])
            g = {k.removeprefix("gaussians."): file.get_tensor(k) for k in file.keys()  # noqa: SIM118
                 if k.startswith("gaussians.")}  # fmt: skip
            poses = file.get_tensor("trajectory.camera_from_world_sfm").astype(np.float64)
        return SplatArrays(
            g["means"], g["quats"], g["log_scales"], g["logit_opacities"], g["sh0"][:, 0], g["shN"],
            bool(header["config"].get("antialiased", False)),
        ), poses  # fmt: skip
    except (SafetensorError, OSError, KeyError, IndexError, TypeError, ValueError) as error:
        raise UsageError(
            f"{path} is not a trained scene ({error}). Train it again with --overwrite."
        ) from error


def _rotations(wxyz: NDArray[np.float32]) -> NDArray[np.float64]:
    """Rotation matrices [N,3,3] of quaternions of any non-zero length."""
    q = wxyz.astype(np.float64)
    w, x, y, z = (q / np.linalg.norm(q, axis=1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
