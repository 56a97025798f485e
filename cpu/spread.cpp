// SPDX-License-Identifier: Apache-2.0
//
// One step of diffusion over an image, whose covariance varies slowly (deblurgs/train/slices.py says what for). Rows are
// independent of each other: every pixel collects what it trades with its eight neighbours. Two pixels compute the same
// trade, of opposite sign, from the same numbers, so no light is lost but by rounding.
#include <stddef.h>

#include <new>
#include <vector>

#include "deblurgs/raster.h"
#include "kernels.h"
#include "threads.h"

using namespace deblurgs;

namespace {

// Shares of one row between a pixel and its left (xx), upper (yy) and upper left neighbour (xy), three times each: half
// the covariance, interpolated between the middles of a coarse grid's cells.
struct Shares {
    std::vector<float> xx, xy, yy;
};

struct Cell {
    int below, above;
    float share; // of the one above
};
Cell cell_at(int i, int count, int cells) {
    float at = ((float)i + 0.5f) * ((float)cells / (float)count) - 0.5f;
    if (at < 0.0f) at = 0.0f;
    int below = (int)at;
    if (below > cells - 1) below = cells - 1;
    return {below, below + 1 < cells ? below + 1 : below, at - (float)below};
}

struct Spread {
    const float *light, *covariance;
    int width, height, rows, columns;
    std::vector<Cell> across; // of every pixel of a row

    void shares(int row, Shares& s) const {
        const Cell v = cell_at(row, height, rows);
        float* const out[3] = {s.xx.data(), s.xy.data(), s.yy.data()};
        const float factor[3] = {0.5f, 0.25f, 0.5f}; // The mixed derivative comes from four neighbours.
        for (int m = 0; m < 3; ++m) {
            const float* a = covariance + ((size_t)m * rows + v.below) * columns;
            const float* b = covariance + ((size_t)m * rows + v.above) * columns;
            for (int x = 0; x < width; ++x) {
                const Cell h = across[(size_t)x];
                const float upper = a[h.below] + h.share * (a[h.above] - a[h.below]);
                const float lower = b[h.below] + h.share * (b[h.above] - b[h.below]);
                const float value = factor[m] * (upper + v.share * (lower - upper));
                for (int c = 0; c < 3; ++c) out[m][3 * x + c] = value;
            }
        }
    }

    void row(int y, const Shares& here, const Shares& next, float* __restrict out) const {
        const int n = 3 * width;
        const float* __restrict p = light + (size_t)y * n;
        for (int i = 0; i < n; ++i) out[i] = p[i];
        for (int i = 3; i < n; ++i) out[i] += here.xx[i] * (p[i - 3] - p[i]);
        for (int i = 0; i < n - 3; ++i) out[i] += here.xx[i + 3] * (p[i + 3] - p[i]);
        if (y > 0) {
            const float* __restrict up = p - n;
            for (int i = 0; i < n; ++i) out[i] += here.yy[i] * (up[i] - p[i]);
            for (int i = 3; i < n; ++i) out[i] += here.xy[i] * (up[i - 3] - p[i]);
            for (int i = 0; i < n - 3; ++i) out[i] -= here.xy[i + 3] * (up[i + 3] - p[i]);
        }
        if (y + 1 < height) {
            const float* __restrict down = p + n;
            for (int i = 0; i < n; ++i) out[i] += next.yy[i] * (down[i] - p[i]);
            for (int i = 0; i < n - 3; ++i) out[i] += next.xy[i + 3] * (down[i + 3] - p[i]);
            for (int i = 3; i < n; ++i) out[i] -= next.xy[i] * (down[i - 3] - p[i]);
        }
    }
};

constexpr int kRowsPerTask = 16;

} // namespace

extern "C" int deblurgs_cpu_spread(const float* light, const float* covariance, int32_t rows, int32_t columns,
                                   int32_t width, int32_t height, float* out, int threads) {
    if (!light || !covariance || !out || rows < 1 || columns < 1 || width < 1 || height < 1 ||
        width > DEBLURGS_MAX_IMAGE_SIDE || height > DEBLURGS_MAX_IMAGE_SIDE)
        return DEBLURGS_BAD_ARGUMENT;
    threads = threads < 1 ? 1 : threads > kMaxThreads ? kMaxThreads : threads;
    Spread spread{light, covariance, width, height, rows, columns, {}};
    const size_t n = 3 * (size_t)width;
    std::vector<Shares> scratch;
    try {
        spread.across.resize((size_t)width);
        for (int x = 0; x < width; ++x) spread.across[(size_t)x] = cell_at(x, width, columns);
        scratch.resize(2 * (size_t)threads);
        for (Shares& s : scratch) s.xx.resize(n), s.xy.resize(n), s.yy.resize(n);
    } catch (const std::bad_alloc&) {
        return DEBLURGS_OUT_OF_MEMORY;
    }
    parallel(threads, (height + kRowsPerTask - 1) / kRowsPerTask, [&](int64_t task, int worker) {
        Shares *here = &scratch[2 * (size_t)worker], *next = here + 1;
        const int begin = (int)task * kRowsPerTask;
        const int end = begin + kRowsPerTask < height ? begin + kRowsPerTask : height;
        spread.shares(begin, *here);
        for (int y = begin; y < end; ++y) {
            if (y + 1 < height) spread.shares(y + 1, *next);
            spread.row(y, *here, *next, out + (size_t)y * n);
            Shares* const passed = here;
            here = next;
            next = passed;
        }
    });
    return DEBLURGS_OK;
}
