// SPDX-License-Identifier: Apache-2.0
#include <mutex>

#include "dispatch.h"
#include "kernels.h"
#include "memory.h"
#include "threads.h"

using namespace deblurgs;

namespace {

// Kept between calls; guarded by the lock in deblurgs_cpu_loss.
struct LossScratch {
    std::mutex mutex;
    Buffer<float> scratch;
    Buffer<double> sums;
};
LossScratch& loss_scratch() {
    static LossScratch* scratch = new LossScratch; // Never destroyed, like the threads that may still use it.
    return *scratch;
}

// Bands depend on the image alone, so that sums do not depend on the number of threads. A band enters ten rows more on
// each side than it owns, so bands are tall, and an image has at least a few.
int rows_per_band(int height) {
    const int rows = (height + 7) / 8;
    return rows < 48 ? 48 : rows;
}

} // namespace

extern "C" int deblurgs_cpu_loss(const float* prediction, const float* observed, const float* weight, int32_t width,
                                 int32_t height, float ssim_weight, float edge_weight, int32_t encode_srgb,
                                 double* terms, float* gradient, float* l1_map, int threads) {
    if (!prediction || !observed || !terms || width < 1 || height < 1 || width > DEBLURGS_MAX_IMAGE_SIDE ||
        height > DEBLURGS_MAX_IMAGE_SIDE)
        return DEBLURGS_BAD_ARGUMENT;
    threads = threads < 1 ? 1 : threads > kMaxThreads ? kMaxThreads : threads;
    const Kernels& k = kernels();
    LossScratch& s = loss_scratch();
    std::lock_guard<std::mutex> lock(s.mutex);

    LossJob job = {};
    job.prediction = prediction;
    job.observed = observed;
    job.weight = weight;
    job.gradient = gradient;
    job.l1_map = l1_map;
    job.width = width;
    job.height = height;
    job.stride = (width + 15) / 16 * 16 + 2 * kLossPad;
    job.rows_per_band = rows_per_band(height);
    job.encode_srgb = encode_srgb != 0;
    job.want_ssim = ssim_weight != 0.0f;
    job.want_edges = edge_weight != 0.0f;
    job.bands = (height + job.rows_per_band - 1) / job.rows_per_band;
    const int64_t tasks = 3 * (int64_t)job.bands;
    if (!s.sums.reserve(3 * tasks) || !s.scratch.reserve((size_t)threads * kLossScratchRows * job.stride))
        return DEBLURGS_OUT_OF_MEMORY;
    job.scratch = s.scratch.data();
    job.l1_sums = s.sums.data();
    job.ssim_sums = job.l1_sums + tasks;
    job.edge_sums = job.ssim_sums + tasks;

    double total_weight = 0.0;
    const int64_t pixels = (int64_t)width * height;
    if (weight)
        for (int64_t i = 0; i < pixels; ++i) total_weight += weight[i];
    else
        total_weight = (double)pixels;
    const double scale = total_weight > 0.0 ? 1.0 / (3.0 * total_weight) : 0.0;
    job.l1_factor = (float)((1.0 - ssim_weight) * scale);
    job.ssim_factor = (float)(-(double)ssim_weight * scale);
    job.edge_factor = (float)(0.5 * edge_weight * scale);

    parallel(threads, tasks, [&](int64_t task, int worker) { k.loss_band(&job, (int)task, worker); });
    if (l1_map) parallel(threads, height, [&](int64_t row, int) { k.loss_map_row(&job, (int)row); });
    double l1 = 0.0, ssim = 0.0, edges = 0.0;
    for (int64_t t = 0; t < tasks; ++t) {
        l1 += job.l1_sums[t];
        ssim += job.ssim_sums[t];
        edges += job.edge_sums[t];
    }
    l1 *= scale;
    edges *= 0.5 * scale;
    ssim = scale > 0.0 ? ssim * scale : 1.0;
    terms[0] = (1.0 - ssim_weight) * l1 + (job.want_ssim ? ssim_weight * (1.0 - ssim) : 0.0) + edge_weight * edges;
    terms[1] = l1;
    terms[2] = ssim;
    terms[3] = edges;
    return DEBLURGS_OK;
}
