// SPDX-License-Identifier: Apache-2.0
//
// The rows that travel between the kernels.
#pragma once

#include "platform.cuh"

namespace deblurgs {

// A Gaussian on the screen of one view. log2 alpha of a pixel at (dx, dy) from the mean is log2_opacity + qa dx^2 + qb
// dx dy + qc dy^2. Once the backward pass has collected a view, the first nine numbers hold the sums over pixels of
// s, s dx, s dy, s dx^2, s dx dy, s dy^2 (s = dL/d ln alpha) and the gradient of the colour.
struct alignas(16) Record {
    float x, y, qa, qb;
    float qc, log2_opacity, r, g;
    float b, z;
    u32 tile_begin, tile_end; // corners of the half-open box of tiles, x | y << 16; equal when it is not drawn
};
static_assert(sizeof(Record) == 48, "three loads of 16 bytes");

DEBLURGS_DEVICE bool is_drawn(const Record& r) { return r.tile_begin != r.tile_end; }

struct alignas(16) ViewPose {
    float rotation[9], translation[3], center[3], weight;
};
static_assert(sizeof(ViewPose) == 64, "one row");

// Sums that one (tile, Gaussian) entry hands to the Gaussian, in the order of Record.
constexpr int kSlotSums = 9;
// Sums per view of a warp of Gaussians: 9 rotation, 3 translation, 3 camera centre.
constexpr int kPoseSums = 15;

// What an exposure reports, as 64-bit numbers; the host reads it later, without waiting.
enum Status {
    kTotalEntries = 0,  // entries over all views, whether or not they fitted
    kMostInView = 1,    // the most entries of one view
    kOverflow = 2,      // 1: they did not fit and nothing was drawn
    kBadView = 3,       // 1 + index of the first view with a non-finite pose, or 0
    kStatusWords = 4
};

} // namespace deblurgs
