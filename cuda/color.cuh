// SPDX-License-Identifier: Apache-2.0
//
// The sRGB transfer curve (IEC 61966-2-1), its slope and inverse. The straight piece near black continues below zero and
// nothing is clamped above one, as in deblurgs/math/color.py.
#pragma once

#include "platform.cuh"

namespace deblurgs {

constexpr float kEncodedKnee = 0.04045f, kLinearKnee = 0.0031308f;

DEBLURGS_DEVICE float linear_from_srgb(float x) {
    if (!(x > kEncodedKnee)) return x * (1.0f / 12.92f);
    return powf(fmaf(x, 1.0f / 1.055f, 0.055f / 1.055f), 2.4f);
}

DEBLURGS_DEVICE float linear_from_srgb_slope(float x) {
    if (!(x > kEncodedKnee)) return 1.0f / 12.92f;
    return (2.4f / 1.055f) * powf(fmaf(x, 1.0f / 1.055f, 0.055f / 1.055f), 1.4f);
}

// Encodes and gives the slope of the curve.
DEBLURGS_DEVICE float srgb_from_linear(float x, float* slope) {
    if (!(x > kLinearKnee)) {
        *slope = 12.92f;
        return x * 12.92f;
    }
    const float power = powf(x, 1.0f / 2.4f);
    *slope = (1.055f / 2.4f) * power / x;
    return fmaf(1.055f, power, -0.055f);
}

} // namespace deblurgs
