// SPDX-License-Identifier: Apache-2.0
//
// Compositing: a block of eight warps for each (tile, group of views), a thread for each pixel, a warp for each sub-tile.
// A block walks its views one after the other and keeps their weighted mean in registers.
#pragma once

#include "composite.cuh"

namespace deblurgs {

constexpr int kForwardChunk = 128; // entries held in shared memory at once

} // namespace deblurgs

// Grid (tiles, groups). images [groups,H,W,3], alphas and depths [groups,H,W]: sums over the views of the group.
// finals [V,tiles,3,256]: encoded colour of each view with the background, null without a backward pass; then `masks` of
// the entries are narrowed to the sub-tiles that they really touched. visible [N] may be null; it is only ever set.
// Four blocks on a multiprocessor leave 64 registers to a thread; left to itself, ptxas spills for six.
DEBLURGS_KERNEL __launch_bounds__(256, 4)
deblurgs_raster_forward(const deblurgs::Record* records, const unsigned* owners, unsigned char* masks,
                        const unsigned* slots, const int* tile_starts, const deblurgs::ViewPose* poses,
                        const float* background, float* images, float* alphas, float* depths, float* finals,
                        unsigned char* visible, int num_gaussians, int num_views, int views_per_group, int tiles_x,
                        int tiles, int width, int height, int flags) {
    using namespace deblurgs;
    __shared__ float rows[10][kForwardChunk]; // x y qa qb qc log2_opacity r g b z
    __shared__ u32 chunk_masks[kForwardChunk], touched[kForwardChunk];
    __shared__ u32 alive[2]; // warps with a pixel that still lets light through, by parity of the chunk

    const int warp = warp_index(), lane = lane_index(), px = (int)threadIdx.x;
    const int tile = (int)blockIdx.x, group = (int)blockIdx.y;
    const int left = (tile % tiles_x) * DEBLURGS_TILE, top = (tile / tiles_x) * DEBLURGS_TILE;
    const int column = left + pixel_x(px), line = top + pixel_y(px);
    const bool inside = column < width && line < height;
    const float center_x = (float)column + 0.5f, center_y = (float)line + 0.5f;
    const bool linear = (flags & DEBLURGS_LINEAR_MEAN) != 0;
    const float shade[3] = {background ? background[0] : 0.0f, background ? background[1] : 0.0f,
                            background ? background[2] : 0.0f};

    float mean_r = 0.0f, mean_g = 0.0f, mean_b = 0.0f, mean_alpha = 0.0f, mean_depth = 0.0f;
    const int first_view = group * views_per_group;
    const int last_view = first_view + views_per_group < num_views ? first_view + views_per_group : num_views;
    for (int view = first_view; view < last_view; ++view) {
        const int begin = tile_starts[(i64)view * tiles + tile], end = tile_starts[(i64)view * tiles + tile + 1];
        // Pixels outside the image start dark, which no test ever passes.
        float t = inside ? 1.0f : 0.0f, r = 0.0f, g = 0.0f, b = 0.0f, depth = 0.0f;
        bool any_alive = true;
        int parity = 0;
        for (int at = begin; at < end; at += kForwardChunk, parity ^= 1) {
            const int count = end - at < kForwardChunk ? end - at : kForwardChunk;
            u32 slot = 0, gaussian = 0;
            if (px < kForwardChunk) {
                chunk_masks[px] = touched[px] = 0;
                if (px < count) {
                    slot = slots[at + px];
                    if (any_alive) {
                        const u32 row = owners[slot];
                        const Record record = records[row];
                        gaussian = row - (u32)view * (u32)num_gaussians;
                        rows[0][px] = record.x, rows[1][px] = record.y;
                        rows[2][px] = record.qa, rows[3][px] = record.qb, rows[4][px] = record.qc;
                        rows[5][px] = record.log2_opacity;
                        rows[6][px] = record.r, rows[7][px] = record.g, rows[8][px] = record.b;
                        rows[9][px] = record.z;
                        chunk_masks[px] = masks[slot];
                    }
                }
            }
            if (px == 0) alive[parity] = 0;
            __syncthreads();
            if (any_alive) {
                for (int first = 0; first < count; first += kWarp) {
                    u32 todo = __ballot_sync(kFullMask, (chunk_masks[first + lane] >> warp) & 1u);
                    if (!__any_sync(kFullMask, t >= DEBLURGS_TRANSMITTANCE_STOP)) break;
                    while (todo) {
                        const int e = first + __ffs((int)todo) - 1;
                        todo &= todo - 1u;
                        const float alpha = pixel_alpha(rows[2][e], rows[3][e], rows[4][e], rows[5][e],
                                                        center_x - rows[0][e], center_y - rows[1][e]);
                        const bool adds = alpha > 0.0f && t >= DEBLURGS_TRANSMITTANCE_STOP;
                        if (adds) {
                            const float weight = __fmul_rn(t, alpha);
                            r = fmaf(weight, rows[6][e], r);
                            g = fmaf(weight, rows[7][e], g);
                            b = fmaf(weight, rows[8][e], b);
                            depth = fmaf(weight, rows[9][e], depth);
                            t = behind(t, alpha);
                        }
                        const bool any_adds = __any_sync(kFullMask, adds);
                        if (any_adds && lane == 0) atomicOr(&touched[e], 1u << warp);
                    }
                }
                const bool warp_alive = __any_sync(kFullMask, t >= DEBLURGS_TRANSMITTANCE_STOP);
                if (lane == 0 && warp_alive) atomicOr(&alive[parity], 1u << warp);
            }
            __syncthreads();
            if (px < count) { // count <= kForwardChunk
                if (finals) masks[slot] = (u8)touched[px];
                if (visible && touched[px]) visible[gaussian] = 1; // all writers write the same
            }
            any_alive = alive[parity] != 0;
            // Behind the point where every pixel stopped, only masks have to be cleared.
            if (!any_alive && !finals) break;
        }
        const float value[3] = {fmaf(t, shade[0], r), fmaf(t, shade[1], g), fmaf(t, shade[2], b)};
        if (finals) {
            float* kept = finals + ((i64)view * tiles + tile) * 3 * kTilePixels + px;
            kept[0] = value[0];
            kept[kTilePixels] = value[1];
            kept[2 * kTilePixels] = value[2];
        }
        const float weight = poses[view].weight;
        mean_r = fmaf(weight, linear ? linear_from_srgb(value[0]) : value[0], mean_r);
        mean_g = fmaf(weight, linear ? linear_from_srgb(value[1]) : value[1], mean_g);
        mean_b = fmaf(weight, linear ? linear_from_srgb(value[2]) : value[2], mean_b);
        mean_alpha = fmaf(weight, 1.0f - t, mean_alpha);
        mean_depth = fmaf(weight, depth, mean_depth);
        __syncthreads(); // the next view writes rows and touched again
    }
    if (!inside) return;
    const i64 out = ((i64)group * height + line) * width + column;
    images[3 * out] = mean_r;
    images[3 * out + 1] = mean_g;
    images[3 * out + 2] = mean_b;
    alphas[out] = mean_alpha;
    depths[out] = mean_depth;
}
