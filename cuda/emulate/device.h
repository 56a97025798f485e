// SPDX-License-Identifier: Apache-2.0
//
// The words of CUDA for the host, so that g++ compiles the kernels as they stand. Each thread of a block is a fiber
// (fibers.h); one runs until it waits for others, and who runs next is drawn by a seed. Only what the kernels use exists.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
// Blocks run one after the other, so the shared memory of a kernel is static; its section is poisoned between blocks.
#define __shared__ static __attribute__((section("emulated_shared")))

struct Size3 {
    unsigned x, y, z;
};
extern Size3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulated {
// Collectives of a warp: every lane deposits a number and, once all have, sees those of all lanes.
enum Collective { kBallot = 1, kShuffle, kMatch, kSyncWarp };
const uint64_t* exchange(Collective kind, unsigned mask, uint64_t number, unsigned* lanes);
void sync_threads();
} // namespace emulated

inline void __syncthreads() { emulated::sync_threads(); }
inline void __syncwarp() {
    unsigned lanes;
    emulated::exchange(emulated::kSyncWarp, 0xffffffffu, 0, &lanes);
}
inline unsigned __ballot_sync(unsigned mask, bool predicate) {
    unsigned lanes, result = 0;
    const uint64_t* all = emulated::exchange(emulated::kBallot, mask, predicate, &lanes);
    for (unsigned l = 0; l < lanes; ++l) result |= (unsigned)(all[l] != 0) << l;
    return result;
}
inline bool __any_sync(unsigned mask, bool predicate) { return __ballot_sync(mask, predicate) != 0; }
inline unsigned __match_any_sync(unsigned mask, unsigned value) {
    unsigned lanes, result = 0;
    const uint64_t* all = emulated::exchange(emulated::kMatch, mask, value, &lanes);
    for (unsigned l = 0; l < lanes; ++l) result |= (unsigned)(all[l] == value) << l;
    return result;
}
namespace emulated {
template <class T> inline T shuffle(unsigned mask, T value, unsigned source) {
    static_assert(sizeof(T) <= 8, "one number of at most 64 bits");
    uint64_t number = 0;
    std::memcpy(&number, &value, sizeof value);
    unsigned lanes;
    const uint64_t* all = exchange(kShuffle, mask, number, &lanes);
    T result;
    std::memcpy(&result, &all[source], sizeof result);
    return result;
}
inline unsigned lane() { return threadIdx.x % 32u; }
} // namespace emulated
template <class T> inline T __shfl_sync(unsigned mask, T value, int source) {
    return emulated::shuffle(mask, value, (unsigned)source % 32u);
}
template <class T> inline T __shfl_xor_sync(unsigned mask, T value, int bits) {
    return emulated::shuffle(mask, value, emulated::lane() ^ (unsigned)bits);
}
template <class T> inline T __shfl_up_sync(unsigned mask, T value, unsigned delta) {
    const unsigned lane = emulated::lane();
    return emulated::shuffle(mask, value, lane < delta ? lane : lane - delta);
}

template <class T> inline T atomicAdd(T* address, T value) {
    const T old = *address;
    *address = old + value;
    return old;
}
template <class T> inline T atomicOr(T* address, T value) {
    const T old = *address;
    *address = old | value;
    return old;
}

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline float __fmul_rn(float a, float b) { return a * b; } // built without contraction
inline float __fdiv_rn(float a, float b) { return a / b; }
inline unsigned __float_as_uint(float x) {
    unsigned bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
}
