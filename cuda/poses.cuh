// SPDX-License-Identifier: Apache-2.0
//
// Poses to the form that the kernels use, and the gradient back to them.
#pragma once

#include "records.cuh"

// One block. viewmats [V,4,4], weights [V] -> poses [V]; marks the first non-finite pose, which then draws nothing.
DEBLURGS_KERNEL deblurgs_poses(const float* viewmats, const float* weights, deblurgs::ViewPose* poses,
                               long long* status, int num_views) {
    using namespace deblurgs;
    for (int v = (int)threadIdx.x; v < num_views; v += (int)blockDim.x) {
        const float* m = viewmats + 16 * (i64)v;
        ViewPose p;
        for (int i = 0; i < 3; ++i) {
            for (int j = 0; j < 3; ++j) p.rotation[3 * i + j] = m[4 * i + j];
            p.translation[i] = m[4 * i + 3];
        }
        for (int j = 0; j < 3; ++j) {
            double c = 0.0;
            for (int i = 0; i < 3; ++i) c -= (double)m[4 * i + j] * (double)m[4 * i + 3];
            p.center[j] = (float)c;
        }
        p.weight = weights[v];
        poses[v] = p;
    }
    if (threadIdx.x == 0) {
        int bad = 0;
        for (int v = num_views - 1; v >= 0; --v)
            for (int i = 0; i < 12; ++i)
                if (!(fabsf(viewmats[16 * (i64)v + i]) <= 3.4028235e38f)) bad = v + 1;
        status[kBadView] = bad;
    }
}

// One block of kPoseSums warps for each view: warp i adds sum i of all warps of Gaussians in fixed order, in double.
// A pose enters as x_camera = R x + t, through the rotation of covariances, and through the centre -R^T t.
// partial [warps, V, kPoseSums] -> gradient [V,4,4].
DEBLURGS_KERNEL __launch_bounds__(deblurgs::kPoseSums * 32)
deblurgs_pose_gradients(const float* partial, const float* viewmats, float* gradient, int num_warps, int num_views) {
    using namespace deblurgs;
    __shared__ double total[kPoseSums];
    const int view = (int)blockIdx.x, which = warp_index(), lane = lane_index();
    double sum = 0.0;
    for (int w = lane; w < num_warps; w += kWarp) sum += (double)partial[((i64)w * num_views + view) * kPoseSums + which];
    for (int step = kWarp / 2; step > 0; step /= 2) sum += __shfl_xor_sync(kFullMask, sum, step);
    if (lane == 0) total[which] = sum;
    __syncthreads();
    if (threadIdx.x >= 16) return;
    const int row = (int)threadIdx.x / 4, column = (int)threadIdx.x % 4;
    const float* m = viewmats + 16 * (i64)view;
    const double* center = total + 12;
    double g = 0.0;
    if (row < 3 && column < 3) g = total[3 * row + column] - (double)m[4 * row + 3] * center[column];
    if (row < 3 && column == 3) {
        g = total[9 + row];
        for (int j = 0; j < 3; ++j) g -= (double)m[4 * row + j] * center[j];
    }
    gradient[16 * (i64)view + threadIdx.x] = (float)g;
}
