// SPDX-License-Identifier: Apache-2.0
//
// Kernels with one fault each, for the test that the emulation finds it. They are no part of the rasterizer.
#pragma once

#include "../platform.cuh"

DEBLURGS_KERNEL deblurgs_fault_write_beyond(float* numbers, int count) { numbers[count] = 1.0f; }

DEBLURGS_KERNEL deblurgs_fault_read_beyond(const float* numbers, float* out, int count) {
    if (deblurgs::global_thread() == 0) out[0] = numbers[count];
}

// Sums the block's numbers without waiting for them.
DEBLURGS_KERNEL deblurgs_fault_race(const float* numbers, float* out) {
    __shared__ float shared[64];
    shared[threadIdx.x] = numbers[threadIdx.x];
    float sum = 0.0f;
    if (threadIdx.x == 0)
        for (int i = 0; i < 64; ++i) sum += shared[i];
    if (threadIdx.x == 0) out[0] = sum;
}

DEBLURGS_KERNEL deblurgs_fault_missing_lane(float* out) {
    if (threadIdx.x == 3) return;
    out[threadIdx.x] = deblurgs::warp_sum(1.0f);
}

// One lane meets the others' shuffle at a vote.
DEBLURGS_KERNEL deblurgs_fault_divergence(float* out) {
    const bool odd = threadIdx.x == 5;
    if (odd)
        out[threadIdx.x] = __any_sync(deblurgs::kFullMask, true) ? 1.0f : 0.0f;
    else
        out[threadIdx.x] = __shfl_sync(deblurgs::kFullMask, 1.0f, 0);
}

DEBLURGS_KERNEL deblurgs_fault_barrier(float* out) {
    if (threadIdx.x < 32) __syncwarp();
    if (threadIdx.x == 40) return;
    if (threadIdx.x > 40) deblurgs::warp_sum(1.0f);
    __syncthreads();
    out[threadIdx.x] = 1.0f;
}
