// SPDX-License-Identifier: Apache-2.0
//
// Compositing of one 16x16 tile, forward and backward. A tile is made of micro-tiles of 4 x (kLanes/4) pixels, one
// vector each. Binning uses the exact extent of alpha >= 1/255, an exact ellipse test picks the micro-tiles, and the
// surviving ones are remembered for the backward pass.
#pragma once

#include "color.inl"
#include "kernels.h"
#include "simd.h"

namespace deblurgs {
namespace DEBLURGS_ISA {

constexpr int kMicros = kTilePixels / kLanes;  // micro-tiles of a tile
constexpr int kMicroHeight = kLanes / 4;
constexpr int kMicroVectors = kMicros / kLanes; // vectors with one lane per micro-tile
constexpr int kChunk = 32;                      // entries prepared at once
constexpr float kHalfTile = DEBLURGS_TILE / 2;

#if defined(DEBLURGS_AVX512)
typedef uint16_t MicroMask;
#else
typedef uint32_t MicroMask;
#endif
static_assert(sizeof(MicroMask) * 8 == kMicros, "one bit per micro-tile");

// Pixel centres of every micro-tile about the tile's centre, and the box of those centres.
struct PixelTable {
    alignas(64) float x[kTilePixels], y[kTilePixels], xx[kTilePixels], xy[kTilePixels], yy[kTilePixels];
    alignas(64) float left[kMicros], top[kMicros];
    constexpr PixelTable() : x(), y(), xx(), xy(), yy(), left(), top() {
        for (int m = 0; m < kMicros; ++m) {
            left[m] = (float)((m % 4) * 4) + 0.5f - kHalfTile;
            top[m] = (float)((m / 4) * kMicroHeight) + 0.5f - kHalfTile;
            for (int l = 0; l < kLanes; ++l) {
                const int i = m * kLanes + l;
                x[i] = left[m] + (float)(l % 4);
                y[i] = top[m] + (float)(l / 4);
                xx[i] = x[i] * x[i];
                xy[i] = x[i] * y[i];
                yy[i] = y[i] * y[i];
            }
        }
    }
};
static constexpr PixelTable kPixels;

// log2 alpha = k0 + x (kx + kxx x + kxy y) + y (ky + kyy y) about the tile's centre.
struct Quadratic {
    float k0, kx, ky, kxx, kxy, kyy;
};
DEBLURGS_INLINE Quadratic quadratic_at(const Record& r, float dx, float dy) {
    return {r.log2_opacity + r.qa * dx * dx + r.qb * dx * dy + r.qc * dy * dy,
            -2.0f * r.qa * dx - r.qb * dy,
            -2.0f * r.qc * dy - r.qb * dx,
            r.qa,
            r.qb,
            r.qc};
}
DEBLURGS_INLINE F evaluate(const Quadratic& q, F x, F y) {
    F a = fma(F(q.kxy), y, F(q.kx));
    a = fma(F(q.kxx), x, a);
    F b = fma(F(q.kyy), y, F(q.ky));
    a = fma(x, a, F(q.k0));
    return fma(y, b, a);
}

// Micro-tiles whose box of pixel centres meets the ellipse alpha >= 1/255. The maximum of a concave quadratic over a box
// that excludes its peak lies on one of the (at most two) sides that face the peak.
DEBLURGS_INLINE uint32_t micro_mask(const Record& r, float dx, float dy) {
    uint32_t mask = 0;
    const F zero(0.0f), qa(r.qa), qb(r.qb), qc(r.qc);
    // The margin keeps rounding from dropping a pixel that the pixel's own test would accept.
    const F level(kLog2Cutoff - 1e-3f - r.log2_opacity);
    for (int i = 0; i < kMicroVectors; ++i) {
        const F x0 = F::load(kPixels.left + i * kLanes) - F(dx), x1 = x0 + F(3.0f);
        const F y0 = F::load(kPixels.top + i * kLanes) - F(dy), y1 = y0 + F((float)(kMicroHeight - 1));
        const F near_x = max(x0, min(x1, zero)), near_y = max(y0, min(y1, zero));
        const F along_y = max(y0, min(y1, F(r.slope_y) * near_x));
        const F along_x = max(x0, min(x1, F(r.slope_x) * near_y));
        const F p = fma(near_x, fma(qa, near_x, qb * along_y), qc * along_y * along_y);
        const F q = fma(near_y, fma(qc, near_y, qb * along_x), qa * along_x * along_x);
        mask |= bits(max(p, q) >= level) << (i * kLanes);
    }
    return mask;
}

// Appends (entry, micro-tile) pairs for the set bits of a mask. May write up to 16 numbers beyond the returned end.
#if defined(DEBLURGS_AVX512)
typedef uint32_t Pair;
DEBLURGS_INLINE Pair* append_pairs(Pair* out, int entry, uint32_t mask) {
    const __m512i index = _mm512_add_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                                           _mm512_set1_epi32(entry * kMicros));
    _mm512_storeu_si512(out, _mm512_maskz_compress_epi32((__mmask16)mask, index));
    return out + __builtin_popcount(mask);
}
#else
typedef uint16_t Pair;
typedef uint16_t Eight __attribute__((vector_size(16)));
struct CompressTable {
    alignas(16) uint16_t index[256][8];
    uint8_t count[256];
    constexpr CompressTable() : index(), count() {
        for (int m = 0; m < 256; ++m) {
            int n = 0;
            for (int b = 0; b < 8; ++b)
                if ((m >> b) & 1) index[m][n++] = (uint16_t)b;
            count[m] = (uint8_t)n;
        }
    }
};
static constexpr CompressTable kCompress;
DEBLURGS_INLINE Pair* append_pairs(Pair* out, int entry, uint32_t mask) {
    for (int byte = 0; byte < kMicros / 8; ++byte) {
        const uint32_t part = (mask >> (8 * byte)) & 255u;
        Eight v;
        memcpy(&v, kCompress.index[part], sizeof v);
        v += (uint16_t)(entry * kMicros + byte * 8);
        memcpy(out, &v, sizeof v);
        out += kCompress.count[part];
    }
    return out;
}
#endif

struct ChunkEntry {
    Quadratic q;
    float r, g, b, z;
    uint32_t gaussian, slot;
    float pad[4];
};
static_assert(sizeof(ChunkEntry) == 64, "one cache line");

// Alphas of a micro-tile's pixels, zero below the cut-off.
DEBLURGS_INLINE F quadratic_alpha(const Quadratic& q, int px) {
    const F p = evaluate(q, F::load(kPixels.x + px), F::load(kPixels.y + px));
    return keep(p >= F(kLog2Cutoff), exp2_alpha(p));
}
DEBLURGS_INLINE F pair_alpha(const ChunkEntry* chunk, Pair pair) {
    return quadratic_alpha(chunk[pair / kMicros].q, (int)(pair % kMicros) * kLanes);
}

// What a tile accumulates over the views.
struct TileSums {
    alignas(64) float color[3][kTilePixels], alpha[kTilePixels], depth[kTilePixels];
};

// Pixels of the tile that lie in the image: transmittance 1, else 0, which no test ever passes.
inline void start_transmittance(const Job& job, int tile, float* t) {
    const int left = (tile % job.tiles_x) * DEBLURGS_TILE, top = (tile / job.tiles_x) * DEBLURGS_TILE;
    const F limit_x((float)(job.in->width - left) - kHalfTile), limit_y((float)(job.in->height - top) - kHalfTile);
    for (int i = 0; i < kTilePixels; i += kLanes) {
        const M inside = (F::load(kPixels.x + i) < limit_x) & (F::load(kPixels.y + i) < limit_y);
        keep(inside, F(1.0f)).store(t + i);
    }
}

template <bool kDepth> inline int64_t forward_tile_view(const Job& job, int tile, int view, TileSums& total) {
    const ViewState& state = job.views[view];
    const float center_x = (float)((tile % job.tiles_x) * DEBLURGS_TILE) + kHalfTile;
    const float center_y = (float)((tile / job.tiles_x) * DEBLURGS_TILE) + kHalfTile;
    alignas(64) float t[kTilePixels], color[3][kTilePixels], depth[kDepth ? kTilePixels : 1];
    alignas(64) float start[kTilePixels];
    start_transmittance(job, tile, start);
    memcpy(t, start, sizeof t);
    memset(color, 0, sizeof color);
    if (kDepth) memset(depth, 0, sizeof depth);
    ChunkEntry chunk[kChunk];
    Pair pairs[kChunk * kMicros + 32];
    uint32_t touched[kChunk];

    uint32_t alive = kMicros == 32 ? ~0u : (1u << (kMicros % 32)) - 1u;
    const F zero(0.0f), stop(DEBLURGS_TRANSMITTANCE_STOP);
    const uint32_t begin = state.tile_start[tile], end = state.tile_start[tile + 1];
    int64_t evaluated = 0;
    uint32_t at = begin;
    while (at < end && alive) {
        const int count = end - at < kChunk ? (int)(end - at) : kChunk;
        for (int e = 0; e < count && at + kChunk + e < end; ++e)
            __builtin_prefetch(&state.records[state.entries[at + kChunk + e]]);
        Pair* last = pairs;
        for (int e = 0; e < count; ++e) {
            const uint32_t gaussian = state.entries[at + e];
            const Record& r = state.records[gaussian];
            const float dx = r.x - center_x, dy = r.y - center_y;
            const uint32_t mask = micro_mask(r, dx, dy) & alive;
            ChunkEntry& c = chunk[e];
            c.q = quadratic_at(r, dx, dy);
            c.r = r.r, c.g = r.g, c.b = r.b, c.z = r.z;
            c.gaussian = gaussian;
            const int tx = tile % job.tiles_x - r.tile_x0, ty = tile / job.tiles_x - r.tile_y0;
            c.slot = r.slot + (uint32_t)(ty * (r.tile_x1 - r.tile_x0) + tx);
            touched[e] = 0;
            last = append_pairs(last, e, mask);
        }
        const int num_pairs = (int)(last - pairs);
        evaluated += num_pairs;
        // Alphas of the next pair are under way while this one is composited: alone, the chain of the polynomials would
        // be waited for.
        pairs[num_pairs] = 0;
        F next = num_pairs ? pair_alpha(chunk, pairs[0]) : F(0.0f);
        for (int i = 0; i < num_pairs; ++i) {
            const uint32_t pair = pairs[i], e = pair / kMicros, m = pair % kMicros;
            const F alpha = next;
            next = pair_alpha(chunk, pairs[i + 1]);
            const ChunkEntry& c = chunk[e];
            const int px = (int)m * kLanes;
            const F before = F::load(t + px);
            const F weight = before * keep(before >= stop, alpha);
            touched[e] |= (uint32_t)(bits(weight > zero) != 0) << m;
            (before - weight).store(t + px);
            fma(weight, F(c.r), F::load(color[0] + px)).store(color[0] + px);
            fma(weight, F(c.g), F::load(color[1] + px)).store(color[1] + px);
            fma(weight, F(c.b), F::load(color[2] + px)).store(color[2] + px);
            if (kDepth) fma(weight, F(c.z), F::load(depth + px)).store(depth + px);
        }
        for (int e = 0; e < count; ++e) {
            if (job.keep) {
                const MicroMask mask = (MicroMask)touched[e];
                memcpy(state.masks + (size_t)chunk[e].slot * sizeof mask, &mask, sizeof mask);
            }
            if (job.out.visible && touched[e]) __atomic_store_n(&job.out.visible[chunk[e].gaussian], 1, __ATOMIC_RELAXED);
        }
        at += (uint32_t)count;
        for (int m = 0; m < kMicros; ++m)
            if (!any(F::load(t + m * kLanes) >= stop)) alive &= ~(1u << m);
    }
    // Entries behind the point where every pixel stopped have no live micro-tile.
    if (job.keep)
        for (; at < end; ++at) {
            const Record& r = state.records[state.entries[at]];
            const int tx = tile % job.tiles_x - r.tile_x0, ty = tile / job.tiles_x - r.tile_y0;
            const uint32_t slot = r.slot + (uint32_t)(ty * (r.tile_x1 - r.tile_x0) + tx);
            memset(state.masks + (size_t)slot * sizeof(MicroMask), 0, sizeof(MicroMask));
        }

    const F weight(job.poses[view].weight);
    const bool linear = (job.in->flags & DEBLURGS_LINEAR_MEAN) != 0;
    float* kept = state.final_color ? state.final_color + (size_t)tile * 3 * kTilePixels : nullptr;
    for (int c = 0; c < 3; ++c) {
        const F background(job.in->background ? job.in->background[c] : 0.0f);
        for (int i = 0; i < kTilePixels; i += kLanes) {
            const F value = fma(F::load(t + i), background, F::load(color[c] + i));
            if (kept) value.store(kept + c * kTilePixels + i);
            const F shown = linear ? linear_from_srgb(value) : value;
            fma(weight, shown, F::load(total.color[c] + i)).store(total.color[c] + i);
        }
    }
    if (job.out.alpha)
        for (int i = 0; i < kTilePixels; i += kLanes)
            fma(weight, F::load(start + i) - F::load(t + i), F::load(total.alpha + i)).store(total.alpha + i);
    if (kDepth)
        for (int i = 0; i < kTilePixels; i += kLanes)
            fma(weight, F::load(depth + i), F::load(total.depth + i)).store(total.depth + i);
    return evaluated * kLanes;
}

inline int64_t forward_tile(const Job* job_ptr, int tile) {
    const Job& job = *job_ptr;
    TileSums total;
    memset(&total, 0, sizeof total);
    int64_t evaluated = 0;
    for (int v = 0; v < job.in->num_views; ++v)
        evaluated += job.out.depth ? forward_tile_view<true>(job, tile, v, total)
                                   : forward_tile_view<false>(job, tile, v, total);
    const int left = (tile % job.tiles_x) * DEBLURGS_TILE, top = (tile / job.tiles_x) * DEBLURGS_TILE;
    const int width = job.in->width, height = job.in->height;
    for (int i = 0; i < kTilePixels; ++i) {
        const int x = left + (int)(kPixels.x[i] + kHalfTile), y = top + (int)(kPixels.y[i] + kHalfTile);
        if (x >= width || y >= height) continue;
        const size_t at = (size_t)y * width + x;
        for (int c = 0; c < 3; ++c) job.out.image[3 * at + c] = total.color[c][i];
        if (job.out.alpha) job.out.alpha[at] = total.alpha[i];
        if (job.out.depth) job.out.depth[at] = total.depth[i];
    }
    return evaluated;
}

// The image gradient of one tile in planes and in the order of micro-tiles, zero outside the image; read once per view.
inline void spread_gradient(const Job* job_ptr, int tile) {
    const Job& job = *job_ptr;
    const int left = (tile % job.tiles_x) * DEBLURGS_TILE, top = (tile / job.tiles_x) * DEBLURGS_TILE;
    const int width = job.in->width, height = job.in->height;
    float* out = job.tile_gradient + (size_t)tile * 3 * kTilePixels;
    for (int i = 0; i < kTilePixels; ++i) {
        const int x = left + (int)(kPixels.x[i] + kHalfTile), y = top + (int)(kPixels.y[i] + kHalfTile);
        const bool inside = x < width && y < height;
        const float* g = job.image_gradient + (inside ? 3 * ((size_t)y * width + x) : 0);
        for (int c = 0; c < 3; ++c) out[c * kTilePixels + i] = inside ? g[c] : 0.0f;
    }
}

inline void backward_tile(const Job* job_ptr, int view, int tile) {
    const Job& job = *job_ptr;
    const ViewState& state = job.views[view];
    const int left = (tile % job.tiles_x) * DEBLURGS_TILE, top = (tile / job.tiles_x) * DEBLURGS_TILE;
    const float center_x = (float)left + kHalfTile, center_y = (float)top + kHalfTile;
    const bool linear = (job.in->flags & DEBLURGS_LINEAR_MEAN) != 0;
    // v = dL/d(this view's final colour); rest = v . (what lies behind the Gaussians walked so far).
    alignas(64) float t[kTilePixels], v[3][kTilePixels], rest[kTilePixels];
    start_transmittance(job, tile, t);
    const float* image_gradient = job.tile_gradient + (size_t)tile * 3 * kTilePixels;
    const F view_weight(job.poses[view].weight);
    const float* final_color = state.final_color + (size_t)tile * 3 * kTilePixels;
    for (int i = 0; i < kTilePixels; i += kLanes) {
        F sum_rest(0.0f);
        for (int c = 0; c < 3; ++c) {
            const F value = F::load(final_color + c * kTilePixels + i);
            F g = view_weight * F::load(image_gradient + c * kTilePixels + i);
            if (linear) g *= linear_from_srgb_slope(value);
            g.store(v[c] + i);
            sum_rest = fma(g, value, sum_rest);
        }
        sum_rest.store(rest + i);
    }

    const F stop(DEBLURGS_TRANSMITTANCE_STOP), one(1.0f);
    const uint32_t end = state.tile_start[tile + 1];
    for (uint32_t at = state.tile_start[tile]; at < end; ++at) {
        if (at + 8 < end) __builtin_prefetch(&state.records[state.entries[at + 8]]);
        const Record& r = state.records[state.entries[at]];
        const int tx = tile % job.tiles_x - r.tile_x0, ty = tile / job.tiles_x - r.tile_y0;
        const uint32_t slot = r.slot + (uint32_t)(ty * (r.tile_x1 - r.tile_x0) + tx);
        MicroMask micro;
        memcpy(&micro, state.masks + (size_t)slot * sizeof micro, sizeof micro);
        uint32_t mask = micro;
        if (!mask) continue;
        const Quadratic q = quadratic_at(r, r.x - center_x, r.y - center_y);
        const F red(r.r), green(r.g), blue(r.b);
        F sums[9];
        for (int k = 0; k < 9; ++k) sums[k] = F(0.0f);
        // As in the forward pass, the next micro-tile's alphas are under way while this one's gradients are summed.
        // Looking ahead past the last micro-tile costs less than the branch that would prevent it, where they are small.
        constexpr bool kLookAhead = kLanes == 8;
        int px = __builtin_ctz(mask) * kLanes;
        F next = quadratic_alpha(q, px);
        do {
            const int at_px = px;
            const F alpha_raw = next;
            mask &= mask - 1;
            if (kLookAhead || mask) {
                px = __builtin_ctz(mask | 1u << (kMicros - 1)) * kLanes;
                next = quadratic_alpha(q, px);
            }
            const F x = F::load(kPixels.x + at_px), y = F::load(kPixels.y + at_px), before = F::load(t + at_px);
            const F alpha = keep(before >= stop, alpha_raw);
            const F weight = before * alpha;
            (before - weight).store(t + at_px);
            const F vr = F::load(v[0] + at_px), vg = F::load(v[1] + at_px), vb = F::load(v[2] + at_px);
            const F shade = fma(red, vr, fma(green, vg, blue * vb));
            const F behind = fnma(weight, shade, F::load(rest + at_px));
            behind.store(rest + at_px);
            // dL/d ln alpha = weight (c . v) - behind alpha / (1 - alpha).
            const F s = fnma(behind * alpha, rcp(one - alpha), weight * shade);
            sums[0] += s;
            sums[1] = fma(s, x, sums[1]);
            sums[2] = fma(s, y, sums[2]);
            sums[3] = fma(s, F::load(kPixels.xx + at_px), sums[3]);
            sums[4] = fma(s, F::load(kPixels.xy + at_px), sums[4]);
            sums[5] = fma(s, F::load(kPixels.yy + at_px), sums[5]);
            sums[6] = fma(weight, vr, sums[6]);
            sums[7] = fma(weight, vg, sums[7]);
            sums[8] = fma(weight, vb, sums[8]);
        } while (mask);
        sum_nine(sums, job.slots[slot].value);
    }

    if (job.tile_background)
        for (int c = 0; c < 3; ++c) {
            F total(0.0f);
            for (int i = 0; i < kTilePixels; i += kLanes) total = fma(F::load(t + i), F::load(v[c] + i), total);
            job.tile_background[tile * 3 + c] += sum(total);
        }
}

} // namespace DEBLURGS_ISA
} // namespace deblurgs
