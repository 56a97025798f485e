// SPDX-License-Identifier: Apache-2.0
//
// L1, SSIM (Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004) and L1 of the
// steps between neighbouring pixels, with the gradient, in two passes over tiles of 16x16 pixels of one channel. The first
// blurs the four moments across and down in shared memory and leaves the three slopes of SSIM; the second blurs those and
// adds the slopes of the others. Windows reach over the border into zeros, as a padded convolution does. The curve from
// linear light is part of both passes.
#pragma once

#include "color.cuh"

namespace deblurgs {

constexpr float kC1 = 0.01f * 0.01f, kC2 = 0.03f * 0.03f;
constexpr int kTaps = 11, kReach = kTaps / 2, kLossTile = 16, kApron = kLossTile + 2 * kReach;

// exp(-0.5 (i / 1.5)^2) for i = 0..5, divided by the sum over -5..5.
DEBLURGS_DEVICE float tap(int i) {
    switch (i < 0 ? -i : i) {
    case 0: return 2.660117249e-01f;
    case 1: return 2.130055377e-01f;
    case 2: return 1.093606895e-01f;
    case 3: return 3.600077213e-02f;
    case 4: return 7.598758135e-03f;
    default: return 1.028380123e-03f;
    }
}

struct LossImage {
    const float *prediction, *observed, *weight; // [H,W,3], [H,W,3], [H,W] or null
    int width, height, encode;
};

struct Shown {
    float value, target, slope, difference, weight;
};
// What a pixel shows in display space. One of weight zero shows the observation, so as not to disturb its neighbours.
DEBLURGS_DEVICE Shown shown_at(const LossImage& a, int row, int column, int channel) {
    const i64 at = (i64)row * a.width + column;
    Shown s;
    s.target = a.observed[3 * at + channel];
    s.slope = 1.0f;
    float value = a.prediction[3 * at + channel];
    if (a.encode) value = srgb_from_linear(value, &s.slope);
    s.difference = value - s.target;
    s.weight = a.weight ? a.weight[at] : 1.0f;
    s.value = a.weight ? fmaf(s.weight, s.difference, s.target) : value;
    return s;
}

// Sum over the neighbours on the right and below of their weight times |step of the difference to there|. A step has the
// product of both ends' weights; the one here is left to the caller.
DEBLURGS_DEVICE float steps_from(const LossImage& a, int row, int column, int channel, const Shown& here) {
    float sum = 0.0f;
    if (column + 1 < a.width) {
        const Shown next = shown_at(a, row, column + 1, channel);
        sum = next.weight * fabsf(next.difference - here.difference);
    }
    if (row + 1 < a.height) {
        const Shown next = shown_at(a, row + 1, column, channel);
        sum = fmaf(next.weight, fabsf(next.difference - here.difference), sum);
    }
    return sum;
}
// How fast the sum over all four neighbours grows with the difference here.
DEBLURGS_DEVICE float slope_of_steps(const LossImage& a, int row, int column, int channel, const Shown& here) {
    float sum = 0.0f;
#pragma unroll
    for (int side = 0; side < 4; ++side) {
        const int at_y = row + (side == 0) - (side == 1), at_x = column + (side == 2) - (side == 3);
        if (at_y < 0 || at_y >= a.height || at_x < 0 || at_x >= a.width) continue;
        const Shown next = shown_at(a, at_y, at_x, channel);
        sum += here.difference > next.difference ? next.weight : here.difference < next.difference ? -next.weight : 0.0f;
    }
    return sum;
}

// Sum over a block of 256 threads as a tree in fixed order; thread 0 gets it.
DEBLURGS_DEVICE float block_sum(float x, float* scratch) {
    const float sum = warp_sum(x);
    if (lane_index() == 0) scratch[warp_index()] = sum;
    __syncthreads();
    float total = 0.0f;
    if (threadIdx.x == 0)
        for (int w = 0; w < 256 / kWarp; ++w) total += scratch[w];
    __syncthreads();
    return total;
}

} // namespace deblurgs

// One block: weight_sum [1] = sum of weights [count], in double and fixed order.
DEBLURGS_KERNEL __launch_bounds__(256)
deblurgs_loss_weight(const float* weights, float* weight_sum, long long count) {
    using namespace deblurgs;
    __shared__ double scratch[256];
    double sum = 0.0;
    for (i64 i = threadIdx.x; i < count; i += 256) sum += (double)weights[i];
    scratch[threadIdx.x] = sum;
    __syncthreads();
    for (int step = 128; step > 0; step /= 2) {
        if ((int)threadIdx.x < step) scratch[threadIdx.x] += scratch[threadIdx.x + step];
        __syncthreads();
    }
    if (threadIdx.x == 0) weight_sum[0] = (float)scratch[0];
}

// Grid (tiles across, tiles down, 3 channels). slopes [3 kinds, 3 channels, H, W] (by mean, by square, by product, of the
// sum of weighted SSIM; null without a gradient), parts [blocks, 3] = sums of weight |difference|, weight SSIM and weight
// |step|, the last 0 without `edges`.
DEBLURGS_KERNEL __launch_bounds__(256)
deblurgs_loss_similarity(const float* prediction, const float* observed, const float* weight, float* slopes, float* parts,
                         int width, int height, int encode, int edges) {
    using namespace deblurgs;
    __shared__ float y[kApron][kApron + 1], x[kApron][kApron + 1];
    __shared__ float across[4][kApron][kLossTile + 1];
    __shared__ float scratch[256 / kWarp];
    const LossImage image{prediction, observed, weight, width, height, encode};
    const int channel = (int)blockIdx.z, thread = (int)threadIdx.x;
    const int left = (int)blockIdx.x * kLossTile, top = (int)blockIdx.y * kLossTile;
    float l1 = 0.0f;
    for (int i = thread; i < kApron * kApron; i += 256) {
        const int row = i / kApron, column = i % kApron, at_y = top + row - kReach, at_x = left + column - kReach;
        float value = 0.0f, target = 0.0f;
        if (at_y >= 0 && at_y < height && at_x >= 0 && at_x < width) {
            const Shown s = shown_at(image, at_y, at_x, channel);
            value = s.value;
            target = s.target;
            const bool own = row >= kReach && row < kReach + kLossTile && column >= kReach && column < kReach + kLossTile;
            if (own) l1 = fmaf(s.weight, fabsf(s.difference), l1);
        }
        y[row][column] = value;
        x[row][column] = target;
    }
    __syncthreads();
    for (int i = thread; i < kApron * kLossTile; i += 256) {
        const int row = i / kLossTile, column = i % kLossTile;
        float m0 = 0.0f, m1 = 0.0f, m2 = 0.0f, m3 = 0.0f;
#pragma unroll
        for (int k = 0; k < kTaps; ++k) {
            const float a = y[row][column + k], b = x[row][column + k], w = tap(k - kReach);
            m0 = fmaf(w, a, m0);
            m1 = fmaf(w, b, m1);
            m2 = fmaf(w, fmaf(a, a, b * b), m2);
            m3 = fmaf(w, a * b, m3);
        }
        across[0][row][column] = m0;
        across[1][row][column] = m1;
        across[2][row][column] = m2;
        across[3][row][column] = m3;
    }
    __syncthreads();
    const int row = thread / kLossTile, column = thread % kLossTile, at_y = top + row, at_x = left + column;
    float ssim_part = 0.0f, edge_part = 0.0f;
    if (at_y < height && at_x < width) {
        if (edges) {
            const Shown here = shown_at(image, at_y, at_x, channel);
            edge_part = here.weight * steps_from(image, at_y, at_x, channel, here);
        }
        float m[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
        for (int k = 0; k < kTaps; ++k)
#pragma unroll
            for (int i = 0; i < 4; ++i) m[i] = fmaf(tap(k - kReach), across[i][row + k][column], m[i]);
        const float mean_y = m[0], mean_x = m[1];
        const float n1 = fmaf(2.0f * mean_y, mean_x, kC1);
        const float n2 = fmaf(2.0f, m[3] - mean_y * mean_x, kC2);
        const float d1 = fmaf(mean_y, mean_y, fmaf(mean_x, mean_x, kC1));
        const float d2 = m[2] - fmaf(mean_y, mean_y, mean_x * mean_x) + kC2;
        const float inverse = 1.0f / (d1 * d2);
        const float ssim = n1 * n2 * inverse;
        const i64 at = (i64)at_y * width + at_x, plane = (i64)height * width;
        const float w = weight ? weight[at] : 1.0f;
        ssim_part = w * ssim;
        if (slopes) {
            const float pull = (mean_x * (n2 - n1) + ssim * mean_y * (d1 - d2)) * inverse;
            slopes[(0 * 3 + channel) * plane + at] = w * 2.0f * pull;
            slopes[(1 * 3 + channel) * plane + at] = -w * ssim * (d1 * inverse);
            slopes[(2 * 3 + channel) * plane + at] = w * 2.0f * n1 * inverse;
        }
    }
    const float l1_sum = block_sum(l1, scratch), ssim_sum = block_sum(ssim_part, scratch);
    const float edge_sum = block_sum(edge_part, scratch);
    if (thread == 0) {
        const i64 block = ((i64)blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
        parts[3 * block] = l1_sum;
        parts[3 * block + 1] = ssim_sum;
        parts[3 * block + 2] = edge_sum;
    }
}

// One block. terms [4] = loss, mean |d|, mean SSIM, mean |step|. weight_sum [1] or null: then `pixels`.
DEBLURGS_KERNEL __launch_bounds__(256)
deblurgs_loss_terms(const float* parts, const float* weight_sum, float* terms, int num_parts, float pixels,
                    float ssim_weight, float edge_weight) {
    using namespace deblurgs;
    __shared__ double sums[3][256];
#pragma unroll
    for (int k = 0; k < 3; ++k) {
        double sum = 0.0;
        for (int i = (int)threadIdx.x; i < num_parts; i += 256) sum += (double)parts[3 * (i64)i + k];
        sums[k][threadIdx.x] = sum;
    }
    __syncthreads();
    for (int step = 128; step > 0; step /= 2) {
        if ((int)threadIdx.x < step)
#pragma unroll
            for (int k = 0; k < 3; ++k) sums[k][threadIdx.x] += sums[k][threadIdx.x + step];
        __syncthreads();
    }
    if (threadIdx.x != 0) return;
    const double total = weight_sum ? (double)weight_sum[0] : (double)pixels;
    const double mean_l1 = total > 0.0 ? sums[0][0] / (3.0 * total) : 0.0;
    const double mean_ssim = total > 0.0 ? sums[1][0] / (3.0 * total) : 1.0;
    const double mean_edge = total > 0.0 ? 0.5 * sums[2][0] / (3.0 * total) : 0.0;
    terms[0] = (float)((1.0 - (double)ssim_weight) * mean_l1 + (double)ssim_weight * (1.0 - mean_ssim) +
                       (double)edge_weight * mean_edge);
    terms[1] = (float)mean_l1;
    terms[2] = (float)mean_ssim;
    terms[3] = (float)mean_edge;
}

// Grid as deblurgs_loss_similarity. gradient [H,W,3] of the loss by the prediction.
DEBLURGS_KERNEL __launch_bounds__(256)
deblurgs_loss_gradient(const float* prediction, const float* observed, const float* weight, const float* slopes,
                       const float* weight_sum, float* gradient, int width, int height, int encode, float pixels,
                       float ssim_weight, float edge_weight) {
    using namespace deblurgs;
    __shared__ float kinds[3][kApron][kApron + 1];
    __shared__ float across[3][kApron][kLossTile + 1];
    const LossImage image{prediction, observed, weight, width, height, encode};
    const int channel = (int)blockIdx.z, thread = (int)threadIdx.x;
    const int left = (int)blockIdx.x * kLossTile, top = (int)blockIdx.y * kLossTile;
    const i64 plane = (i64)height * width;
    for (int i = thread; i < kApron * kApron; i += 256) {
        const int row = i / kApron, column = i % kApron, at_y = top + row - kReach, at_x = left + column - kReach;
        const bool inside = at_y >= 0 && at_y < height && at_x >= 0 && at_x < width;
#pragma unroll
        for (int k = 0; k < 3; ++k)
            kinds[k][row][column] = inside ? slopes[(k * 3 + channel) * plane + (i64)at_y * width + at_x] : 0.0f;
    }
    __syncthreads();
    for (int i = thread; i < kApron * kLossTile; i += 256) {
        const int row = i / kLossTile, column = i % kLossTile;
#pragma unroll
        for (int k = 0; k < 3; ++k) {
            float sum = 0.0f;
#pragma unroll
            for (int j = 0; j < kTaps; ++j) sum = fmaf(tap(j - kReach), kinds[k][row][column + j], sum);
            across[k][row][column] = sum;
        }
    }
    __syncthreads();
    const int row = thread / kLossTile, column = thread % kLossTile, at_y = top + row, at_x = left + column;
    if (at_y >= height || at_x >= width) return;
    float pull[3] = {0.0f, 0.0f, 0.0f};
#pragma unroll
    for (int j = 0; j < kTaps; ++j)
#pragma unroll
        for (int k = 0; k < 3; ++k) pull[k] = fmaf(tap(j - kReach), across[k][row + j][column], pull[k]);
    const float total = weight_sum ? weight_sum[0] : pixels;
    const float scale = total > 0.0f ? 1.0f / (3.0f * total) : 0.0f;
    const Shown s = shown_at(image, at_y, at_x, channel);
    const float sign = s.value > s.target ? 1.0f : s.value < s.target ? -1.0f : 0.0f;
    const float by_ssim = fmaf(s.target, pull[2], fmaf(2.0f * s.value, pull[1], pull[0]));
    float g = (1.0f - ssim_weight) * sign - ssim_weight * by_ssim;
    if (edge_weight != 0.0f) g = fmaf(0.5f * edge_weight, slope_of_steps(image, at_y, at_x, channel, s), g);
    gradient[3 * ((i64)at_y * width + at_x) + channel] = scale * g * s.slope * s.weight;
}
