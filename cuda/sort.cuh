// SPDX-License-Identifier: Apache-2.0
//
// One pass of a stable radix sort of (key, value) pairs by eight bits: count the digits of each block's keys, (outside)
// sum the counts digit-major, then move the pairs. A warp owns a run of kKeysPerWarp pairs and walks it in order, so the
// sort is stable and the same whatever order the blocks run in.
#pragma once

#include "platform.cuh"

namespace deblurgs {

constexpr int kDigits = 256;
constexpr int kSortThreads = 256, kSortWarps = kSortThreads / kWarp;
constexpr int kKeysPerWarp = 512, kKeysPerBlock = kKeysPerWarp * kSortWarps;

// num_keys [1] on the device, or null: then limit. Never more than limit.
DEBLURGS_DEVICE i64 keys_in_use(const int* num_keys, int limit) { return num_keys ? num_keys[0] : limit; }

// digits_of_warp[warp][digit]: how often each digit occurs in each warp's run.
DEBLURGS_DEVICE void count_digits(u32 (*digits_of_warp)[kDigits], const u32* keys, i64 count, int shift) {
    const int warp = warp_index(), lane = lane_index();
    for (int d = lane; d < kDigits; d += kWarp) digits_of_warp[warp][d] = 0;
    __syncwarp();
    const i64 begin = (i64)blockIdx.x * kKeysPerBlock + (i64)warp * kKeysPerWarp;
    for (int i = lane; i < kKeysPerWarp; i += kWarp)
        if (begin + i < count) atomicAdd(&digits_of_warp[warp][(keys[begin + i] >> shift) & (kDigits - 1)], 1u);
    __syncthreads();
}

} // namespace deblurgs

// counts [kDigits, blocks].
DEBLURGS_KERNEL __launch_bounds__(256)
deblurgs_sort_count(const unsigned* keys, const int* num_keys, int* counts, int limit, int shift) {
    using namespace deblurgs;
    __shared__ u32 digits_of_warp[kSortWarps][kDigits];
    count_digits(digits_of_warp, keys, keys_in_use(num_keys, limit), shift);
    const int digit = (int)threadIdx.x;
    u32 total = 0;
    for (int w = 0; w < kSortWarps; ++w) total += digits_of_warp[w][digit];
    counts[(i64)digit * gridDim.x + blockIdx.x] = (int)total;
}

// ends [kDigits, blocks]: running sum of counts. values may be null: then a pair's value is its place.
DEBLURGS_KERNEL __launch_bounds__(256)
deblurgs_sort_move(const unsigned* keys, const unsigned* values, const int* num_keys, const int* counts, const int* ends,
                   unsigned* keys_out, unsigned* values_out, int limit, int shift) {
    using namespace deblurgs;
    __shared__ u32 digits_of_warp[kSortWarps][kDigits];
    const i64 count = keys_in_use(num_keys, limit);
    count_digits(digits_of_warp, keys, count, shift);
    // Counts become the place of each warp's next pair of that digit.
    {
        const int digit = (int)threadIdx.x;
        const i64 at = (i64)digit * gridDim.x + blockIdx.x;
        u32 next = (u32)(ends[at] - counts[at]);
        for (int w = 0; w < kSortWarps; ++w) {
            const u32 n = digits_of_warp[w][digit];
            digits_of_warp[w][digit] = next;
            next += n;
        }
    }
    __syncthreads();
    const int warp = warp_index(), lane = lane_index();
    const i64 begin = (i64)blockIdx.x * kKeysPerBlock + (i64)warp * kKeysPerWarp;
    for (int first = 0; first < kKeysPerWarp; first += kWarp) {
        const i64 i = begin + first + lane;
        const bool exists = i < count;
        const u32 key = exists ? keys[i] : 0u;
        const u32 digit = exists ? (key >> shift) & (kDigits - 1) : kDigits; // beyond every digit
        const u32 peers = __match_any_sync(kFullMask, digit);
        const u32 rank = (u32)__popc(peers & lanes_below(lane));
        u32 place = 0;
        if (exists) place = digits_of_warp[warp][digit] + rank;
        __syncwarp();
        if (exists) {
            if (rank == 0) digits_of_warp[warp][digit] += (u32)__popc(peers);
            keys_out[place] = key;
            values_out[place] = values ? values[i] : (u32)i;
        }
        __syncwarp();
    }
}
