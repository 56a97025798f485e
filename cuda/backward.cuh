// SPDX-License-Identifier: Apache-2.0
//
// Backward of the compositing: a warp for each (view, tile), a lane for each Gaussian. The warp takes the tile's entries
// front to back in buckets of 32; pixels stream through the lanes, one step behind each other, so that each lane meets a
// pixel right after the Gaussian in front of it. Every lane sums its own Gaussian's gradient in registers and stores it
// once: no atomics, no reductions, one order of sums. The idea of Gaussian-parallel buckets is that of Mallick et al.,
// "Taming 3DGS", 2024, sec. 4.4. Two numbers travel with a pixel: its transmittance T and
//   rest = dL/d(colour) . (what lies behind the Gaussians met so far),
// which begins as dL/d(colour) . (final colour) and needs no checkpoints, because one warp walks all buckets of a tile
// and keeps the pixels' state in shared memory.
#pragma once

#include "composite.cuh"

namespace deblurgs {

constexpr int kBackwardWarps = 4; // tiles per block, independent of each other

struct WarpTile {
    float t[kTilePixels], rest[kTilePixels];
    float v[3][kTilePixels]; // dL/d(this view's encoded colour)
    u32 queue_slots[2 * kWarp], queue_masks[2 * kWarp];
};

struct BackwardArguments {
    const Record* records;
    const u32* owners;
    float* sums; // [slots, kSlotSums]
    i64 slot_base;
    int left, top;
};

// The first `count` (1..32) entries of the queue meet all pixels.
DEBLURGS_DEVICE void walk_bucket(WarpTile& tile, const BackwardArguments& a, int count) {
    const int lane = lane_index();
    const bool active = lane < count;
    const u32 slot = active ? tile.queue_slots[lane] : 0u, mask = active ? tile.queue_masks[lane] : 0u;
    Record r{};
    if (active) r = a.records[a.owners[slot]];
    // Sub-tiles that any entry of the bucket touched, three bits each, in the order they are walked.
    u32 order = 0;
    int num_subs = 0;
    for (u32 sub = 0; sub < kSubTiles; ++sub)
        if (__any_sync(kFullMask, (mask >> sub) & 1u)) order |= sub << (3 * num_subs++);

    float s0 = 0.0f, sx = 0.0f, sy = 0.0f, sxx = 0.0f, sxy = 0.0f, syy = 0.0f, red = 0.0f, green = 0.0f, blue = 0.0f;
    float t = 0.0f, rest = 0.0f;
    const int num_pixels = kWarp * num_subs, steps = num_pixels + count - 1;
    for (int step = 0; step < steps; ++step) {
        const float t_in_front = __shfl_up_sync(kFullMask, t, 1), rest_in_front = __shfl_up_sync(kFullMask, rest, 1);
        const int place = step - lane;
        if (active && place >= 0 && place < num_pixels) {
            const u32 sub = (order >> (3 * (place / kWarp))) & 7u;
            const int px = (int)sub * kWarp + place % kWarp;
            t = lane == 0 ? tile.t[px] : t_in_front;
            rest = lane == 0 ? tile.rest[px] : rest_in_front;
            if (((mask >> sub) & 1u) && t >= DEBLURGS_TRANSMITTANCE_STOP) {
                const float dx = (float)(a.left + pixel_x(px)) + 0.5f - r.x, dy = (float)(a.top + pixel_y(px)) + 0.5f - r.y;
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
        float* out = a.sums + ((i64)slot - a.slot_base) * kSlotSums;
        out[0] = s0, out[1] = sx, out[2] = sy, out[3] = sxx, out[4] = sxy, out[5] = syy;
        out[6] = red, out[7] = green, out[8] = blue;
    }
    __syncwarp();
}

} // namespace deblurgs

// Grid over (views of the group) x tiles, kBackwardWarps of them per block. sums [slots of the group, 9] are written for
// every entry. background_sums [V, tiles, 3] may be null.
DEBLURGS_KERNEL __launch_bounds__(128)
deblurgs_raster_backward(const deblurgs::Record* records, const unsigned* owners, const unsigned char* masks,
                         const unsigned* slots, const int* tile_starts, const long long* slot_ends,
                         const deblurgs::ViewPose* poses, const float* finals, const float* image_gradient, float* sums,
                         float* background_sums, int num_gaussians, int first_view, int num_views, int tiles_x, int tiles,
                         int width, int height, int flags) {
    using namespace deblurgs;
    __shared__ WarpTile warp_tiles[kBackwardWarps];
    const i64 which = (i64)blockIdx.x * kBackwardWarps + warp_index();
    if (which >= (i64)num_views * tiles) return; // whole warps; warps never wait for each other
    WarpTile& tile = warp_tiles[warp_index()];
    const int lane = lane_index();
    const int view = first_view + (int)(which / tiles), tile_index = (int)(which % tiles);
    const i64 row = (i64)view * tiles + tile_index;
    BackwardArguments a;
    a.records = records;
    a.owners = owners;
    a.sums = sums;
    a.slot_base = first_view > 0 && num_gaussians > 0 ? slot_ends[(i64)first_view * num_gaussians - 1] : 0;
    a.left = (tile_index % tiles_x) * DEBLURGS_TILE;
    a.top = (tile_index / tiles_x) * DEBLURGS_TILE;

    const bool linear = (flags & DEBLURGS_LINEAR_MEAN) != 0;
    const float view_weight = poses[view].weight;
    for (int px = lane; px < kTilePixels; px += kWarp) {
        const int column = a.left + pixel_x(px), line = a.top + pixel_y(px);
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
    __syncwarp();

    const int begin = tile_starts[row], end = tile_starts[row + 1];
    int queued = 0;
    for (int at = begin; at < end; at += kWarp) {
        const int i = at + lane;
        u32 slot = 0, mask = 0;
        if (i < end) {
            slot = slots[i];
            mask = masks[slot];
        }
        // Entries that touched nothing hand on zeros and take no lane.
        const u32 kept = __ballot_sync(kFullMask, mask != 0);
        if (mask) {
            const int place = queued + __popc(kept & lanes_below(lane));
            tile.queue_slots[place] = slot;
            tile.queue_masks[place] = mask;
        } else if (i < end) {
            float* out = sums + ((i64)slot - a.slot_base) * kSlotSums;
            for (int k = 0; k < kSlotSums; ++k) out[k] = 0.0f;
        }
        queued += __popc(kept);
        __syncwarp();
        if (queued >= kWarp) {
            walk_bucket(tile, a, kWarp);
            queued -= kWarp;
            const bool moves = lane < queued;
            const u32 moved_slot = moves ? tile.queue_slots[kWarp + lane] : 0u;
            const u32 moved_mask = moves ? tile.queue_masks[kWarp + lane] : 0u;
            __syncwarp();
            if (moves) {
                tile.queue_slots[lane] = moved_slot;
                tile.queue_masks[lane] = moved_mask;
            }
            __syncwarp();
        }
    }
    if (queued > 0) walk_bucket(tile, a, queued);

    if (background_sums) {
        float total[3] = {0.0f, 0.0f, 0.0f};
        for (int px = lane; px < kTilePixels; px += kWarp)
            for (int c = 0; c < 3; ++c) total[c] = fmaf(tile.t[px], tile.v[c][px], total[c]);
        for (int c = 0; c < 3; ++c) {
            const float sum = warp_sum(total[c]);
            if (lane == 0) background_sums[3 * row + c] = sum;
        }
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
