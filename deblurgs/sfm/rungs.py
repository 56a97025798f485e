"""The rungs of the SfM ladder in the order in which they are tried, and why each is there.

1. fine: COLMAP's defaults with a lower contrast threshold, the most accurate when everything registers.
2. first octave 0: no upsampled octave, which finds mostly noise in blurred frames.
3. pooled, upright: descriptors pooled over domain sizes (Dong & Soatto, CVPR 2015), which blur changes less, and no
   estimated orientation, which blur turns: good up to about 30 degrees of camera roll.
4. together: the features and matches of rungs 1 to 3 in one model. Costs only mapping, registers what none of them can
   alone, and is more accurate, because every frame is held by more matches.
5. pooled, global mapping: all cameras solved at once from the graph of pairs (GLOMAP, Pan et al., ECCV 2024). Not held
   up by a bad starting pair, but the first to be wrong: it must agree with another rung.
6. affine, guided: affine-shaped, pooled features with orientation, for cameras that roll, and a second round of
   matching along the epipolar lines.
7. restored copies: features found on restored copies of the frames; training never sees those.

Where triage calls the blur very long, the climb begins with rungs 3 and 4: those before register little there, and are
tried afterwards if anything is missing. That matters where the time runs out; which model is believed does not depend
on the order.

Learned features (XFeat with LighterGlue, ALIKED with LightGlue) are left out on purpose: on strongly blurred frames
they registered no more frames than rung 3, at twice its error and several times its cost, and they need downloads.
"""

from collections.abc import Sequence

import numpy as np

from deblurgs.sfm.staging import FrameFile, Settings

# Lets frames with fewer agreeing points join.
FORGIVING = {"abs_pose_min_num_inliers": 15, "abs_pose_min_inlier_ratio": 0.15}
# Rows that a rolling shutter moved are no outliers: the cameras are refined for it afterwards (rolling/).
ROLLING_MAPPER = {"filter_max_reproj_error": 8.0}
ROLLING_TRIANGULATION = {"complete_max_reproj_error": 8.0, "merge_max_reproj_error": 8.0}
_COARSE = {"first_octave": 0, "peak_threshold": 0.002}
_POOLED = {**_COARSE, "domain_size_pooling": True, "upright": True}

_FINE = Settings("fine", features="fine", sift={"peak_threshold": 0.004, "max_num_features": 2500})
_FIRST_OCTAVE_0 = Settings("first octave 0", features="coarse", sift=_COARSE)
UPRIGHT = Settings("pooled, upright", features="pooled", sift=_POOLED, mapper=FORGIVING)
TOGETHER = Settings(
    "together", features="together", sift=_POOLED, mapper=FORGIVING, parts=(UPRIGHT, _FIRST_OCTAVE_0, _FINE)
)

RUNGS = (
    _FINE,
    _FIRST_OCTAVE_0,
    UPRIGHT,
    TOGETHER,
    Settings("pooled, global mapping", features="pooled", sift=_POOLED, mapping="global"),
    Settings(
        "affine, guided",
        features="affine",
        sift={**_COARSE, "domain_size_pooling": True, "estimate_affine_shape": True},
        matching={"guided_matching": True},
        mapper=FORGIVING,
    ),
    Settings("restored copies", features="restored", sift=_POOLED, mapper=FORGIVING, restored=True),
)

LONG_BLUR_SHARE = 0.03
"""Upper quartile of the blur's length, as a share of the longer side, from which rungs 1 and 2 are no good beginning.
Measured: 0.032 and 0.038 where rung 1 registers half of the frames, up to 0.028 where it registers nearly all."""


def in_order(frames: Sequence[FrameFile]) -> tuple[Settings, ...]:
    """`RUNGS` in the order in which to try them for these frames."""
    known = [f.path_px / max(f.width, f.height) for f in frames if f.path_px is not None]
    # What is known of a few frames says nothing about the rest.
    if 2 * len(known) <= len(frames) or float(np.quantile(known, 0.75)) < LONG_BLUR_SHARE:
        return RUNGS
    begin = (UPRIGHT, TOGETHER)
    return (*begin, *(rung for rung in RUNGS if rung not in begin))
