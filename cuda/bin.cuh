// SPDX-License-Identifier: Apache-2.0
//
// Entries: one for every (view, tile, Gaussian) that meet. An entry owns a slot, numbered by view and Gaussian, in which
// the backward pass leaves its sums; entries themselves are written in the order of depth, so that sorting them stably
// by (view, tile) alone leaves every tile in the order of depth.
#pragma once

#include "tile_mask.cuh"

namespace deblurgs {

// Row of records that comes at place `i` in the order of depth. One order of the whole exposure: order [N], and the views
// of a Gaussian follow each other; else order [V * N].
DEBLURGS_DEVICE i64 row_at(const u32* order, i64 i, int num_gaussians, int num_views, int one_order) {
    return one_order ? (i % num_views) * num_gaussians + order[i / num_views] : (i64)order[i];
}

} // namespace deblurgs

// counts [rows]: tiles that each row of records reaches.
DEBLURGS_KERNEL __launch_bounds__(128)
deblurgs_count_tiles(const deblurgs::Record* records, int* counts, int num_rows) {
    using namespace deblurgs;
    const i64 row = global_thread();
    const int count = visit_tiles(records, row, row < num_rows, [](int, int, int, int, u32) {});
    if (row < num_rows) counts[row] = count;
}

// ordered [rows]: counts in the order of depth.
DEBLURGS_KERNEL __launch_bounds__(256)
deblurgs_order_counts(const int* counts, const unsigned* order, int* ordered, int num_gaussians, int num_views,
                      int one_order) {
    using namespace deblurgs;
    const i64 i = global_thread();
    if (i < (i64)num_gaussians * num_views) ordered[i] = counts[row_at(order, i, num_gaussians, num_views, one_order)];
}

// One thread. slot_ends [rows] is the running sum of counts; decides whether the entries fit. num_entries [1] is what
// the later kernels go by: nothing when they do not fit, so that an exposure is drawn whole or not at all.
DEBLURGS_KERNEL deblurgs_admit_entries(const long long* slot_ends, long long* status, int* num_entries, int num_gaussians,
                                       int num_views, long long capacity, long long view_capacity) {
    using namespace deblurgs;
    if (global_thread() != 0) return;
    i64 total = 0, most = 0;
    for (int v = 0; v < num_views; ++v) {
        const i64 end = slot_ends[(i64)(v + 1) * num_gaussians - 1];
        most = end - total > most ? end - total : most;
        total = end;
    }
    const bool overflow = total > capacity || most > view_capacity;
    status[kTotalEntries] = total;
    status[kMostInView] = most;
    status[kOverflow] = overflow ? 1 : 0;
    num_entries[0] = overflow ? 0 : (int)total;
}

// Entry i of the order of depth: keys[i] = view * tiles + tile, slots[i]; and of its slot: the row of records and the
// mask of sub-tiles.
DEBLURGS_KERNEL __launch_bounds__(128)
deblurgs_emit_entries(const deblurgs::Record* records, const unsigned* order, const int* counts, const long long* slot_ends,
                      const long long* ordered_ends, const int* num_entries, unsigned* keys, unsigned* slots,
                      unsigned* owners, unsigned char* masks, int num_gaussians, int num_views, int one_order, int tiles_x,
                      int tiles) {
    using namespace deblurgs;
    if (num_entries[0] == 0) return; // the same for all threads
    const i64 i = global_thread(), rows = (i64)num_gaussians * num_views;
    const bool exists = i < rows;
    const i64 row = exists ? row_at(order, i, num_gaussians, num_views, one_order) : 0;
    // What a visit needs of the Gaussian's own lane, as a wide one is visited by the whole warp.
    __shared__ i64 rows_here[128], first_entry[128], first_slot[128];
    const int warp_base = (int)threadIdx.x - lane_index();
    rows_here[threadIdx.x] = row;
    first_entry[threadIdx.x] = exists ? ordered_ends[i] - counts[row] : 0;
    first_slot[threadIdx.x] = exists ? slot_ends[row] - counts[row] : 0;
    __syncwarp();
    visit_tiles(records, row, exists, [&](int owner, int place, int tile_x, int tile_y, u32 mask) {
        const i64 its_row = rows_here[warp_base + owner];
        const i64 entry = first_entry[warp_base + owner] + place, slot = first_slot[warp_base + owner] + place;
        keys[entry] = (u32)(its_row / num_gaussians) * (u32)tiles + (u32)(tile_y * tiles_x + tile_x);
        slots[entry] = (u32)slot;
        owners[slot] = (u32)its_row;
        masks[slot] = (u8)mask;
    });
}

// tile_starts [V * tiles + 1]: first entry of every (view, tile) among the sorted keys.
DEBLURGS_KERNEL __launch_bounds__(256)
deblurgs_tile_starts(const unsigned* keys, const int* num_entries, int* tile_starts, int num_tiles) {
    using namespace deblurgs;
    const i64 tile = global_thread();
    if (tile > num_tiles) return;
    int low = 0, high = num_entries[0];
    while (low < high) {
        const int middle = low + (high - low) / 2;
        if ((i64)keys[middle] < tile)
            low = middle + 1;
        else
            high = middle;
    }
    tile_starts[tile] = low;
}
