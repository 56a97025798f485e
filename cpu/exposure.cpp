// SPDX-License-Identifier: Apache-2.0
//
// The two passes of one exposure: all views are projected together, binned one view per task, and composited tile by
// tile with the mean over the views kept in the tile. The backward walks the views one after the other so that one
// buffer of slots serves them all.
#include <atomic>
#include <cmath>
#include <cstring>
#include <memory>
#include <new>

#include "binning.h"
#include "dispatch.h"
#include "kernels.h"
#include "memory.h"
#include "threads.h"

using namespace deblurgs;

struct deblurgs_cpu_handle {
    Buffer<ViewPose> poses;
    Buffer<ViewState> views;
    Buffer<Record> records;
    Buffer<Slot> slots;
    Buffer<float> pose_sums, tile_background, tile_gradient;
    std::unique_ptr<ViewBuffers[]> view_buffers;
    int num_view_buffers = 0;
    std::unique_ptr<SortScratch[]> scratch;
    int num_scratch = 0;
    int bad_view = -1;
    std::atomic<int64_t> pairs{0};
    // What the kept state belongs to.
    bool kept = false;
    const Kernels* kernels = nullptr;
    int64_t num_gaussians = 0;
    int num_views = 0, width = 0, height = 0;
};

namespace {

int clamp_threads(int threads) { return threads < 1 ? 1 : threads > kMaxThreads ? kMaxThreads : threads; }

bool plausible(const deblurgs_exposure* e) {
    if (!e || e->num_gaussians < 0 || e->num_gaussians > 0x7fffffff - kGaussiansPerTask) return false;
    if (e->num_views < 1 || e->num_views > 65535) return false;
    if (e->width < 1 || e->height < 1 || e->width > DEBLURGS_MAX_IMAGE_SIDE || e->height > DEBLURGS_MAX_IMAGE_SIDE)
        return false;
    if (e->sh_degree < 0 || e->sh_degree > 3) return false;
    if (e->sh_stored != 1 && e->sh_stored != 4 && e->sh_stored != 9 && e->sh_stored != 16) return false;
    if ((e->sh_degree + 1) * (e->sh_degree + 1) > e->sh_stored) return false;
    if (!(e->fx > 0.0f) || !(e->fy > 0.0f) || !std::isfinite(e->fx) || !std::isfinite(e->fy)) return false;
    if (!std::isfinite(e->cx) || !std::isfinite(e->cy)) return false;
    if (!e->viewmats || !e->weights) return false;
    if (e->num_gaussians && (!e->means || !e->quats || !e->scales || !e->opacities || !e->sh0)) return false;
    if (e->num_gaussians && e->sh_stored > 1 && !e->sh_rest) return false;
    return true;
}

// Reads the poses; false with the index of the first non-finite one.
bool read_poses(const deblurgs_exposure& e, ViewPose* poses, int* bad_view) {
    for (int v = 0; v < e.num_views; ++v) {
        const float* m = e.viewmats + 16 * (size_t)v;
        ViewPose& p = poses[v];
        for (int i = 0; i < 3; ++i) {
            for (int j = 0; j < 3; ++j) p.rotation[3 * i + j] = m[4 * i + j];
            p.translation[i] = m[4 * i + 3];
        }
        for (int i = 0; i < 12; ++i)
            if (!std::isfinite(m[i])) {
                *bad_view = v;
                return false;
            }
        for (int j = 0; j < 3; ++j) {
            double c = 0.0;
            for (int i = 0; i < 3; ++i) c -= (double)m[4 * i + j] * (double)m[4 * i + 3];
            p.center[j] = (float)c;
        }
        p.weight = e.weights[v];
    }
    return true;
}

void describe(Job& job, deblurgs_cpu_handle& h, const deblurgs_exposure& e) {
    std::memset(&job, 0, sizeof job);
    job.in = &e;
    job.poses = h.poses.data();
    job.views = h.views.data();
    job.tiles_x = (e.width + DEBLURGS_TILE - 1) / DEBLURGS_TILE;
    job.tiles_y = (e.height + DEBLURGS_TILE - 1) / DEBLURGS_TILE;
}

int64_t num_gaussian_tasks(const deblurgs_exposure& e) {
    return (e.num_gaussians + kGaussiansPerTask - 1) / kGaussiansPerTask;
}

// A pose enters as x_camera = R x + t, through the rotation of covariances, and through the centre -R^T t.
void pose_gradients(const deblurgs_exposure& e, const float* sums, int64_t tasks, int lanes_stride, float* out) {
    for (int v = 0; v < e.num_views; ++v) {
        double s[kPoseSums] = {};
        for (int64_t task = 0; task < tasks; ++task)
            for (int i = 0; i < kPoseSums; ++i)
                s[i] += sums[((size_t)task * e.num_views * lanes_stride + v) * kPoseSums + i];
        const float* m = e.viewmats + 16 * (size_t)v;
        float* g = out + 16 * (size_t)v;
        std::memset(g, 0, 16 * sizeof(float));
        const double* center = s + 12;
        for (int i = 0; i < 3; ++i) {
            double through_center = 0.0;
            for (int j = 0; j < 3; ++j) {
                g[4 * i + j] = (float)(s[3 * i + j] - (double)m[4 * i + 3] * center[j]);
                through_center += (double)m[4 * i + j] * center[j];
            }
            g[4 * i + 3] = (float)(s[9 + i] - through_center);
        }
    }
}

} // namespace

extern "C" {

deblurgs_cpu_handle* deblurgs_cpu_create(void) { return new (std::nothrow) deblurgs_cpu_handle; }

void deblurgs_cpu_destroy(deblurgs_cpu_handle* handle) { delete handle; }

int64_t deblurgs_cpu_bytes(const deblurgs_cpu_handle* h) {
    if (!h) return 0;
    size_t total = h->poses.bytes() + h->views.bytes() + h->records.bytes() + h->slots.bytes() + h->pose_sums.bytes() +
                   h->tile_background.bytes() + h->tile_gradient.bytes();
    for (int v = 0; v < h->num_view_buffers; ++v) {
        const ViewBuffers& b = h->view_buffers[v];
        total += b.entries.bytes() + b.tile_start.bytes() + b.masks.bytes() + b.final_color.bytes();
    }
    for (int w = 0; w < h->num_scratch; ++w) {
        const SortScratch& s = h->scratch[w];
        total += s.keys[0].bytes() + s.keys[1].bytes() + s.ids[0].bytes() + s.ids[1].bytes() + s.cursor.bytes() +
                 s.boxes.bytes();
    }
    return (int64_t)total;
}

int deblurgs_cpu_bad_view(const deblurgs_cpu_handle* handle) { return handle ? handle->bad_view : -1; }

int64_t deblurgs_cpu_pairs(const deblurgs_cpu_handle* handle) { return handle ? handle->pairs.load() : 0; }

int deblurgs_cpu_forward(deblurgs_cpu_handle* handle, const deblurgs_exposure* exposure, const deblurgs_images* images,
                         int threads) {
    if (!handle || !images || !images->image || !plausible(exposure)) return DEBLURGS_BAD_ARGUMENT;
    const deblurgs_exposure& e = *exposure;
    deblurgs_cpu_handle& h = *handle;
    threads = clamp_threads(threads);
    h.kept = false;
    const Kernels& k = kernels();
    const size_t views = (size_t)e.num_views, count = (size_t)e.num_gaussians;
    if (!h.poses.reserve(views) || !h.views.reserve(views) || !h.records.reserve(views * count))
        return DEBLURGS_OUT_OF_MEMORY;
    if (h.num_view_buffers < e.num_views) {
        h.view_buffers.reset(new (std::nothrow) ViewBuffers[views]);
        h.num_view_buffers = h.view_buffers ? e.num_views : 0;
        if (!h.view_buffers) return DEBLURGS_OUT_OF_MEMORY;
    }
    if (h.num_scratch < threads) {
        h.scratch.reset(new (std::nothrow) SortScratch[threads]);
        h.num_scratch = h.scratch ? threads : 0;
        if (!h.scratch) return DEBLURGS_OUT_OF_MEMORY;
    }
    if (!read_poses(e, h.poses.data(), &h.bad_view)) return DEBLURGS_BAD_POSE;

    Job job;
    describe(job, h, e);
    job.out = *images;
    job.keep = (e.flags & DEBLURGS_KEEP) != 0;
    const int64_t tiles = (int64_t)job.tiles_x * job.tiles_y;
    for (size_t v = 0; v < views; ++v) {
        ViewState& state = job.views[v];
        std::memset(&state, 0, sizeof state);
        state.records = h.records.data() + v * count;
        if (job.keep) {
            if (!h.view_buffers[v].final_color.reserve((size_t)tiles * 3 * kTilePixels)) return DEBLURGS_OUT_OF_MEMORY;
            state.final_color = h.view_buffers[v].final_color.data();
        }
    }
    if (images->visible) std::memset(images->visible, 0, count);

    parallel(threads, num_gaussian_tasks(e), [&](int64_t task, int) { k.project(&job, (int)task); });
    std::atomic<int> status{DEBLURGS_OK};
    parallel(threads, e.num_views, [&](int64_t view, int worker) {
        const int s = bin_view(job, (int)view, k.mask_bytes, h.view_buffers[view], h.scratch[worker]);
        if (s != DEBLURGS_OK) status.store(s);
    });
    if (status.load() != DEBLURGS_OK) return status.load();
    std::atomic<int64_t> pairs{0};
    parallel(threads, tiles, [&](int64_t tile, int) {
        pairs.fetch_add(k.forward_tile(&job, (int)tile), std::memory_order_relaxed);
    });
    h.pairs.store(pairs.load());
    h.kept = job.keep;
    h.kernels = &k;
    h.num_gaussians = e.num_gaussians;
    h.num_views = e.num_views;
    h.width = e.width;
    h.height = e.height;
    return DEBLURGS_OK;
}

int deblurgs_cpu_backward(deblurgs_cpu_handle* handle, const deblurgs_exposure* exposure, const float* image_gradient,
                          const deblurgs_gradients* gradients, int threads) {
    if (!handle || !image_gradient || !gradients || !plausible(exposure)) return DEBLURGS_BAD_ARGUMENT;
    const deblurgs_exposure& e = *exposure;
    deblurgs_cpu_handle& h = *handle;
    if (!h.kept || h.num_gaussians != e.num_gaussians || h.num_views != e.num_views || h.width != e.width ||
        h.height != e.height)
        return DEBLURGS_NO_FORWARD;
    threads = clamp_threads(threads);
    h.kept = false;
    const Kernels& k = *h.kernels;
    Job job;
    describe(job, h, e);
    job.keep = true;
    job.grad = *gradients;
    job.image_gradient = image_gradient;
    const int64_t tiles = (int64_t)job.tiles_x * job.tiles_y, tasks = num_gaussian_tasks(e);
    size_t slots = 0;
    for (int v = 0; v < e.num_views; ++v) slots = job.views[v].num_slots > slots ? job.views[v].num_slots : slots;
    if (!h.slots.reserve(slots)) return DEBLURGS_OUT_OF_MEMORY;
    if (!h.tile_gradient.reserve((size_t)tiles * 3 * kTilePixels)) return DEBLURGS_OUT_OF_MEMORY;
    job.slots = h.slots.data();
    job.tile_gradient = h.tile_gradient.data();
    if (gradients->background) {
        if (!h.tile_background.reserve((size_t)tiles * 3)) return DEBLURGS_OUT_OF_MEMORY;
        job.tile_background = h.tile_background.data();
        std::memset(job.tile_background, 0, sizeof(float) * 3 * (size_t)tiles);
    }
    constexpr int kMostLanes = 16;
    if (gradients->viewmats) {
        if (!h.pose_sums.reserve((size_t)(tasks + 1) * e.num_views * kPoseSums * kMostLanes)) return DEBLURGS_OUT_OF_MEMORY;
        job.pose_sums = h.pose_sums.data();
    }
    parallel(threads, tiles, [&](int64_t tile, int) { k.spread_gradient(&job, (int)tile); });
    for (int v = 0; v < e.num_views; ++v) {
        parallel(threads, tiles, [&](int64_t tile, int) { k.backward_tile(&job, v, (int)tile); });
        parallel(threads, tasks, [&](int64_t task, int) { k.collect(&job, v, (int)task); });
    }
    parallel(threads, tasks, [&](int64_t task, int) { k.project_backward(&job, (int)task); });
    if (gradients->viewmats) pose_gradients(e, job.pose_sums, tasks, k.lanes, gradients->viewmats);
    if (gradients->background)
        for (int c = 0; c < 3; ++c) {
            double total = 0.0;
            for (int64_t tile = 0; tile < tiles; ++tile) total += job.tile_background[tile * 3 + c];
            gradients->background[c] = (float)total;
        }
    return DEBLURGS_OK;
}

} // extern "C"
