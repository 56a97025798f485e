// SPDX-License-Identifier: Apache-2.0
//
// L1 and SSIM (Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004) with the
// gradient, in three passes over bands of rows: to planes in display space; blurred moments, SSIM and its slopes;
// blurred slopes and the gradient. Windows reach over the border into zeros, as a padded convolution does.
#pragma once

#include "color.inl"
#include "kernels.h"
#include "simd.h"

namespace deblurgs {
namespace DEBLURGS_ISA {

constexpr float kC1 = 0.01f * 0.01f, kC2 = 0.03f * 0.03f;
constexpr int kReach = kLossTaps / 2;
// exp(-0.5 (i / 1.5)^2) for i = -5..5, divided by its sum.
static constexpr float kTaps[kLossTaps] = {1.028380123e-03f, 7.598758135e-03f, 3.600077213e-02f, 1.093606895e-01f,
                                           2.130055377e-01f, 2.660117249e-01f, 2.130055377e-01f, 1.093606895e-01f,
                                           3.600077213e-02f, 7.598758135e-03f, 1.028380123e-03f};

DEBLURGS_INLINE size_t plane_row(const LossJob& job, int channel, int row) {
    return ((size_t)channel * job.height + row) * job.stride + kLossPad;
}
DEBLURGS_INLINE int band_end(const LossJob& job, int band) {
    const int end = (band + 1) * job.rows_per_band;
    return end < job.height ? end : job.height;
}

inline void loss_prepare(const LossJob* job_ptr, int band) {
    const LossJob& job = *job_ptr;
    double total = 0.0;
    for (int row = band * job.rows_per_band; row < band_end(job, band); ++row) {
        const size_t first = (size_t)row * job.width;
        for (int c = 0; c < 3; ++c) {
            const size_t at = plane_row(job, c, row);
            float *y = job.shown + at, *x = job.target + at, *d = job.slope + at;
            // The zeros left and right are what the windows see beyond the border.
            memset(y - kLossPad, 0, sizeof(float) * job.stride);
            memset(x - kLossPad, 0, sizeof(float) * job.stride);
            for (int i = 0; i < job.width; ++i) {
                y[i] = job.prediction[3 * (first + i) + c];
                x[i] = job.observed[3 * (first + i) + c];
            }
            F sum_row(0.0f);
            for (int i = 0; i < job.width; i += kLanes) {
                F slope(1.0f), shown = F::load(y + i);
                const F target = F::load(x + i);
                if (job.encode_srgb) shown = srgb_from_linear(shown, &slope);
                slope.store(d + i);
                // Zero beyond the right end, where encoding zero may leave a rounding error.
                alignas(64) float weights[kLanes];
                for (int l = 0; l < kLanes; ++l)
                    weights[l] = i + l >= job.width ? 0.0f : job.weight ? job.weight[first + i + l] : 1.0f;
                const F difference = shown - target;
                const F weight = F::load(weights);
                // A pixel of weight zero shows the observation itself, so that it does not disturb its neighbours.
                const F mixed = job.weight ? fma(weight, difference, target) : shown;
                (i + kLanes <= job.width ? mixed : select(weight > F(0.0f), mixed, target)).store(y + i);
                sum_row += weight * abs(difference);
                if (job.l1_map) {
                    alignas(64) float t[kLanes];
                    abs(difference).store(t);
                    for (int l = 0; l < kLanes && i + l < job.width; ++l)
                        job.l1_map[first + i + l] = (c ? job.l1_map[first + i + l] : 0.0f) + t[l] * (1.0f / 3.0f);
                }
            }
            total += sum(sum_row);
        }
    }
    job.l1_sums[band] = total;
}

DEBLURGS_INLINE F blur_across(const float* row) {
    F r = F::load(row - kReach) * F(kTaps[0]);
    for (int k = 1; k < kLossTaps; ++k) r = fma(F::load(row - kReach + k), F(kTaps[k]), r);
    return r;
}

inline void loss_ssim(const LossJob* job_ptr, int task) {
    const LossJob& job = *job_ptr;
    const int band = task / 3, channel = task % 3;
    const int begin = band * job.rows_per_band, end = band_end(job, band);
    const int stride = job.stride, wide = stride - 2 * kLossPad;
    // Rings of the last eleven rows of five maps, blurred across, and three product rows.
    float* ring = job.scratch + (size_t)task * kLossScratchRows * stride;
    float* products = ring + (size_t)5 * kLossTaps * stride;
    const F one(1.0f), two(2.0f), c1(kC1), c2(kC2), factor(job.ssim_factor);
    double total = 0.0;
    for (int row = begin - kReach; row < end + kReach; ++row) {
        const int slot = (row + 4 * kLossTaps) % kLossTaps;
        float* out = ring + (size_t)slot * stride;
        if (row < 0 || row >= job.height) {
            for (int m = 0; m < 5; ++m) memset(out + (size_t)m * kLossTaps * stride, 0, sizeof(float) * stride);
        } else {
            const float *y = job.shown + plane_row(job, channel, row), *x = job.target + plane_row(job, channel, row);
            float *yy = products + kLossPad, *xx = yy + stride, *xy = xx + stride;
            for (int i = -kLossPad; i < wide + kLossPad; i += kLanes) {
                const F a = F::load(y + i), b = F::load(x + i);
                (a * a).store(yy + i);
                (b * b).store(xx + i);
                (a * b).store(xy + i);
            }
            const float* maps[5] = {y, x, yy, xx, xy};
            for (int m = 0; m < 5; ++m)
                for (int i = 0; i < wide; i += kLanes)
                    blur_across(maps[m] + i).store(out + (size_t)m * kLossTaps * stride + i);
        }
        const int center = row - kReach;
        if (center < begin) continue;
        const size_t at = plane_row(job, channel, center);
        float *by_mean = job.by_mean + at, *by_square = job.by_square + at, *by_product = job.by_product + at;
        for (int p = 0; p < kLossPad; ++p)
            by_mean[p - kLossPad] = by_square[p - kLossPad] = by_product[p - kLossPad] = by_mean[wide + p] =
                by_square[wide + p] = by_product[wide + p] = 0.0f;
        const float* rows[kLossTaps];
        for (int k = 0; k < kLossTaps; ++k) rows[k] = ring + (size_t)((center - kReach + k + 4 * kLossTaps) % kLossTaps) * stride;
        F sum_row(0.0f);
        for (int i = 0; i < wide; i += kLanes) {
            F moment[5];
            for (int m = 0; m < 5; ++m) {
                const size_t map = (size_t)m * kLossTaps * stride + i;
                F r = F::load(rows[0] + map) * F(kTaps[0]);
                for (int k = 1; k < kLossTaps; ++k) r = fma(F::load(rows[k] + map), F(kTaps[k]), r);
                moment[m] = r;
            }
            const F mean_y = moment[0], mean_x = moment[1];
            const F n1 = fma(two * mean_y, mean_x, c1);
            const F n2 = fma(two, moment[4] - mean_y * mean_x, c2);
            const F d1 = fma(mean_y, mean_y, fma(mean_x, mean_x, c1));
            const F d2 = (moment[2] - mean_y * mean_y) + (moment[3] - mean_x * mean_x) + c2;
            const F inverse = one / (d1 * d2);
            const F ssim = n1 * n2 * inverse;
            F weight(1.0f);
            if (job.weight || i + kLanes > job.width) {
                alignas(64) float t[kLanes];
                for (int l = 0; l < kLanes; ++l)
                    t[l] = i + l >= job.width ? 0.0f : job.weight ? job.weight[(size_t)center * job.width + i + l] : 1.0f;
                weight = F::load(t);
            }
            sum_row = fma(weight, ssim, sum_row);
            const F g = factor * weight;
            (g * two * n1 * inverse).store(by_product + i);
            (-g * ssim * (d1 * inverse)).store(by_square + i);
            const F pull = mean_x * (n2 - n1) * inverse + ssim * mean_y * (d1 - d2) * inverse;
            (g * two * pull).store(by_mean + i);
        }
        total += sum(sum_row);
    }
    job.ssim_sums[task] = total;
}

inline void loss_gradient(const LossJob* job_ptr, int band) {
    const LossJob& job = *job_ptr;
    const int begin = band * job.rows_per_band, end = band_end(job, band);
    const int stride = job.stride, wide = stride - 2 * kLossPad;
    float* ring = job.scratch + (size_t)band * 3 * kLossScratchRows * stride;
    const F zero(0.0f), two(2.0f), l1_factor(job.l1_factor);
    for (int channel = 0; channel < 3; ++channel) {
        for (int row = job.want_ssim ? begin - kReach : begin + kReach; row < end + kReach; ++row) {
            if (job.want_ssim) {
                float* out = ring + (size_t)((row + 4 * kLossTaps) % kLossTaps) * stride;
                const float* planes[3] = {job.by_mean, job.by_square, job.by_product};
                for (int m = 0; m < 3; ++m) {
                    float* to = out + (size_t)m * kLossTaps * stride;
                    if (row < 0 || row >= job.height) {
                        memset(to, 0, sizeof(float) * stride);
                        continue;
                    }
                    const float* from = planes[m] + plane_row(job, channel, row);
                    for (int i = 0; i < wide; i += kLanes) blur_across(from + i).store(to + i);
                }
            }
            const int center = row - kReach;
            if (center < begin) continue;
            const size_t at = plane_row(job, channel, center), first = (size_t)center * job.width;
            const float *y = job.shown + at, *x = job.target + at, *slope = job.slope + at;
            for (int i = 0; i < wide; i += kLanes) {
                const F a = F::load(y + i), b = F::load(x + i);
                F weight(1.0f);
                if (job.weight) {
                    alignas(64) float t[kLanes];
                    for (int l = 0; l < kLanes; ++l) t[l] = i + l < job.width ? job.weight[first + i + l] : 0.0f;
                    weight = F::load(t);
                }
                const F difference = a - b;
                F g = select(difference > zero, l1_factor, select(difference < zero, -l1_factor, zero));
                if (job.want_ssim) {
                    F blurred[3];
                    for (int m = 0; m < 3; ++m) {
                        const float* map = ring + (size_t)m * kLossTaps * stride + i;
                        F r(0.0f);
                        for (int k = 0; k < kLossTaps; ++k) {
                            const int slot = (center - kReach + k + 4 * kLossTaps) % kLossTaps;
                            r = fma(F::load(map + (size_t)slot * stride), F(kTaps[k]), r);
                        }
                        blurred[m] = r;
                    }
                    g += fma(b, blurred[2], fma(two * a, blurred[1], blurred[0]));
                }
                g *= weight * F::load(slope + i);
                alignas(64) float t[kLanes];
                g.store(t);
                float* out = job.gradient + 3 * (first + i) + channel;
                for (int l = 0; l < kLanes && i + l < job.width; ++l) out[3 * l] = t[l];
            }
        }
    }
}

} // namespace DEBLURGS_ISA
} // namespace deblurgs
