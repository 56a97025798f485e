// SPDX-License-Identifier: Apache-2.0
//
// Which 8x4 sub-tiles of a 16x16 tile a Gaussian reaches with alpha >= 1/255. A sub-tile is what one warp composites.
// The exact extent is that of Radl et al., "StopThePop", 2024, sec. 4 (maximum of the Gaussian in a box).
#pragma once

#include "records.cuh"

namespace deblurgs {

constexpr int kSubWidth = 8, kSubHeight = 4, kSubTiles = 8; // two columns, four rows

DEBLURGS_DEVICE int sub_left(int sub) { return (sub & 1) * kSubWidth; }
DEBLURGS_DEVICE int sub_top(int sub) { return (sub >> 1) * kSubHeight; }
// Pixels of a tile are numbered sub-tile by sub-tile, each by rows: lane l of warp s owns pixel 32 s + l.
DEBLURGS_DEVICE int pixel_x(int px) { return sub_left(px / kWarp) + (px & (kSubWidth - 1)); }
DEBLURGS_DEVICE int pixel_y(int px) { return sub_top(px / kWarp) + (px % kWarp) / kSubWidth; }

// Entries are counted by one kernel and written by another, and both must find the same tiles to the bit: every product is
// rounded by itself or fused by name, so that no compiler may contract the two kernels differently.
//
// The maximum of a concave quadratic over a box that excludes its peak lies on one of the (at most two) sides that face
// the peak. The box holds pixel centres: [x0, x1] x [y0, y1] about the mean.
DEBLURGS_DEVICE bool reaches_box(const Record& r, float level, float slope_y, float slope_x, float x0, float x1, float y0,
                                 float y1) {
    const float near_x = fmaxf(x0, fminf(x1, 0.0f)), near_y = fmaxf(y0, fminf(y1, 0.0f));
    const float along_y = fmaxf(y0, fminf(y1, __fmul_rn(slope_y, near_x)));
    const float along_x = fmaxf(x0, fminf(x1, __fmul_rn(slope_x, near_y)));
    const float p = fmaf(near_x, fmaf(r.qa, near_x, __fmul_rn(r.qb, along_y)), __fmul_rn(__fmul_rn(r.qc, along_y), along_y));
    const float q = fmaf(near_y, fmaf(r.qc, near_y, __fmul_rn(r.qb, along_x)), __fmul_rn(__fmul_rn(r.qa, along_x), along_x));
    return fmaxf(p, q) >= level;
}

DEBLURGS_DEVICE u32 sub_tile_mask(const Record& r, int tile_x, int tile_y) {
    // The margin keeps rounding from dropping a pixel that the pixel's own test would accept.
    const float level = kLog2Cutoff - 1e-3f - r.log2_opacity;
    const float slope_y = __fdiv_rn(__fmul_rn(-0.5f, r.qb), r.qc), slope_x = __fdiv_rn(__fmul_rn(-0.5f, r.qb), r.qa);
    const float left = (float)(tile_x * DEBLURGS_TILE) + 0.5f - r.x, top = (float)(tile_y * DEBLURGS_TILE) + 0.5f - r.y;
    if (!reaches_box(r, level, slope_y, slope_x, left, left + 15.0f, top, top + 15.0f)) return 0;
    u32 mask = 0;
#pragma unroll
    for (int sub = 0; sub < kSubTiles; ++sub) {
        const float x0 = left + (float)sub_left(sub), y0 = top + (float)sub_top(sub);
        const bool hit = reaches_box(r, level, slope_y, slope_x, x0, x0 + (kSubWidth - 1), y0, y0 + (kSubHeight - 1));
        mask |= (hit ? 1u : 0u) << sub;
    }
    return mask;
}

// Calls visit(owner, place, tile_x, tile_y, mask) for every tile that the lanes' Gaussians reach: `owner` is the lane
// whose Gaussian it is, `place` counts the tiles of one Gaussian in rows of its box. All lanes of a warp take part; a wide
// Gaussian is shared out among them, so that no thread walks thousands of tiles while the others wait. Returns the
// number of tiles of the lane's own Gaussian.
template <class Visit>
DEBLURGS_DEVICE int visit_tiles(const Record* records, i64 row, bool exists, const Visit& visit) {
    constexpr int kNarrow = 8;
    const int lane = lane_index();
    u32 begin = 0, end = 0;
    if (exists) {
        begin = records[row].tile_begin;
        end = records[row].tile_end;
    }
    const int wide = (int)((end & 0xffffu) - (begin & 0xffffu)), area = wide * (int)((end >> 16) - (begin >> 16));
    int count = 0;
    if (area > 0 && area <= kNarrow) {
        const Record r = records[row];
        for (int i = 0; i < area; ++i) {
            const int tile_x = (int)(begin & 0xffffu) + i % wide, tile_y = (int)(begin >> 16) + i / wide;
            const u32 mask = sub_tile_mask(r, tile_x, tile_y);
            if (mask) visit(lane, count++, tile_x, tile_y, mask);
        }
    }
    u32 wide_lanes = __ballot_sync(kFullMask, area > kNarrow);
    while (wide_lanes) {
        const int owner = __ffs((int)wide_lanes) - 1;
        wide_lanes &= wide_lanes - 1u;
        const i64 its_row = __shfl_sync(kFullMask, row, owner);
        const int its_area = __shfl_sync(kFullMask, area, owner), its_wide = __shfl_sync(kFullMask, wide, owner);
        const Record r = records[its_row];
        int its_count = 0;
        for (int first = 0; first < its_area; first += kWarp) {
            const int i = first + lane;
            const int tile_x = (int)(r.tile_begin & 0xffffu) + i % its_wide, tile_y = (int)(r.tile_begin >> 16) + i / its_wide;
            const u32 mask = i < its_area ? sub_tile_mask(r, tile_x, tile_y) : 0u;
            const u32 hits = __ballot_sync(kFullMask, mask != 0);
            if (mask) visit(owner, its_count + __popc(hits & lanes_below(lane)), tile_x, tile_y, mask);
            its_count += __popc(hits);
        }
        if (lane == owner) count = its_count;
    }
    return count;
}

} // namespace deblurgs
