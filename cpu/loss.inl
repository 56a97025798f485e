// SPDX-License-Identifier: Apache-2.0
//
// L1, SSIM (Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004) and L1 of the
// steps between neighbouring pixels, with the gradient, in one sweep down a band of rows of one channel: a row enters
// display space and is blurred across; five rows behind it moments, SSIM and its slopes appear and the slopes are blurred
// across; another five behind, steps and gradient. Everything in between lives in rings of eleven rows that stay in the
// cache. Windows reach over the border into zeros, as a padded convolution does.
#pragma once

#include "color.inl"
#include "kernels.h"
#include "simd.h"

namespace deblurgs {
namespace DEBLURGS_ISA {

constexpr float kC1 = 0.01f * 0.01f, kC2 = 0.03f * 0.03f;
constexpr int kReach = kLossTaps / 2, kMaps = 4;
// exp(-0.5 (i / 1.5)^2) for i = -5..5, divided by its sum.
static constexpr float kTaps[kLossTaps] = {1.028380123e-03f, 7.598758135e-03f, 3.600077213e-02f, 1.093606895e-01f,
                                           2.130055377e-01f, 2.660117249e-01f, 2.130055377e-01f, 1.093606895e-01f,
                                           3.600077213e-02f, 7.598758135e-03f, 1.028380123e-03f};

// The window is symmetric: pairs of equal taps are added first.
DEBLURGS_INLINE F weighted(const F v[kLossTaps]) {
    F r = v[kReach] * F(kTaps[kReach]);
    for (int k = 0; k < kReach; ++k) r = fma(v[k] + v[kLossTaps - 1 - k], F(kTaps[k]), r);
    return r;
}
DEBLURGS_INLINE F blur_across(const float* row) {
    F v[kLossTaps];
#if defined(DEBLURGS_AVX512)
    // Shifting registers beats loads that straddle cache lines, as all but one of the eleven would.
    const __m512i a = _mm512_loadu_si512(row - 16), b = _mm512_loadu_si512(row), c = _mm512_loadu_si512(row + 16);
#define DEBLURGS_SHIFT(k) _mm512_castsi512_ps(k < 5 ? _mm512_alignr_epi32(b, a, 11 + k) : _mm512_alignr_epi32(c, b, k - 5))
    v[0] = DEBLURGS_SHIFT(0), v[1] = DEBLURGS_SHIFT(1), v[2] = DEBLURGS_SHIFT(2), v[3] = DEBLURGS_SHIFT(3);
    v[4] = DEBLURGS_SHIFT(4), v[5] = DEBLURGS_SHIFT(5), v[6] = DEBLURGS_SHIFT(6), v[7] = DEBLURGS_SHIFT(7);
    v[8] = DEBLURGS_SHIFT(8), v[9] = DEBLURGS_SHIFT(9), v[10] = DEBLURGS_SHIFT(10);
#undef DEBLURGS_SHIFT
#else
    for (int k = 0; k < kLossTaps; ++k) v[k] = F::load(row - kReach + k);
#endif
    return weighted(v);
}
DEBLURGS_INLINE F blur_down(const float* const rows[kLossTaps], size_t at) {
    F v[kLossTaps];
    for (int k = 0; k < kLossTaps; ++k) v[k] = F::load(rows[k] + at);
    return weighted(v);
}
// Rows -2 kReach and later.
DEBLURGS_INLINE size_t ring_row(int row) { return (size_t)((row + 4 * kLossTaps) % kLossTaps); }

// Weights of kLanes pixels from column i on; zero beyond the right border.
DEBLURGS_INLINE F pixel_weights(const LossJob& job, int row, int i) {
    const float* weight = job.weight ? job.weight + (size_t)row * job.width + i : nullptr;
    const int n = job.width - i;
    if (n >= kLanes) return weight ? F::load(weight) : F(1.0f);
    alignas(64) float t[kLanes];
    for (int l = 0; l < kLanes; ++l) t[l] = l >= n ? 0.0f : weight ? weight[l] : 1.0f;
    return F::load(t);
}

// One row of one channel: the prediction in display space and its slope, the observation, their difference; zeros left
// and right. Returns the weighted sum of |difference|.
inline float enter_row(const LossJob& job, int channel, int row, float* y, float* x, float* slope, float* apart) {
    const int wide = job.stride - 2 * kLossPad;
    for (int i = -kLossPad; i < 0; ++i) y[i] = x[i] = y[wide - 1 - i] = x[wide - 1 - i] = 0.0f;
    apart[wide] = 0.0f;
    const float* p = job.prediction + 3 * (size_t)row * job.width + channel;
    const float* o = job.observed + 3 * (size_t)row * job.width + channel;
    for (int i = 0; i < job.width; ++i) {
        y[i] = p[3 * i];
        x[i] = o[3 * i];
    }
    for (int i = job.width; i < wide; ++i) y[i] = x[i] = 0.0f;
    F total(0.0f);
    for (int i = 0; i < wide; i += kLanes) {
        const F target = F::load(x + i), weight = pixel_weights(job, row, i);
        F d(1.0f), shown = F::load(y + i);
        if (job.encode_srgb) shown = srgb_from_linear(shown, &d);
        d.store(slope + i);
        const F difference = shown - target;
        difference.store(apart + i);
        // A pixel of weight zero shows the observation itself, so that it does not disturb its neighbours.
        (job.weight ? fma(weight, difference, target) : keep(weight > F(0.0f), shown)).store(y + i);
        total = fma(weight, abs(difference), total);
    }
    return sum(total);
}

// SSIM of row `row` from the blurred moments; its slopes by mean, square and product go to three padded rows. Returns the
// weighted sum of SSIM.
inline float similarity_row(const LossJob& job, int row, const float* const rows[kLossTaps], float* const slopes[3]) {
    const F one(1.0f), two(2.0f), c1(kC1), c2(kC2), factor(job.ssim_factor);
    const int wide = job.stride - 2 * kLossPad;
    F total(0.0f);
    for (int i = 0; i < wide; i += kLanes) {
        F moment[kMaps];
        for (int m = 0; m < kMaps; ++m) moment[m] = blur_down(rows, (size_t)m * kLossTaps * job.stride + i);
        const F mean_y = moment[0], mean_x = moment[1];
        const F n1 = fma(two * mean_y, mean_x, c1);
        const F n2 = fma(two, moment[3] - mean_y * mean_x, c2);
        const F d1 = fma(mean_y, mean_y, fma(mean_x, mean_x, c1));
        const F d2 = moment[2] - fma(mean_y, mean_y, mean_x * mean_x) + c2;
        const F inverse = one / (d1 * d2);
        const F ssim = n1 * n2 * inverse;
        const F weight = pixel_weights(job, row, i);
        total = fma(weight, ssim, total);
        const F g = factor * weight;
        const F pull = (mean_x * (n2 - n1) + ssim * mean_y * (d1 - d2)) * inverse;
        (g * two * pull).store(slopes[0] + i);
        (-g * ssim * (d1 * inverse)).store(slopes[1] + i);
        (g * two * n1 * inverse).store(slopes[2] + i);
    }
    return sum(total);
}

DEBLURGS_INLINE F sign(F a, F size) {
    const F zero(0.0f);
    return select(a > zero, size, select(a < zero, -size, zero));
}

// The steps of the difference from the pixels of a row to their neighbours on the right and below (null: none there),
// as weight times sign. Returns the weighted sum of |step|.
inline float edge_row(const LossJob& job, int row, const float* apart, const float* below, float* across, float* down) {
    const int wide = job.stride - 2 * kLossPad;
    F total(0.0f);
    for (int i = 0; i < wide; i += kLanes) {
        const F here = F::load(apart + i), weight = pixel_weights(job, row, i);
        const F step = F::load(apart + i + 1) - here, both = weight * pixel_weights(job, row, i + 1);
        total = fma(both, abs(step), total);
        sign(step, both).store(across + i);
        if (below) {
            const F fall = F::load(below + i) - here, pair = weight * pixel_weights(job, row + 1, i);
            total = fma(pair, abs(fall), total);
            sign(fall, pair).store(down + i);
        } else {
            F(0.0f).store(down + i);
        }
    }
    across[-1] = 0.0f;
    return sum(total);
}

// across, above, below: from `edge_row` of this row, the row above it, this row; read with edges only.
inline void gradient_row(const LossJob& job, int channel, int row, const float* y, const float* x, const float* slope,
                         const float* const rows[kLossTaps], const float* across, const float* above,
                         const float* below) {
    const int wide = job.stride - 2 * kLossPad;
    const F two(2.0f), l1_factor(job.l1_factor);
    for (int i = 0; i < wide; i += kLanes) {
        const F a = F::load(y + i), b = F::load(x + i);
        F g = sign(a - b, l1_factor);
        if (job.want_ssim) {
            const size_t map = (size_t)kLossTaps * job.stride;
            const F by_mean = blur_down(rows, i), by_square = blur_down(rows, map + i);
            g += fma(b, blur_down(rows, 2 * map + i), fma(two * a, by_square, by_mean));
        }
        if (job.weight) g *= pixel_weights(job, row, i);
        if (job.want_edges)
            g = fma(F(job.edge_factor),
                    F::load(across + i - 1) - F::load(across + i) + F::load(above + i) - F::load(below + i), g);
        g *= F::load(slope + i);
        alignas(64) float t[kLanes];
        g.store(t);
        float* out = job.gradient + 3 * ((size_t)row * job.width + i) + channel;
        const int n = job.width - i < kLanes ? job.width - i : kLanes;
        for (int l = 0; l < n; ++l) out[3 * l] = t[l];
    }
}

inline void loss_band(const LossJob* job_ptr, int task, int worker) {
    const LossJob& job = *job_ptr;
    // Neighbouring tasks are bands, not channels: channels share cache lines of the gradient.
    const int channel = task / job.bands, band = task % job.bands;
    const int begin = band * job.rows_per_band;
    const int end = begin + job.rows_per_band < job.height ? begin + job.rows_per_band : job.height;
    const size_t stride = (size_t)job.stride;
    const int wide = job.stride - 2 * kLossPad;
    float* y_ring = job.scratch + (size_t)worker * kLossScratchRows * stride + kLossPad;
    float* x_ring = y_ring + kLossTaps * stride;
    float* slope_ring = x_ring + kLossTaps * stride;
    float* apart_ring = slope_ring + kLossTaps * stride;
    float* moment_ring = apart_ring + kLossTaps * stride;
    float* pull_ring = moment_ring + kMaps * kLossTaps * stride;
    float* squares = pull_ring + 3 * kLossTaps * stride;
    float* product = squares + stride;
    float* const slopes[3] = {product + stride, product + 2 * stride, product + 3 * stride};
    float* across = product + 4 * stride;
    float *above = product + 5 * stride, *below = product + 6 * stride;
    memset(above, 0, sizeof(float) * wide);
    for (float* row : slopes)
        for (int i = 1; i <= kLossPad; ++i) row[-i] = row[wide - 1 + i] = 0.0f;

    double l1 = 0.0, ssim = 0.0, edges = 0.0;
    const int reach = job.want_ssim ? kReach : job.want_edges ? 1 : 0;
    for (int row = begin - 2 * reach; row < end + 2 * reach; ++row) {
        const bool inside = row >= 0 && row < job.height;
        float *y = y_ring + ring_row(row) * stride, *x = x_ring + ring_row(row) * stride;
        if (inside) {
            const float part = enter_row(job, channel, row, y, x, slope_ring + ring_row(row) * stride,
                                         apart_ring + ring_row(row) * stride);
            if (row >= begin && row < end) l1 += part;
        }
        const float* rows[kLossTaps];
        if (job.want_ssim) {
            float* out = moment_ring + ring_row(row) * stride;
            if (inside) {
                for (int i = -kLossPad; i < wide + kLossPad; i += kLanes) {
                    const F a = F::load(y + i), b = F::load(x + i);
                    fma(a, a, b * b).store(squares + i);
                    (a * b).store(product + i);
                }
                const float* maps[kMaps] = {y, x, squares, product};
                for (int m = 0; m < kMaps; ++m)
                    for (int i = 0; i < wide; i += kLanes) blur_across(maps[m] + i).store(out + m * kLossTaps * stride + i);
            } else {
                for (int m = 0; m < kMaps; ++m) memset(out + m * kLossTaps * stride, 0, sizeof(float) * wide);
            }
            const int middle = row - reach;
            if (middle < begin - reach) continue;
            float* pull = pull_ring + ring_row(middle) * stride;
            if (middle >= 0 && middle < job.height && middle < end + reach) {
                for (int k = 0; k < kLossTaps; ++k) rows[k] = moment_ring + ring_row(middle - kReach + k) * stride;
                const float part = similarity_row(job, middle, rows, slopes);
                if (middle >= begin && middle < end) ssim += part;
                if (job.gradient)
                    for (int m = 0; m < 3; ++m)
                        for (int i = 0; i < wide; i += kLanes)
                            blur_across(slopes[m] + i).store(pull + m * kLossTaps * stride + i);
            } else {
                for (int m = 0; m < 3; ++m) memset(pull + m * kLossTaps * stride, 0, sizeof(float) * wide);
            }
        }
        const int last = row - 2 * reach;
        const bool edged = job.want_edges && last >= 0 && last >= begin - 1; // One row early: `above` of the first.
        if (edged) {
            const float* next = last + 1 < job.height ? apart_ring + ring_row(last + 1) * stride : nullptr;
            const float part = edge_row(job, last, apart_ring + ring_row(last) * stride, next, across, below);
            if (last >= begin) edges += part;
        }
        if (last >= begin && job.gradient) {
            for (int k = 0; k < kLossTaps; ++k) rows[k] = pull_ring + ring_row(last - kReach + k) * stride;
            const size_t at = ring_row(last) * stride;
            gradient_row(job, channel, last, y_ring + at, x_ring + at, slope_ring + at, rows, across, above, below);
        }
        if (edged) {
            float* const row_above = below;
            below = above;
            above = row_above;
        }
    }
    job.l1_sums[task] = l1;
    job.ssim_sums[task] = ssim;
    job.edge_sums[task] = edges;
}

// Mean over the channels of |prediction - observation| in display space, one row; asked for rarely.
inline void loss_map_row(const LossJob* job_ptr, int row) {
    const LossJob& job = *job_ptr;
    for (int i = 0; i < job.width; ++i) {
        const size_t at = (size_t)row * job.width + i;
        alignas(64) float p[kLanes] = {}, o[kLanes] = {};
        for (int c = 0; c < 3; ++c) {
            p[c] = job.prediction[3 * at + c];
            o[c] = job.observed[3 * at + c];
        }
        F slope, shown = F::load(p);
        if (job.encode_srgb) shown = srgb_from_linear(shown, &slope);
        abs(shown - F::load(o)).store(p);
        job.l1_map[at] = (p[0] + p[1] + p[2]) * (1.0f / 3.0f);
    }
}

} // namespace DEBLURGS_ISA
} // namespace deblurgs
