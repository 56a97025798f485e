"""`.splat`: 32 bytes per Gaussian, without view-dependent colour; what small web viewers load, ours included.

Per Gaussian, little endian: position 3 x float32, standard deviations 3 x float32, colour and opacity 4 x uint8
(0..255), quaternion wxyz 4 x uint8 (round(128 q) + 128). There is no header: the file's length gives the number.
Format: antimatter15/splat. Gaussians are ordered by importance, so that the first part of a file is a coarse scene.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deblurgs.errors import CaptureError
from deblurgs.export.ply import SplatArrays
from deblurgs.files import write_bytes_atomic
from deblurgs.math.sh import SH_C0

RECORD = np.dtype([("mean", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("quat", "u1", 4)])
"""One Gaussian; 32 bytes."""


def encode_splat(arrays: SplatArrays, *, max_splats: int | None = None) -> bytes:
    """The file's bytes: the most important `max_splats` Gaussians (all if None). Non-finite ones are left out."""
    arrays = arrays.finite()
    order = np.argsort(-arrays.importance(), kind="stable")[:max_splats]
    arrays = arrays.chosen(order)
    records = np.zeros(len(arrays), RECORD)
    records["mean"] = arrays.means
    records["scale"] = np.exp(arrays.log_scales)
    records["rgba"][:, :3] = _byte(255.0 * (0.5 + SH_C0 * arrays.sh0))
    records["rgba"][:, 3] = _byte(255.0 / (1.0 + np.exp(-arrays.logit_opacities)))
    records["quat"] = _byte(128.0 * _unit(arrays.quats_wxyz) + 128.0)
    return records.tobytes()


def write_splat(path: Path, arrays: SplatArrays, *, overwrite: bool = True) -> int:
    """Write a `.splat` file; returns how many Gaussians were left out because a value is NaN or infinite."""
    data = encode_splat(arrays)
    write_bytes_atomic(path, data, overwrite=overwrite)
    return len(arrays) - len(data) // RECORD.itemsize


def read_splat(path: Path) -> SplatArrays:
    """Read a `.splat` file; SH degree 0. Raises CaptureError when its length is no whole number of records."""
    data = path.read_bytes()
    if len(data) % RECORD.itemsize:
        raise CaptureError(
            f"{path} is not a .splat file or is cut off: {len(data)} bytes are no multiple of {RECORD.itemsize}."
        )
    records = np.frombuffer(data, RECORD)
    opacity = np.clip(records["rgba"][:, 3] / np.float32(255.0), 1e-4, 1.0 - 1e-4)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_scales = np.log(records["scale"])
    return SplatArrays(
        means=records["mean"].copy(),
        quats_wxyz=_unit((records["quat"].astype(np.float32) - 128.0) / 128.0),
        log_scales=log_scales,
        logit_opacities=np.log(opacity / (1.0 - opacity)).astype(np.float32),
        sh0=((records["rgba"][:, :3] / np.float32(255.0) - 0.5) / SH_C0).astype(np.float32),
        shN=np.zeros((len(records), 0, 3), np.float32),
    )


def _byte(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def _unit(quats: NDArray[np.float32]) -> NDArray[np.float32]:
    """Unit quaternions [N,4]; the identity for a zero one."""
    length = np.linalg.norm(quats, axis=1, keepdims=True)
    identity = np.array([1.0, 0.0, 0.0, 0.0], np.float32)
    return np.where(length > 0, quats / np.where(length > 0, length, 1.0), identity).astype(np.float32)
