// SPDX-License-Identifier: Apache-2.0
#include "binning.h"

#include <cstring>

namespace deblurgs {
namespace {

constexpr int kRadixBits = 11;
constexpr uint32_t kRadix = 1u << kRadixBits;


void radix_pass(const uint32_t* keys, const uint32_t* ids, uint32_t* keys_out, uint32_t* ids_out, uint32_t count,
                int shift) {
    uint32_t start[kRadix] = {};
    for (uint32_t i = 0; i < count; ++i) ++start[(keys[i] >> shift) & (kRadix - 1)];
    uint32_t total = 0;
    for (uint32_t& s : start) {
        const uint32_t n = s;
        s = total;
        total += n;
    }
    for (uint32_t i = 0; i < count; ++i) {
        const uint32_t at = start[(keys[i] >> shift) & (kRadix - 1)]++;
        keys_out[at] = keys[i];
        ids_out[at] = ids[i];
    }
}

} // namespace

int bin_view(const Job& job, int view, int mask_bytes, ViewBuffers& buffers, SortScratch& scratch) {
    ViewState& state = job.views[view];
    const size_t num_gaussians = (size_t)job.in->num_gaussians;
    const size_t num_tiles = (size_t)job.tiles_x * job.tiles_y;
    for (int i = 0; i < 2; ++i)
        if (!scratch.keys[i].reserve(num_gaussians) || !scratch.ids[i].reserve(num_gaussians))
            return DEBLURGS_OUT_OF_MEMORY;
    if (!scratch.cursor.reserve(num_tiles) || !buffers.tile_start.reserve(num_tiles + 1)) return DEBLURGS_OUT_OF_MEMORY;
    uint32_t* cursor = scratch.cursor.data();
    std::memset(cursor, 0, num_tiles * sizeof(uint32_t));

    uint32_t* ids = scratch.ids[0].data();
    uint32_t* keys = scratch.keys[0].data();
    uint32_t count = 0, low = ~0u, high = 0;
    uint64_t slots = 0;
    for (size_t g = 0; g < num_gaussians; ++g) {
        Record& r = state.records[g];
        if (r.tile_x0 == r.tile_x1) continue;
        uint32_t bits;
        std::memcpy(&bits, &r.z, 4);
        low = bits < low ? bits : low;
        high = bits > high ? bits : high;
        keys[count] = bits;
        ids[count++] = (uint32_t)g;
        r.slot = (uint32_t)slots;
        slots += (uint64_t)(r.tile_x1 - r.tile_x0) * (uint64_t)(r.tile_y1 - r.tile_y0);
        if (slots > 0x7fffffffu) return DEBLURGS_TOO_MANY_ENTRIES;
        for (int ty = r.tile_y0; ty < r.tile_y1; ++ty)
            for (int tx = r.tile_x0; tx < r.tile_x1; ++tx) ++cursor[(size_t)ty * job.tiles_x + tx];
    }
    if (!buffers.entries.reserve(slots)) return DEBLURGS_OUT_OF_MEMORY;
    if (job.keep && !buffers.masks.reserve(slots * mask_bytes)) return DEBLURGS_OUT_OF_MEMORY;

    // Positive floats order like their bits. The 22 leading bits of the range in use are sorted: 8e-6 relative for depths
    // within a factor of 1000; Gaussians closer than that keep the order of their indices.
    int shift = 0;
    while (count && ((high - low) >> shift) >= kRadix * kRadix) ++shift;
    for (uint32_t i = 0; i < count; ++i) keys[i] = (keys[i] - low) >> shift;
    radix_pass(keys, ids, scratch.keys[1].data(), scratch.ids[1].data(), count, 0);
    radix_pass(scratch.keys[1].data(), scratch.ids[1].data(), keys, ids, count, kRadixBits);

    uint32_t* start = buffers.tile_start.data();
    uint32_t total = 0;
    for (size_t t = 0; t < num_tiles; ++t) {
        start[t] = total;
        total += cursor[t];
        cursor[t] = start[t];
    }
    start[num_tiles] = total;
    uint32_t* entries = buffers.entries.data();
    for (uint32_t i = 0; i < count; ++i) {
        const Record& r = state.records[ids[i]];
        for (int ty = r.tile_y0; ty < r.tile_y1; ++ty)
            for (int tx = r.tile_x0; tx < r.tile_x1; ++tx) entries[cursor[(size_t)ty * job.tiles_x + tx]++] = ids[i];
    }
    state.entries = entries;
    state.tile_start = start;
    state.masks = buffers.masks.data();
    state.num_slots = (uint32_t)slots;
    return DEBLURGS_OK;
}

} // namespace deblurgs
