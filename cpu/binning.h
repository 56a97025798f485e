// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels.h"
#include "memory.h"

namespace deblurgs {

// Scratch of one worker.
struct SortScratch {
    Buffer<uint32_t> keys[2], ids[2], cursor;
    Buffer<uint64_t> boxes;
};

// Buffers behind the pointers of a ViewState.
struct ViewBuffers {
    Buffer<uint32_t> entries, tile_start;
    Buffer<uint8_t> masks;
    Buffer<float> final_color;
};

// Sorts the drawn Gaussians of a view by depth (ties by index) and lists them by tile in that order; gives every (tile,
// Gaussian) entry its slot, in order of Gaussians. Returns a deblurgs_status.
int bin_view(const Job& job, int view, int mask_bytes, ViewBuffers& buffers, SortScratch& scratch);

} // namespace deblurgs
