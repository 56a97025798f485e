// SPDX-License-Identifier: Apache-2.0
//
// The sRGB transfer curve (IEC 61966-2-1), its slope and inverse, in lanes. The straight piece near black continues below
// zero and nothing is clamped above one, as in deblurgs/math/color.py. Relative error below 1e-6.
#pragma once

#include "simd.h"

namespace deblurgs {
namespace DEBLURGS_ISA {

constexpr float kEncodedKnee = 0.04045f, kLinearKnee = 0.0031308f;

DEBLURGS_INLINE F linear_from_srgb(F x) {
    const M curved = x > F(kEncodedKnee);
    const F base = select(curved, fma(x, F(1.0f / 1.055f), F(0.055f / 1.055f)), F(1.0f));
    return select(curved, exp2_precise(F(2.4f) * log2_precise(base)), x * F(1.0f / 12.92f));
}

DEBLURGS_INLINE F linear_from_srgb_slope(F x) {
    const M curved = x > F(kEncodedKnee);
    const F base = select(curved, fma(x, F(1.0f / 1.055f), F(0.055f / 1.055f)), F(1.0f));
    const F power = exp2_precise(F(1.4f) * log2_precise(base));
    return select(curved, power * F(2.4f / 1.055f), F(1.0f / 12.92f));
}

// Encodes and gives the slope of the curve.
DEBLURGS_INLINE F srgb_from_linear(F x, F* slope) {
    const M curved = x > F(kLinearKnee);
    const F base = select(curved, x, F(1.0f));
    const F power = exp2_precise(F(1.0f / 2.4f) * log2_precise(base));
    *slope = select(curved, F(1.055f / 2.4f) * power / base, F(12.92f));
    return select(curved, fma(F(1.055f), power, F(-0.055f)), x * F(12.92f));
}

} // namespace DEBLURGS_ISA
} // namespace deblurgs
