"""Is there lens distortion? Decided from the observations, in the SfM child."""

from typing import Any

from deblurgs.sfm import colmap
from deblurgs.sfm.evidence import DISTORTION_EVIDENCE


def without_needless_distortion(model: colmap.Model) -> tuple[colmap.Model, dict[str, Any]]:
    """Drop the lens distortion parameter unless the observations prove it (an F-test on one parameter).

    On blurred frames k drifts by 0.01 to 0.02 without any distortion there, and every use of it would resample the
    frames for nothing.
    """
    with_k, count = colmap.squared_error(model)
    cameras = model.cameras
    plain = colmap.simplified(model)
    without_k, _ = colmap.squared_error(plain)
    variance = with_k / max(2 * count - 6 * model.num_reg_images() - 3 * model.num_points3D(), 1)
    evidence = (without_k - with_k) / max(variance, 1e-12) / max(len(cameras), 1)
    report = {
        "evidence": round(float(evidence), 2),
        "kept": bool(evidence > DISTORTION_EVIDENCE),
        "k": [round(float(c.params[3]), 5) for c in cameras.values()],
    }
    return (model if report["kept"] else plain), report
