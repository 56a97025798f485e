// SPDX-License-Identifier: Apache-2.0
//
// The border between the orchestration (engine.cpp, compiled once) and the kernels (compiled once per instruction
// set). Plain structs and function pointers only.
#pragma once

#include <stdint.h>

#include "deblurgs/raster.h"

namespace deblurgs {

// A Gaussian on the screen of one view: one cache line. log2 alpha of a pixel at (dx, dy) from the mean is
// log2_opacity + qa dx^2 + qb dx dy + qc dy^2. After the backward of its view the first nine numbers hold the sums
// over pixels of s, s dx, s dy, s dx^2, s dx dy, s dy^2 (s = dL/d ln alpha) and of the colour gradient.
struct alignas(64) Record {
    float x, y, qa, qb, qc, log2_opacity, r, g, b, z;
    float slope_y, slope_x;             // -qb / (2 qc), -qb / (2 qa): where a line through the ellipse peaks
    uint16_t tile_x0, tile_y0, tile_x1, tile_y1; // binning tiles touched, half open; empty when not drawn
    uint32_t slot;                      // first of (x1 - x0) * (y1 - y0) entry slots
    uint32_t pad;
};
static_assert(sizeof(Record) == 64, "one cache line");

// Gradient sums of one (tile, Gaussian) entry about the tile's centre, in the order of Record.
struct alignas(64) Slot {
    float value[16];
};

struct ViewPose {
    float rotation[9], translation[3], center[3], weight;
};

// What is kept of one view between forward and backward.
struct ViewState {
    Record* records;        // [N]
    uint32_t* entries;      // Gaussian of each entry, by tile, front to back
    uint32_t* tile_start;   // [tiles + 1]
    uint8_t* masks;         // live micro-tiles of each slot, mask_bytes each
    float* final_color;     // [tiles, 3, 256] colour with background, or null in a forward-only call
    uint32_t num_slots;
};

constexpr int kTilePixels = DEBLURGS_TILE * DEBLURGS_TILE;
// Gaussians per task of the two projection passes; fixed, so that sums do not depend on the number of threads.
constexpr int kGaussiansPerTask = 512;
// Sums per view of a task: 9 rotation, 3 translation, 3 camera centre.
constexpr int kPoseSums = 15;

struct Job {
    const deblurgs_exposure* in;
    deblurgs_images out;
    deblurgs_gradients grad;
    const float* image_gradient;
    const ViewPose* poses;
    ViewState* views;
    Slot* slots;
    float* pose_sums;       // [tasks, V, kPoseSums]
    float* tile_background; // [tiles, 3]
    float* tile_gradient;   // [tiles, 3, 256]
    int tiles_x, tiles_y;
    bool keep;
};

// One evaluation of the photometric loss. Scratch rows have kLossPad numbers on both sides.
constexpr int kLossPad = 16;
constexpr int kLossTaps = 11;
constexpr int kLossScratchRows = (4 + 4 + 3) * kLossTaps + 8;
struct LossJob {
    const float *prediction, *observed, *weight; // [H,W,3], [H,W,3], [H,W] or null
    float *gradient, *l1_map;                    // [H,W,3], [H,W]; may be null
    int width, height, stride, bands, rows_per_band;
    bool encode_srgb, want_ssim, want_edges;
    float l1_factor, ssim_factor, edge_factor;   // of the weighted sums over pixels and channels
    float* scratch;                              // [workers, kLossScratchRows, stride]
    double *l1_sums, *ssim_sums, *edge_sums;     // [3 * bands]
};

struct Kernels {
    const char* name;
    int lanes;
    int mask_bytes; // per slot
    void (*project)(const Job* job, int task);
    // Returns the number of (entry, micro-tile) pairs evaluated times the pixels of a micro-tile.
    int64_t (*forward_tile)(const Job* job, int tile);
    void (*spread_gradient)(const Job* job, int tile);
    void (*backward_tile)(const Job* job, int view, int tile);
    void (*collect)(const Job* job, int view, int task);
    void (*project_backward)(const Job* job, int task);
    void (*loss_band)(const LossJob* job, int task, int worker); // task < 3 * bands
    void (*loss_map_row)(const LossJob* job, int row);
};

// null when this build or this machine lacks the instruction set.
const Kernels* kernels_baseline();
const Kernels* kernels_avx2();
const Kernels* kernels_avx512();

} // namespace deblurgs
