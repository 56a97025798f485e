"""Is there lens distortion? Decided from the observations, in the SfM child."""

from typing import Any

from deblurgs.sfm import colmap

# Increase of the squared error per degree of freedom, in units of its variance, that proves lens distortion.
# Measured: 4 to 11 on blurred frames without distortion, 86 and more with (k = 0.06 to 0.09).
_DISTORTION_EVIDENCE = 25.0


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
        "kept": bool(evidence > _DISTORTION_EVIDENCE),
        "k": [round(float(c.params[3]), 5) for c in cameras.values()],
    }
    return (model if report["kept"] else plain), report
