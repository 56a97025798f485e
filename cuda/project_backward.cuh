// SPDX-License-Identifier: Apache-2.0
//
// Backward of the projection: a thread for each Gaussian sums over the views in registers, so no gradient of a Gaussian
// needs an atomic. Pose sums are reduced over a warp and left for deblurgs_pose_gradients.
#pragma once

#include "gaussian.cuh"

namespace deblurgs {

struct ProjectBackwardArguments {
    const float *means, *quats, *scales, *opacities, *sh0, *sh_rest;
    const ViewPose* poses;
    const Record* records; // with collected sums
    float *d_means, *d_quats, *d_scales, *d_opacities, *d_sh0, *d_sh_rest, *gradient_px, *pose_sums; // each may be null
    int num_gaussians, num_views, sh_stride, flags;
    Pinhole<float> pinhole;
};

template <int kDegree> DEBLURGS_DEVICE void project_gaussian_backward(const ProjectBackwardArguments& a) {
    constexpr int kCoefficients = (kDegree + 1) * (kDegree + 1);
    const i64 index = global_thread();
    const int lane = lane_index();
    const bool antialiased = (a.flags & DEBLURGS_ANTIALIASED) != 0;
    // Threads beyond the last Gaussian stay for the sums over their warp.
    const bool exists = index < a.num_gaussians;
    const i64 row = exists ? index : 0;
    Gaussian g;
    load_gaussian(a.means, a.quats, a.scales, a.opacities, row, g);

    V3 d_mean{0.0f, 0.0f, 0.0f};
    float hxx = 0.0f, hxy = 0.0f, hxz = 0.0f, hyy = 0.0f, hyz = 0.0f, hzz = 0.0f; // gradient of the world covariance
    float d_log_opacity = 0.0f, screen = 0.0f;
    float d_sh[kCoefficients][3];
#pragma unroll
    for (int k = 0; k < kCoefficients; ++k) d_sh[k][0] = d_sh[k][1] = d_sh[k][2] = 0.0f;

    for (int v = 0; v < a.num_views; ++v) {
        const Record& r = a.records[(i64)v * a.num_gaussians + row];
        const bool drawn = exists && is_drawn(r);
        float pose_sums[kPoseSums];
#pragma unroll
        for (int i = 0; i < kPoseSums; ++i) pose_sums[i] = 0.0f;
        if (drawn) {
            const float s0 = r.x, sx = r.y, sy = r.qa, red = r.r, green = r.g, blue = r.b;
            const ViewPose& pose = a.poses[v];
            const M3 rotation = pose_rotation(pose);
            const Projected<float> p = project(rotation, camera_from_world(rotation, pose, g.mean), g.half, a.pinhole);
            const Footprint f = footprint(p, g.opacity, antialiased);
            const float inverse_det = 1.0f / f.det;
            const float ca = f.yy * inverse_det, cb = -p.xy * inverse_det, cc = f.xx * inverse_det;

            // ln alpha = ln o - 0.5 (ca dx^2 + 2 cb dx dy + cc dy^2) with d = pixel - mean.
            const float du = ca * sx + cb * sy, dw = cb * sx + cc * sy;
            screen += sqrtf(du * du + dw * dw);
            const float ea = -0.5f * r.qb, eb = -0.5f * r.qc, ec = -0.5f * r.log2_opacity; // matrix form, eb twice
            // d covariance = -conic E conic.
            const float p00 = ea * ca + eb * cb, p01 = ea * cb + eb * cc;
            const float p10 = eb * ca + ec * cb, p11 = eb * cb + ec * cc;
            float g00 = -(ca * p00 + cb * p10), g01 = -(ca * p01 + cb * p11), g11 = -(cb * p01 + cc * p11);
            const float d_ln_opacity = f.opacity <= DEBLURGS_OPACITY_MAX ? s0 : 0.0f;
            d_log_opacity += d_ln_opacity;
            if (antialiased && f.raw > 1e-30f) {
                // ln o = ln op + 0.5 (ln det cov - ln det(cov + eps)).
                const float inverse_raw = 1.0f / f.raw, h = 0.5f * d_ln_opacity;
                g00 += h * (p.yy * inverse_raw - ca);
                g01 -= h * (p.xy * inverse_raw + cb);
                g11 += h * (p.xx * inverse_raw - cc);
            }
            // Covariance = A S A^T: gradient of S is A^T G A, of A it is 2 G A S.
            const V3 b0 = g00 * p.a0 + g01 * p.a1, b1 = g01 * p.a0 + g11 * p.a1;
            hxx += p.a0.x * b0.x + p.a1.x * b1.x;
            hxy += p.a0.x * b0.y + p.a1.x * b1.y;
            hxz += p.a0.x * b0.z + p.a1.x * b1.z;
            hyy += p.a0.y * b0.y + p.a1.y * b1.y;
            hyz += p.a0.y * b0.z + p.a1.y * b1.z;
            hzz += p.a0.z * b0.z + p.a1.z * b1.z;
            const V3 n0 = g.half * p.m0, n1 = g.half * p.m1; // rows of A S
            const V3 da0 = (2.0f * g00) * n0 + (2.0f * g01) * n1, da1 = (2.0f * g01) * n0 + (2.0f * g11) * n1;
            const float sx_px = a.pinhole.fx * p.inverse_z, sy_px = a.pinhole.fy * p.inverse_z;
            const float inside_u = fabsf(p.u) <= a.pinhole.limit_u ? 1.0f : 0.0f;
            const float inside_v = fabsf(p.v) <= a.pinhole.limit_v ? 1.0f : 0.0f;
            const float d_u = a.pinhole.fx * du - inside_u * sx_px * dot(rotation.row[2], da0);
            const float d_v = a.pinhole.fy * dw - inside_v * sy_px * dot(rotation.row[2], da1);
            V3 d_camera;
            d_camera.x = d_u * p.inverse_z;
            d_camera.y = d_v * p.inverse_z;
            d_camera.z = -(d_u * p.u + d_v * p.v + dot(p.a0, da0) + dot(p.a1, da1)) * p.inverse_z;
            d_mean = d_mean + transposed_times(rotation, d_camera);

            V3 d_center{0.0f, 0.0f, 0.0f};
            float inverse_distance, basis[DEBLURGS_MAX_SH_COEFFICIENTS];
            const V3 direction = view_direction(g.mean, pose, &inverse_distance);
            sh_basis(kDegree, direction, basis);
#pragma unroll
            for (int k = 0; k < kCoefficients; ++k) {
                d_sh[k][0] = fmaf(basis[k], red, d_sh[k][0]);
                d_sh[k][1] = fmaf(basis[k], green, d_sh[k][1]);
                d_sh[k][2] = fmaf(basis[k], blue, d_sh[k][2]);
            }
            if (kDegree > 0) {
                float h[DEBLURGS_MAX_SH_COEFFICIENTS];
                // Read again for each view: in registers they would stand beside their own gradients.
                const float* sh = a.sh_rest + a.sh_stride * row;
#pragma unroll
                for (int k = 1; k < kCoefficients; ++k)
                    h[k] = fmaf(sh[3 * k - 3], red, fmaf(sh[3 * k - 2], green, sh[3 * k - 1] * blue));
                V3 d = sh_direction_gradient(kDegree, direction, h);
                d = inverse_distance * (d - dot(d, direction) * direction);
                d_mean = d_mean + d;
                d_center = {-d.x, -d.y, -d.z};
            }
            const V3 dr0 = d_camera.x * g.mean + sx_px * da0;
            const V3 dr1 = d_camera.y * g.mean + sy_px * da1;
            const V3 dr2 = d_camera.z * g.mean - (sx_px * p.jac_u) * da0 - (sy_px * p.jac_v) * da1;
            pose_sums[0] = dr0.x, pose_sums[1] = dr0.y, pose_sums[2] = dr0.z;
            pose_sums[3] = dr1.x, pose_sums[4] = dr1.y, pose_sums[5] = dr1.z;
            pose_sums[6] = dr2.x, pose_sums[7] = dr2.y, pose_sums[8] = dr2.z;
            pose_sums[9] = d_camera.x, pose_sums[10] = d_camera.y, pose_sums[11] = d_camera.z;
            pose_sums[12] = d_center.x, pose_sums[13] = d_center.y, pose_sums[14] = d_center.z;
        }
        if (a.pose_sums) {
            const bool any = __any_sync(kFullMask, drawn);
            float mine = 0.0f; // lane i keeps sum i, for one store of the whole row
            if (any) {
#pragma unroll
                for (int i = 0; i < kPoseSums; ++i) {
                    const float total = warp_sum(pose_sums[i]);
                    if (lane == i) mine = total;
                }
            }
            if (lane < kPoseSums) a.pose_sums[((global_thread() / kWarp) * a.num_views + v) * kPoseSums + lane] = mine;
        }
    }
    if (!exists) return;

    if (a.d_means) {
        a.d_means[3 * index] = d_mean.x;
        a.d_means[3 * index + 1] = d_mean.y;
        a.d_means[3 * index + 2] = d_mean.z;
    }
    // The sum is zero where the opacity is not positive, whatever the quotient would be.
    if (a.d_opacities) a.d_opacities[index] = d_log_opacity / (g.opacity > 1e-30f ? g.opacity : 1.0f);
    if (a.d_scales || a.d_quats) {
        // Covariance = half half^T: gradient of half is 2 H half.
        const V3 h_rows[3] = {{hxx, hxy, hxz}, {hxy, hyy, hyz}, {hxz, hyz, hzz}};
        V3 dh[3];
#pragma unroll
        for (int i = 0; i < 3; ++i)
            dh[i] = (2.0f * h_rows[i].x) * g.half.row[0] + (2.0f * h_rows[i].y) * g.half.row[1] +
                    (2.0f * h_rows[i].z) * g.half.row[2];
        const V3* q = g.rotation.row;
        if (a.d_scales) {
            a.d_scales[3 * index] = dh[0].x * q[0].x + dh[1].x * q[1].x + dh[2].x * q[2].x;
            a.d_scales[3 * index + 1] = dh[0].y * q[0].y + dh[1].y * q[1].y + dh[2].y * q[2].y;
            a.d_scales[3 * index + 2] = dh[0].z * q[0].z + dh[1].z * q[1].z + dh[2].z * q[2].z;
        }
        if (a.d_quats) {
            M3 d_rotation;
#pragma unroll
            for (int i = 0; i < 3; ++i)
                d_rotation.row[i] = {dh[i].x * g.scale.x, dh[i].y * g.scale.y, dh[i].z * g.scale.z};
            float d_quat[4];
            quat_gradient(g.quat, d_rotation, d_quat);
#pragma unroll
            for (int i = 0; i < 4; ++i) a.d_quats[4 * index + i] = d_quat[i];
        }
    }
    if (a.d_sh0)
        for (int c = 0; c < 3; ++c) a.d_sh0[3 * index + c] = d_sh[0][c];
    if (a.d_sh_rest) {
        float* out = a.d_sh_rest + a.sh_stride * index;
#pragma unroll
        for (int k = 1; k < kCoefficients; ++k)
#pragma unroll
            for (int c = 0; c < 3; ++c) out[3 * (k - 1) + c] = d_sh[k][c];
        for (int i = 3 * (kCoefficients - 1); i < a.sh_stride; ++i) out[i] = 0.0f;
    }
    if (a.gradient_px) a.gradient_px[index] = screen;
}

} // namespace deblurgs

#define DEBLURGS_PROJECT_BACKWARD(degree)                                                                              \
    DEBLURGS_KERNEL __launch_bounds__(128) deblurgs_project_backward_##degree(                                         \
        const float* means, const float* quats, const float* scales, const float* opacities, const float* sh0,         \
        const float* sh_rest, const deblurgs::ViewPose* poses, const deblurgs::Record* records, float* d_means,        \
        float* d_quats, float* d_scales, float* d_opacities, float* d_sh0, float* d_sh_rest, float* gradient_px,       \
        float* pose_sums, int num_gaussians, int num_views, int sh_stride, int flags, float fx, float fy, float cx,    \
        float cy, float limit_u, float limit_v) {                                                                      \
        deblurgs::project_gaussian_backward<degree>({means, quats, scales, opacities, sh0, sh_rest, poses, records,    \
                                                     d_means, d_quats, d_scales, d_opacities, d_sh0, d_sh_rest,        \
                                                     gradient_px, pose_sums, num_gaussians, num_views, sh_stride,      \
                                                     flags, {fx, fy, cx, cy, limit_u, limit_v}});                      \
    }
DEBLURGS_PROJECT_BACKWARD(0)
DEBLURGS_PROJECT_BACKWARD(1)
DEBLURGS_PROJECT_BACKWARD(2)
DEBLURGS_PROJECT_BACKWARD(3)
#undef DEBLURGS_PROJECT_BACKWARD
