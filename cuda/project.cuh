// SPDX-License-Identifier: Apache-2.0
//
// Projection: a thread for each Gaussian, which loops over the views. Covariance and spherical harmonics are read once
// for all of them.
#pragma once

#include "gaussian.cuh"

namespace deblurgs {

struct ProjectArguments {
    const float *means, *quats, *scales, *opacities, *sh0, *sh_rest;
    const ViewPose* poses;
    Record* records; // [V, N]
    u32* depth_keys; // [V, N], or [N] for one order of the exposure
    int num_gaussians, num_views, width, height, sh_stride, flags, depth_view;
    Pinhole<float> pinhole;
};

template <int kDegree> DEBLURGS_DEVICE void project_gaussian(const ProjectArguments& a) {
    constexpr int kCoefficients = (kDegree + 1) * (kDegree + 1);
    const i64 index = global_thread();
    if (index >= a.num_gaussians) return;
    Gaussian g;
    bool valid = load_gaussian(a.means, a.quats, a.scales, a.opacities, index, g);
    float sh[kCoefficients][3], sh_total = 0.0f;
#pragma unroll
    for (int k = 0; k < kCoefficients; ++k)
#pragma unroll
        for (int c = 0; c < 3; ++c) {
            sh[k][c] = k == 0 ? a.sh0[3 * index + c] : a.sh_rest[a.sh_stride * index + 3 * (k - 1) + c];
            sh_total += fabsf(sh[k][c]);
        }
    valid = valid && usable(sh_total);

    for (int v = 0; v < a.num_views; ++v) {
        const ViewPose& pose = a.poses[v];
        Record& out = a.records[(i64)v * a.num_gaussians + index];
        const M3 rotation = pose_rotation(pose);
        const V3 camera = camera_from_world(rotation, pose, g.mean);
        if (v == a.depth_view) // Behind the camera of this view counts as nearest.
            a.depth_keys[index] = !valid || !(camera.z < kHuge) ? 0xffffffffu
                                  : camera.z > 0.0f             ? __float_as_uint(camera.z)
                                                                : 0u;
        bool drawn = valid && camera.z >= DEBLURGS_NEAR && camera.z < kHuge;
        Record r;
        r.tile_begin = r.tile_end = 0;
        if (drawn) {
            const Projected<float> p = project(rotation, camera, g.half, a.pinhole);
            const Footprint f = footprint(p, g.opacity, (a.flags & DEBLURGS_ANTIALIASED) != 0);
            const float opacity = fminf(f.opacity, DEBLURGS_OPACITY_MAX);
            drawn = opacity >= DEBLURGS_ALPHA_CUTOFF && usable(f.det) && usable(f.xx) && usable(f.yy);
            const float inverse_det = 1.0f / f.det;
            r.qa = -0.72134752044448170f * f.yy * inverse_det; // -0.5 log2(e)
            r.qc = -0.72134752044448170f * f.xx * inverse_det;
            r.qb = 1.4426950408889634f * p.xy * inverse_det;
            r.log2_opacity = log2f(drawn ? opacity : 1.0f);
            r.x = fmaf(a.pinhole.fx, p.u, a.pinhole.cx);
            r.y = fmaf(a.pinhole.fy, p.v, a.pinhole.cy);
            r.z = camera.z;
            drawn = drawn && usable(r.x) && usable(r.y) && usable(r.qa) && usable(r.qb) && usable(r.qc);
            // d^T conic d <= 2 ln(255 opacity) bounds the pixels that reach the cut-off; a hair more against rounding.
            const float level = 1.3862943611198906f * 1.0001f * (r.log2_opacity - kLog2Cutoff) + 1e-4f;
            const float extent_x = sqrtf(fmaxf(level * f.xx, 0.0f)), extent_y = sqrtf(fmaxf(level * f.yy, 0.0f));
            // Pixel centres within the extent, then the tiles that hold them.
            const float x0 = fmaxf(0.0f, r.x - extent_x - 0.5f), y0 = fmaxf(0.0f, r.y - extent_y - 0.5f);
            const float x1 = fminf((float)a.width - 1.0f, r.x + extent_x - 0.5f);
            const float y1 = fminf((float)a.height - 1.0f, r.y + extent_y - 0.5f);
            drawn = drawn && x0 <= x1 && y0 <= y1;
            if (drawn) {
                r.tile_begin = (u32)x0 / DEBLURGS_TILE | (u32)y0 / DEBLURGS_TILE << 16;
                r.tile_end = ((u32)x1 / DEBLURGS_TILE + 1u) | ((u32)y1 / DEBLURGS_TILE + 1u) << 16;
            }
        }
        if (drawn) {
            float distance, basis[DEBLURGS_MAX_SH_COEFFICIENTS], color[3];
            sh_basis(kDegree, view_direction(g.mean, pose, &distance), basis);
#pragma unroll
            for (int c = 0; c < 3; ++c) {
                color[c] = 0.5f;
#pragma unroll
                for (int k = 0; k < kCoefficients; ++k) color[c] = fmaf(basis[k], sh[k][c], color[c]);
                drawn = drawn && usable(color[c]);
            }
            r.r = fmaxf(color[0], 0.0f);
            r.g = fmaxf(color[1], 0.0f);
            r.b = fmaxf(color[2], 0.0f);
        }
        if (drawn)
            out = r;
        else
            out.tile_begin = out.tile_end = 0;
        if (a.depth_view < 0)
            a.depth_keys[(i64)v * a.num_gaussians + index] = drawn ? __float_as_uint(camera.z) : 0xffffffffu;
    }
}

} // namespace deblurgs

#define DEBLURGS_PROJECT(degree)                                                                                       \
    DEBLURGS_KERNEL __launch_bounds__(128) deblurgs_project_##degree(                                                  \
        const float* means, const float* quats, const float* scales, const float* opacities, const float* sh0,         \
        const float* sh_rest, const deblurgs::ViewPose* poses, deblurgs::Record* records, unsigned* depth_keys,        \
        int num_gaussians, int num_views, int width, int height, int sh_stride, int flags, int depth_view, float fx,   \
        float fy, float cx, float cy, float limit_u, float limit_v) {                                                  \
        deblurgs::project_gaussian<degree>({means, quats, scales, opacities, sh0, sh_rest, poses, records, depth_keys, \
                                            num_gaussians, num_views, width, height, sh_stride, flags, depth_view,     \
                                            {fx, fy, cx, cy, limit_u, limit_v}});                                      \
    }
DEBLURGS_PROJECT(0)
DEBLURGS_PROJECT(1)
DEBLURGS_PROJECT(2)
DEBLURGS_PROJECT(3)
#undef DEBLURGS_PROJECT
