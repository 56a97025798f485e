// SPDX-License-Identifier: Apache-2.0
//
// Backward of the compositing: a block of four warps for each (view, tile), a warp for each quarter of 8x8 pixels, a lane
// for each Gaussian. A warp takes the entries that touched its quarter front to back in buckets of 32; pixels stream
// through the lanes, one step behind each other, so that each lane meets a pixel right after the Gaussian in front of it.
// Every lane sums its own Gaussian's gradient in registers; the four warps' sums of an entry are added in order and stored
// once: no atomics, one order of sums. The idea of Gaussian-parallel buckets is that of Mallick et al., "Taming 3DGS",
// 2024, sec. 4.4. Two numbers travel with a pixel: its transmittance T and
//   rest = dL/d(colour) . (what lies behind the Gaussians met so far),
// which begins as dL/d(colour) . (final colour) and needs no checkpoints, because one warp walks all buckets of a pixel
// and keeps its state in shared memory.
#pragma once

#include "composite.cuh"

namespace deblurgs {

constexpr int kQuarters = 4, kQuarterSubs = 2, kQuarterPixels = kQuarterSubs * kWarp;
// Entries per round of a block: about 25 of them touch a quarter, which fills one bucket, and more would cost occupancy.
constexpr int kBackwardChunk = 64;

// Sub-tile `i` (0 or 1) of a quarter: the lower one lies two numbers on.
DEBLURGS_DEVICE int quarter_sub(int quarter, int i) { return (quarter >> 1) * 4 + (quarter & 1) + 2 * i; }
DEBLURGS_DEVICE u32 quarter_bits(int quarter) { return 5u << quarter_sub(quarter, 0); }

struct BackwardTile {
    float t[kTilePixels], rest[kTilePixels];
    float v[3][kTilePixels]; // dL/d(this view's encoded colour)
    u32 slots[kBackwardChunk], masks[kBackwardChunk];
    u8 queue[kQuarters][kBackwardChunk]; // entries of the chunk that touched a quarter, front to back
    float sums[kQuarters][kSlotSums][kBackwardChunk];
};

// `count` (1..32) entries of the chunk, the lane's being `entry`, meet the pixels of the warp's quarter.
DEBLURGS_DEVICE void walk_bucket(BackwardTile& tile, const Record* records, const u32* owners, int entry, int count, int left,
                                 int top) {
    const int lane = lane_index(), quarter = warp_index();
    const bool active = lane < count;
    Record r{};
    u32 mask = 0;
    if (active) {
        r = records[owners[tile.slots[entry]]];
        mask = tile.masks[entry];
    }
    float s0 = 0.0f, sx = 0.0f, sy = 0.0f, sxx = 0.0f, sxy = 0.0f, syy = 0.0f, red = 0.0f, green = 0.0f, blue = 0.0f;
    float t = 0.0f, rest = 0.0f;
    for (int step = 0; step < kQuarterPixels + count - 1; ++step) {
        const float t_in_front = __shfl_up_sync(kFullMask, t, 1), rest_in_front = __shfl_up_sync(kFullMask, rest, 1);
        const int place = step - lane;
        if (active && place >= 0 && place < kQuarterPixels) {
            const int sub = quarter_sub(quarter, place / kWarp), px = sub * kWarp + place % kWarp;
            t = lane == 0 ? tile.t[px] : t_in_front;
            rest = lane == 0 ? tile.rest[px] : rest_in_front;
            if (((mask >> sub) & 1u) && t >= DEBLURGS_TRANSMITTANCE_STOP) {
                const float dx = (float)(left + pixel_x(px)) + 0.5f - r.x, dy = (float)(top + pixel_y(px)) + 0.5f - r.y;
                const float alpha = pixel_alpha(r.qa, r.qb, r.qc, r.log2_opacity, dx, dy);
                if (alpha > 0.0f) {
                    const float weight = __fmul_rn(t, alpha);
                    const float vr = tile.v[0][px], vg = tile.v[1][px], vb = tile.v[2][px];
                    const float shade = fmaf(r.r, vr, fmaf(r.g, vg, r.b * vb));
                    rest = fmaf(-weight, shade, rest);
                    // dL/d ln alpha = weight (c . v) - rest alpha / (1 - alpha).
                    const float s = fmaf(weight, shade, -rest * alpha / (1.0f - alpha));
                    s0 += s;
                    const float s_dx = s * dx, s_dy = s * dy;
                    sx += s_dx;
                    sy += s_dy;
                    sxx = fmaf(s_dx, dx, sxx);
                    sxy = fmaf(s_dx, dy, sxy);
                    syy = fmaf(s_dy, dy, syy);
                    red = fmaf(weight, vr, red);
                    green = fmaf(weight, vg, green);
                    blue = fmaf(weight, vb, blue);
                    t = behind(t, alpha);
                }
            }
            if (lane == count - 1) { // The first lane read this pixel count - 1 steps ago.
                tile.t[px] = t;
                tile.rest[px] = rest;
            }
        }
    }
    if (active) {
        float(*out)[kBackwardChunk] = tile.sums[quarter];
        out[0][entry] = s0, out[1][entry] = sx, out[2][entry] = sy;
        out[3][entry] = sxx, out[4][entry] = sxy, out[5][entry] = syy;
        out[6][entry] = red, out[7][entry] = green, out[8][entry] = blue;
    }
    __syncwarp(); // the next bucket's first lane reads what this one's last lane wrote
}

} // namespace deblurgs

// Grid (tiles, views of the group). sums [slots of the group, 9] are written for every entry. background_sums [V, tiles, 3]
// may be null.
DEBLURGS_KERNEL __launch_bounds__(128)
deblurgs_raster_backward(const deblurgs::Record* records, const unsigned* owners, const unsigned char* masks,
                         const unsigned* slots, const int* tile_starts, const long long* slot_ends,
                         const deblurgs::ViewPose* poses, const float* finals, const float* image_gradient, float* sums,
                         float* background_sums, int num_gaussians, int first_view, int tiles_x, int tiles, int width,
                         int height, int flags) {
    using namespace deblurgs;
    __shared__ BackwardTile tile;
    __shared__ float background[kQuarters][3];
    const int lane = lane_index(), quarter = warp_index(), thread = (int)threadIdx.x;
    const int view = first_view + (int)blockIdx.y, tile_index = (int)blockIdx.x;
    const i64 row = (i64)view * tiles + tile_index;
    const i64 slot_base = first_view > 0 && num_gaussians > 0 ? slot_ends[(i64)first_view * num_gaussians - 1] : 0;
    const int left = (tile_index % tiles_x) * DEBLURGS_TILE, top = (tile_index / tiles_x) * DEBLURGS_TILE;

    const bool linear = (flags & DEBLURGS_LINEAR_MEAN) != 0;
    const float view_weight = poses[view].weight;
    for (int px = thread; px < kTilePixels; px += kQuarters * kWarp) {
        const int column = left + pixel_x(px), line = top + pixel_y(px);
        const bool inside = column < width && line < height;
        float rest = 0.0f;
        for (int c = 0; c < 3; ++c) {
            float v = 0.0f;
            if (inside) {
                const float value = finals[(row * 3 + c) * kTilePixels + px];
                v = view_weight * image_gradient[3 * ((i64)line * width + column) + c];
                if (linear) v *= linear_from_srgb_slope(value);
                rest = fmaf(v, value, rest);
            }
            tile.v[c][px] = v;
        }
        tile.t[px] = inside ? 1.0f : 0.0f;
        tile.rest[px] = rest;
    }

    const int begin = tile_starts[row], end = tile_starts[row + 1];
    for (int at = begin; at < end; at += kBackwardChunk) {
        const int count = end - at < kBackwardChunk ? end - at : kBackwardChunk;
        if (thread < kBackwardChunk) {
            const u32 slot = thread < count ? slots[at + thread] : 0u;
            tile.slots[thread] = slot;
            tile.masks[thread] = thread < count ? masks[slot] : 0u;
        }
        __syncthreads(); // of the first round: the pixels too
        int queued = 0;
        for (int first = 0; first < kBackwardChunk; first += kWarp) {
            const bool touches = (tile.masks[first + lane] & quarter_bits(quarter)) != 0;
            const u32 who = __ballot_sync(kFullMask, touches);
            if (touches) tile.queue[quarter][queued + __popc(who & lanes_below(lane))] = (u8)(first + lane);
            queued += __popc(who);
        }
        __syncwarp();
        for (int first = 0; first < queued; first += kWarp) {
            const int bucket = queued - first < kWarp ? queued - first : kWarp;
            const int entry = lane < bucket ? tile.queue[quarter][first + lane] : 0;
            walk_bucket(tile, records, owners, entry, bucket, left, top);
        }
        __syncthreads();
        if (thread < count) {
            const u32 mask = tile.masks[thread];
            float* out = sums + ((i64)tile.slots[thread] - slot_base) * kSlotSums;
#pragma unroll
            for (int k = 0; k < kSlotSums; ++k) {
                float total = 0.0f;
#pragma unroll
                for (int q = 0; q < kQuarters; ++q)
                    if (mask & quarter_bits(q)) total += tile.sums[q][k][thread];
                out[k] = total;
            }
        }
        __syncthreads(); // the next round writes what this one read
    }

    if (background_sums) {
        __syncthreads(); // without entries, nobody has waited for the pixels yet
        float total[3] = {0.0f, 0.0f, 0.0f};
        for (int i = 0; i < kQuarterSubs; ++i) {
            const int px = quarter_sub(quarter, i) * kWarp + lane;
            for (int c = 0; c < 3; ++c) total[c] = fmaf(tile.t[px], tile.v[c][px], total[c]);
        }
        for (int c = 0; c < 3; ++c) {
            const float sum = warp_sum(total[c]);
            if (lane == 0) background[quarter][c] = sum;
        }
        __syncthreads();
        if (thread < 3)
            background_sums[3 * row + thread] =
                (background[0][thread] + background[1][thread]) + (background[2][thread] + background[3][thread]);
    }
}

// For the rows of records [first_row, first_row + num_rows) the sums of their slots, in fixed order, take the place of
// the row's first nine numbers. A row with many slots is shared out among its warp.
DEBLURGS_KERNEL __launch_bounds__(128)
deblurgs_collect(deblurgs::Record* records, const int* counts, const long long* slot_ends, const int* num_entries,
                 const float* sums, long long first_row, int num_rows) {
    using namespace deblurgs;
    constexpr int kFew = 16;
    const int lane = lane_index();
    const i64 row = first_row + global_thread();
    const bool exists = global_thread() < num_rows;
    const bool any_entries = num_entries[0] != 0;
    const i64 slot_base = first_row > 0 ? slot_ends[first_row - 1] : 0;
    const int count = exists && any_entries ? counts[row] : 0;
    const i64 begin = count > 0 ? slot_ends[row] - count - slot_base : 0;
    float total[kSlotSums];
#pragma unroll
    for (int k = 0; k < kSlotSums; ++k) total[k] = 0.0f;
    if (count <= kFew)
        for (int i = 0; i < count; ++i)
#pragma unroll
            for (int k = 0; k < kSlotSums; ++k) total[k] += sums[(begin + i) * kSlotSums + k];
    u32 many = __ballot_sync(kFullMask, count > kFew);
    while (many) {
        const int owner = __ffs((int)many) - 1;
        many &= many - 1u;
        const i64 its_begin = __shfl_sync(kFullMask, begin, owner);
        const int its_count = __shfl_sync(kFullMask, count, owner);
        float part[kSlotSums];
#pragma unroll
        for (int k = 0; k < kSlotSums; ++k) part[k] = 0.0f;
        for (int i = lane; i < its_count; i += kWarp)
#pragma unroll
            for (int k = 0; k < kSlotSums; ++k) part[k] += sums[(its_begin + i) * kSlotSums + k];
#pragma unroll
        for (int k = 0; k < kSlotSums; ++k) {
            const float sum = warp_sum(part[k]);
            if (lane == owner) total[k] = sum;
        }
    }
    if (!exists || !is_drawn(records[row])) return;
    Record& r = records[row];
    // max(0, colour) passes no gradient where it acts.
    if (!(r.r > 0.0f)) total[6] = 0.0f;
    if (!(r.g > 0.0f)) total[7] = 0.0f;
    if (!(r.b > 0.0f)) total[8] = 0.0f;
    r.x = total[0], r.y = total[1], r.qa = total[2], r.qb = total[3], r.qc = total[4], r.log2_opacity = total[5];
    r.r = total[6], r.g = total[7], r.b = total[8];
}

// One block of three warps: warp c adds channel c of background_sums [rows, 3] in fixed order, in double.
DEBLURGS_KERNEL __launch_bounds__(96)
deblurgs_background_gradient(const float* background_sums, float* gradient, int num_rows) {
    using namespace deblurgs;
    const int channel = warp_index(), lane = lane_index();
    double sum = 0.0;
    for (int row = lane; row < num_rows; row += kWarp) sum += (double)background_sums[3 * (i64)row + channel];
    for (int step = kWarp / 2; step > 0; step /= 2) sum += __shfl_xor_sync(kFullMask, sum, step);
    if (lane == 0) gradient[channel] = (float)sum;
}
