// SPDX-License-Identifier: Apache-2.0
//
// What the kernels need of their surroundings, under NVRTC or nvcc and under the host emulation (emulate/device.h). No
// standard header is included, because NVRTC has none.
#pragma once

#if !defined(__CUDACC__) && !defined(__CUDACC_RTC__)
#include "emulate/device.h"
#endif

#define DEBLURGS_DEVICE __device__ __forceinline__
#define DEBLURGS_KERNEL extern "C" __global__ void

namespace deblurgs {

// splat_math.h looks these up when it is instantiated for float.
__host__ __device__ __forceinline__ float sqrt(float x) { return ::sqrtf(x); }
__host__ __device__ __forceinline__ float abs(float x) { return ::fabsf(x); }
__host__ __device__ __forceinline__ float max(float a, float b) { return ::fmaxf(a, b); }
__host__ __device__ __forceinline__ float min(float a, float b) { return ::fminf(a, b); }

} // namespace deblurgs

#include "deblurgs/raster.h"
#include "deblurgs/splat_math.h"

namespace deblurgs {

typedef unsigned int u32;
typedef unsigned char u8;
typedef long long i64;

constexpr int kWarp = 32;
constexpr u32 kFullMask = 0xffffffffu; // every collective is called by all lanes of its warp
constexpr int kTilePixels = DEBLURGS_TILE * DEBLURGS_TILE;
// Numbers beyond this are treated like non-finite ones: the products formed from them would overflow.
constexpr float kHuge = 1e18f;
constexpr float kLog2Cutoff = -7.99435343685886f; // log2(1/255)

// 2^x to 2^-22 relative, which is what the pipeline of special functions gives in one instruction.
DEBLURGS_DEVICE float exp2_fast(float x) {
#if defined(__CUDA_ARCH__)
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#else
    return ::exp2f(x);
#endif
}

DEBLURGS_DEVICE int lane_index() { return (int)(threadIdx.x & (kWarp - 1)); }
DEBLURGS_DEVICE int warp_index() { return (int)(threadIdx.x / kWarp); }
DEBLURGS_DEVICE u32 lanes_below(int lane) { return (1u << lane) - 1u; }
DEBLURGS_DEVICE i64 global_thread() { return (i64)blockIdx.x * blockDim.x + threadIdx.x; }

// Sum over the lanes of a warp as a tree, so in one order always; every lane gets it.
DEBLURGS_DEVICE float warp_sum(float x) {
    for (int step = kWarp / 2; step > 0; step /= 2) x += __shfl_xor_sync(kFullMask, x, step);
    return x;
}

} // namespace deblurgs
