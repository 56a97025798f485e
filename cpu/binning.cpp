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
    // One row and column more than there are tiles: the counts start as corners of boxes and are summed in both directions.
    const size_t pitch = (size_t)job.tiles_x + 1;
    if (!scratch.cursor.reserve(pitch * (job.tiles_y + 1)) || !scratch.boxes.reserve(num_gaussians) ||
        !buffers.tile_start.reserve(num_tiles + 1))
        return DEBLURGS_OUT_OF_MEMORY;
    uint32_t* corners = scratch.cursor.data();
    std::memset(corners, 0, pitch * (job.tiles_y + 1) * sizeof(uint32_t));
    uint64_t* boxes = scratch.boxes.data();

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
        ++corners[r.tile_y0 * pitch + r.tile_x0];
        --corners[r.tile_y0 * pitch + r.tile_x1];
        --corners[r.tile_y1 * pitch + r.tile_x0];
        ++corners[r.tile_y1 * pitch + r.tile_x1];
        std::memcpy(&boxes[g], &r.tile_x0, sizeof boxes[g]);
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
    for (int ty = 0; ty < job.tiles_y; ++ty) {
        uint32_t* row = corners + ty * pitch;
        uint32_t across = 0;
        for (int tx = 0; tx < job.tiles_x; ++tx) {
            across += row[tx];
            row[tx] = across + (ty ? row[tx - (ptrdiff_t)pitch] : 0);
        }
    }
    // Each tile's count becomes the place of its next entry; rows are packed because reading runs ahead of writing.
    uint32_t total = 0;
    uint32_t* cursor = corners;
    for (size_t t = 0; t < num_tiles; ++t) {
        const uint32_t n = corners[t / job.tiles_x * pitch + t % job.tiles_x];
        start[t] = cursor[t] = total;
        total += n;
    }
    start[num_tiles] = total;
    uint32_t* entries = buffers.entries.data();
    for (uint32_t i = 0; i < count; ++i) {
        const uint32_t g = ids[i];
        uint16_t box[4]; // x0, y0, x1, y1
        std::memcpy(box, &boxes[g], sizeof box);
        for (int ty = box[1]; ty < box[3]; ++ty) {
            uint32_t* row = cursor + (size_t)ty * job.tiles_x;
            for (int tx = box[0]; tx < box[2]; ++tx) entries[row[tx]++] = g;
        }
    }
    state.entries = entries;
    state.tile_start = start;
    state.masks = buffers.masks.data();
    state.num_slots = (uint32_t)slots;
    return DEBLURGS_OK;
}

} // namespace deblurgs
