// SPDX-License-Identifier: Apache-2.0
//
// What forward and backward must compute to the same bits: the alpha of a pixel and the light that is left behind it.
// Fused multiply-adds are written out, so that no compiler contracts the two passes differently; a pixel then stops at
// the same Gaussian in both.
#pragma once

#include "color.cuh"
#include "tile_mask.cuh"

namespace deblurgs {

// 0 below the cut-off. (dx, dy): from the projected mean to the pixel's centre.
DEBLURGS_DEVICE float pixel_alpha(float qa, float qb, float qc, float log2_opacity, float dx, float dy) {
    const float across = fmaf(qa, dx, __fmul_rn(qb, dy));
    const float p = fmaf(dx, across, fmaf(__fmul_rn(qc, dy), dy, log2_opacity));
    return p >= kLog2Cutoff ? exp2_fast(p) : 0.0f;
}

DEBLURGS_DEVICE float behind(float transmittance, float alpha) { return fmaf(-transmittance, alpha, transmittance); }

} // namespace deblurgs
