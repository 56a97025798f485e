// SPDX-License-Identifier: Apache-2.0
//
// Projection of kLanes Gaussians (one per lane) into all views, forward and backward. What does not depend on the view
// (rotation, spherical-harmonic coefficients, covariance gradient) is handled once per exposure.
#pragma once

#include "deblurgs/splat_math.h"
#include "kernels.h"
#include "simd.h"

namespace deblurgs {
namespace DEBLURGS_ISA {

using V3 = Vec3<F>;

// Numbers beyond this are treated like non-finite ones: the products formed from them would overflow.
constexpr float kHuge = 1e18f;
constexpr float kLog2Cutoff = -7.99435343685886f; // log2(1/255)

DEBLURGS_INLINE M usable(F x) { return abs(x) < F(kHuge); }

// Rows of `fields` floats, one row per Gaussian, to one vector per field, and back. `count` rows exist.
DEBLURGS_INLINE void load_fields(const float* base, int64_t stride, int fields, int count, F* out) {
    for (int f = 0; f < fields; f += kLanes) {
        const int n = fields - f < kLanes ? fields - f : kLanes;
        F rows[kLanes];
        if (count == kLanes)
            for (int l = 0; l < kLanes; ++l) rows[l] = load_first(base + l * stride + f, n);
        else
            for (int l = 0; l < kLanes; ++l) rows[l] = l < count ? load_first(base + l * stride + f, n) : F(0.0f);
        transpose(rows);
        for (int i = 0; i < n; ++i) out[f + i] = rows[i];
    }
}
DEBLURGS_INLINE void store_fields(float* base, int64_t stride, int fields, int count, const F* in) {
    for (int f = 0; f < fields; f += kLanes) {
        const int n = fields - f < kLanes ? fields - f : kLanes;
        F rows[kLanes];
        for (int i = 0; i < kLanes; ++i) rows[i] = i < n ? in[f + i] : F(0.0f);
        transpose(rows);
        for (int l = 0; l < count; ++l) store_first(rows[l], base + l * stride + f, n);
    }
}
// One number per Gaussian.
DEBLURGS_INLINE F load_field(const float* base, int count) {
    return count == kLanes ? F::load(base) : load_first(base, count);
}
DEBLURGS_INLINE void store_field(float* base, int count, F a) {
    if (count == kLanes)
        a.store(base);
    else
        store_first(a, base, count);
}

struct Block {
    V3 mean, scale;
    UnitQuat<F> quat;
    F opacity;
    F sh[DEBLURGS_MAX_SH_COEFFICIENTS][3];
    Mat3<F> rotation, half; // half = rotation diag(scale); the world covariance is half half^T
    M valid;
};

inline void load_block(const deblurgs_exposure& in, int64_t first, int count, Block& b) {
    F t[4];
    b.valid = mask_from_bits(count >= kLanes ? (1u << kLanes) - 1u : (1u << count) - 1u);
    load_fields(in.means + 3 * first, 3, 3, count, t);
    b.mean = {t[0], t[1], t[2]};
    b.valid = b.valid & usable(t[0]) & usable(t[1]) & usable(t[2]);
    load_fields(in.scales + 3 * first, 3, 3, count, t);
    b.scale = {t[0], t[1], t[2]};
    b.valid = b.valid & usable(t[0]) & usable(t[1]) & usable(t[2]);
    b.opacity = load_field(in.opacities + first, count);
    b.valid = b.valid & usable(b.opacity);
    load_fields(in.quats + 4 * first, 4, 4, count, t);
    F largest = max(max(abs(t[0]), abs(t[1])), max(abs(t[2]), abs(t[3])));
    F total = abs(t[0]) + abs(t[1]) + abs(t[2]) + abs(t[3]);
    b.valid = b.valid & (total < F(3e38f)) & (largest > F(1.2e-38f));
    const int coefficients = (in.sh_degree + 1) * (in.sh_degree + 1);
    load_fields(in.sh0 + 3 * first, 3, 3, count, b.sh[0]);
    if (coefficients > 1) {
        const int64_t stride = 3 * (in.sh_stored - 1);
        load_fields(in.sh_rest + stride * first, stride, 3 * (coefficients - 1), count, b.sh[1]);
    }
    F sh_total(0.0f);
    for (int k = 0; k < coefficients; ++k) sh_total += abs(b.sh[k][0]) + abs(b.sh[k][1]) + abs(b.sh[k][2]);
    b.valid = b.valid & usable(sh_total);

    // Lanes that are not drawn continue with harmless numbers, so that no sum over lanes can meet a NaN.
    const F one(1.0f);
    b.mean = {keep(b.valid, b.mean.x), keep(b.valid, b.mean.y), keep(b.valid, b.mean.z)};
    b.scale = {keep(b.valid, b.scale.x), keep(b.valid, b.scale.y), keep(b.valid, b.scale.z)};
    b.opacity = keep(b.valid, b.opacity);
    for (int k = 0; k < coefficients; ++k)
        for (int c = 0; c < 3; ++c) b.sh[k][c] = keep(b.valid, b.sh[k][c]);
    b.quat = normalized(select(b.valid, t[0], one), keep(b.valid, t[1]), keep(b.valid, t[2]), keep(b.valid, t[3]));
    b.rotation = rotation_from_quat(b.quat);
    for (int i = 0; i < 3; ++i) {
        const V3& r = b.rotation.row[i];
        b.half.row[i] = {r.x * b.scale.x, r.y * b.scale.y, r.z * b.scale.z};
    }
}

DEBLURGS_INLINE Mat3<F> pose_rotation(const ViewPose& p) {
    const float* r = p.rotation;
    return {{{F(r[0]), F(r[1]), F(r[2])}, {F(r[3]), F(r[4]), F(r[5])}, {F(r[6]), F(r[7]), F(r[8])}}};
}
DEBLURGS_INLINE Pinhole<F> pinhole_of(const Job& job) {
    const deblurgs_exposure& in = *job.in;
    return {F(in.fx), F(in.fy), F(in.cx), F(in.cy), F(in.limit_u), F(in.limit_v)};
}

// Unit direction from the camera centre and the reciprocal of the distance.
DEBLURGS_INLINE V3 view_direction(const V3& mean, const ViewPose& pose, F* inverse_distance) {
    V3 d = {mean.x - F(pose.center[0]), mean.y - F(pose.center[1]), mean.z - F(pose.center[2])};
    // A Gaussian exactly at the camera centre is behind the near plane; the floor only keeps its lane finite.
    *inverse_distance = F(1.0f) / sqrt(max(dot(d, d), F(1e-30f)));
    return *inverse_distance * d;
}

inline void project(const Job* job_ptr, int task) {
    const Job& job = *job_ptr;
    const deblurgs_exposure& in = *job.in;
    const Pinhole<F> pinhole = pinhole_of(job);
    const int64_t begin = (int64_t)task * kGaussiansPerTask;
    const int64_t end = begin + kGaussiansPerTask < in.num_gaussians ? begin + kGaussiansPerTask : in.num_gaussians;
    const int coefficients = (in.sh_degree + 1) * (in.sh_degree + 1);
    const bool antialiased = (in.flags & DEBLURGS_ANTIALIASED) != 0;
    const F eps(DEBLURGS_EPS2D), one(1.0f);
    Block b;
    for (int64_t first = begin; first < end; first += kLanes) {
        const int count = end - first < kLanes ? (int)(end - first) : kLanes;
        load_block(in, first, count, b);
        for (int v = 0; v < in.num_views; ++v) {
            const ViewPose& pose = job.poses[v];
            const Mat3<F> rotation = pose_rotation(pose);
            const V3 translation = {F(pose.translation[0]), F(pose.translation[1]), F(pose.translation[2])};
            V3 camera = rotation * b.mean + translation;
            M drawn = b.valid & (camera.z >= F(DEBLURGS_NEAR)) & (camera.z < F(kHuge));
            camera.z = select(drawn, camera.z, one);
            const Projected<F> p = project(rotation, camera, b.half, pinhole);
            const F xx = p.xx + eps, yy = p.yy + eps;
            const F raw = determinant_of_covariance(p);
            const F det = raw + eps * (p.xx + p.yy) + eps * eps;
            F opacity = b.opacity;
            if (antialiased) opacity = opacity * sqrt(raw / det);
            opacity = min(opacity, F(DEBLURGS_OPACITY_MAX));
            drawn = drawn & (opacity >= F(DEBLURGS_ALPHA_CUTOFF)) & usable(det) & usable(xx) & usable(yy);
            const F inverse_det = one / det;
            const F log2e_half(-0.72134752044448170f); // -0.5 log2(e)
            const F qa = log2e_half * yy * inverse_det, qc = log2e_half * xx * inverse_det;
            const F qb = F(1.4426950408889634f) * p.xy * inverse_det;
            const F log2_opacity = log2_precise(select(drawn, opacity, one));
            const F u = fma(pinhole.fx, p.u, pinhole.cx), w = fma(pinhole.fy, p.v, pinhole.cy);
            // d^T conic d <= 2 ln(255 opacity) bounds the pixels that reach the cut-off; a hair more against rounding.
            const F level = F(1.3862943611198906f * 1.0001f) * (log2_opacity - F(kLog2Cutoff)) + F(1e-4f);
            const F extent_x = sqrt(max(level * xx, F(0.0f))), extent_y = sqrt(max(level * yy, F(0.0f)));
            drawn = drawn & usable(u) & usable(w) & usable(qa) & usable(qb) & usable(qc);
            // Pixel centres within the extent, then the binning tiles that hold them.
            const F limit_x((float)in.width), limit_y((float)in.height), half_px(0.5f), zero(0.0f);
            const F x0 = max(zero, min(limit_x, u - extent_x - half_px));
            const F x1 = max(F(-1.0f), min(limit_x - one, u + extent_x - half_px));
            const F y0 = max(zero, min(limit_y, w - extent_y - half_px));
            const F y1 = max(F(-1.0f), min(limit_y - one, w + extent_y - half_px));
            drawn = drawn & (x0 <= x1) & (y0 <= y1);
            if (!any(drawn)) {
                Record* r = job.views[v].records + first;
                for (int l = 0; l < count; ++l)
                    r[l].tile_x0 = r[l].tile_x1 = r[l].tile_y0 = r[l].tile_y1 = 0;
                continue;
            }
            F distance;
            const V3 direction = view_direction(b.mean, pose, &distance);
            F basis[DEBLURGS_MAX_SH_COEFFICIENTS], color[3];
            sh_basis(in.sh_degree, direction, basis);
            for (int c = 0; c < 3; ++c) {
                color[c] = F(0.5f);
                for (int k = 0; k < coefficients; ++k) color[c] = fma(basis[k], b.sh[k][c], color[c]);
                drawn = drawn & usable(color[c]);
                color[c] = max(color[c], zero);
            }
            const F per_tile(1.0f / DEBLURGS_TILE);
            F fields[16] = {u, w, qa, qb, qc, log2_opacity, color[0], color[1], color[2], p.camera.z,
                            F(-0.5f) * qb / qc, F(-0.5f) * qb / qa,
                            keep(drawn, pack_words(floor(x0 * per_tile), floor(y0 * per_tile))),
                            keep(drawn, pack_words(floor(max(x1, zero) * per_tile) + one,
                                                   floor(max(y1, zero) * per_tile) + one)),
                            zero, zero};
            store_fields(&job.views[v].records[first].x, 16, 16, count, fields);
        }
    }
}

// Sum of a Gaussian's entry slots of one view in a fixed order, moved from the tiles' centres to the projected mean.
inline void collect(const Job* job, int view, int task) {
    const ViewState& state = job->views[view];
    const int64_t begin = (int64_t)task * kGaussiansPerTask;
    const int64_t end =
        begin + kGaussiansPerTask < job->in->num_gaussians ? begin + kGaussiansPerTask : job->in->num_gaussians;
    constexpr int mask_bytes = kTilePixels / kLanes / 8;
    for (int64_t g = begin; g < end; ++g) {
        Record& r = state.records[g];
        if (r.tile_x0 == r.tile_x1) continue;
        float s0 = 0, sx = 0, sy = 0, sxx = 0, sxy = 0, syy = 0, cr = 0, cg = 0, cb = 0;
        const int wide = r.tile_x1 - r.tile_x0, slots = wide * (r.tile_y1 - r.tile_y0);
        int tx = r.tile_x0, ty = r.tile_y0;
        for (int i = 0; i < slots; ++i) {
            const size_t slot = (size_t)r.slot + i;
            const float dx = (float)(tx * DEBLURGS_TILE + DEBLURGS_TILE / 2) - r.x;
            const float dy = (float)(ty * DEBLURGS_TILE + DEBLURGS_TILE / 2) - r.y;
            const bool wrap = ++tx == r.tile_x1;
            tx -= wrap ? wide : 0;
            ty += wrap;
            uint32_t mask = 0;
            memcpy(&mask, state.masks + slot * mask_bytes, mask_bytes);
            if (!mask) continue;
            const float* m = job->slots[slot].value;
            s0 += m[0];
            sx += m[1] + dx * m[0];
            sy += m[2] + dy * m[0];
            sxx += m[3] + dx * (2.0f * m[1] + dx * m[0]);
            sxy += m[4] + dx * m[2] + dy * (m[1] + dx * m[0]);
            syy += m[5] + dy * (2.0f * m[2] + dy * m[0]);
            cr += m[6];
            cg += m[7];
            cb += m[8];
        }
        // max(0, colour) passes no gradient where it acts.
        if (!(r.r > 0.0f)) cr = 0.0f;
        if (!(r.g > 0.0f)) cg = 0.0f;
        if (!(r.b > 0.0f)) cb = 0.0f;
        r.x = s0, r.y = sx, r.qa = sy, r.qb = sxx, r.qc = sxy, r.log2_opacity = syy;
        r.r = cr, r.g = cg, r.b = cb;
    }
}

inline void project_backward(const Job* job_ptr, int task) {
    const Job& job = *job_ptr;
    const deblurgs_exposure& in = *job.in;
    const deblurgs_gradients& grad = job.grad;
    const Pinhole<F> pinhole = pinhole_of(job);
    const int64_t begin = (int64_t)task * kGaussiansPerTask;
    const int64_t end = begin + kGaussiansPerTask < in.num_gaussians ? begin + kGaussiansPerTask : in.num_gaussians;
    const int coefficients = (in.sh_degree + 1) * (in.sh_degree + 1);
    const bool antialiased = (in.flags & DEBLURGS_ANTIALIASED) != 0;
    const bool want_poses = job.pose_sums != nullptr;
    const bool want_sh = grad.sh0 || grad.sh_rest;
    const F eps(DEBLURGS_EPS2D), one(1.0f), two(2.0f), zero(0.0f);
    float* pose_sums = want_poses ? job.pose_sums + (int64_t)task * in.num_views * kPoseSums * kLanes : nullptr;
    if (want_poses) memset(pose_sums, 0, sizeof(float) * in.num_views * kPoseSums * kLanes);

    Block b;
    for (int64_t first = begin; first < end; first += kLanes) {
        const int count = end - first < kLanes ? (int)(end - first) : kLanes;
        load_block(in, first, count, b);
        V3 d_mean{zero, zero, zero};
        F hxx(0.0f), hxy(0.0f), hxz(0.0f), hyy(0.0f), hyz(0.0f), hzz(0.0f); // gradient of the world covariance
        F d_log_opacity(0.0f), screen(0.0f);
        F d_sh[DEBLURGS_MAX_SH_COEFFICIENTS][3];
        for (int k = 0; k < coefficients; ++k) d_sh[k][0] = d_sh[k][1] = d_sh[k][2] = zero;

        for (int v = 0; v < in.num_views; ++v) {
            const Record* r = job.views[v].records + first;
            F g[16];
            load_fields(&r->x, 16, 16, count, g);
            const M drawn = low_words_differ(g[12], g[13]);
            const uint32_t drawn_bits = bits(drawn);
            if (!drawn_bits) continue;
            for (int f = 0; f < 9; ++f) g[f] = keep(drawn, g[f]);
            // The whole chain is linear in these sums, so a lane that is not drawn yields zeros as long as its
            // geometry stays finite: it gets the harmless depth 1.
            const ViewPose& pose = job.poses[v];
            const Mat3<F> rotation = pose_rotation(pose);
            const V3 translation = {F(pose.translation[0]), F(pose.translation[1]), F(pose.translation[2])};
            V3 camera = rotation * b.mean + translation;
            camera = {keep(drawn, camera.x), keep(drawn, camera.y), select(drawn, camera.z, one)};
            Mat3<F> half = b.half;
            if (drawn_bits != (1u << kLanes) - 1u)
                for (int i = 0; i < 3; ++i)
                    half.row[i] = {keep(drawn, half.row[i].x), keep(drawn, half.row[i].y), keep(drawn, half.row[i].z)};
            const Projected<F> p = project(rotation, camera, half, pinhole);
            const F xx = p.xx + eps, yy = p.yy + eps;
            const F raw = determinant_of_covariance(p);
            const F det = raw + eps * (p.xx + p.yy) + eps * eps;
            const F inverse_det = one / det;
            const F ca = yy * inverse_det, cb = -p.xy * inverse_det, cc = xx * inverse_det;

            // ln alpha = ln o - 0.5 (ca dx^2 + 2 cb dx dy + cc dy^2) with d = pixel - mean.
            const F du = ca * g[1] + cb * g[2], dw = cb * g[1] + cc * g[2];
            screen += sqrt(du * du + dw * dw);
            const F ea = F(-0.5f) * g[3], eb = F(-0.5f) * g[4], ec = F(-0.5f) * g[5]; // matrix form, eb twice
            // d covariance = -conic E conic.
            const F p00 = ea * ca + eb * cb, p01 = ea * cb + eb * cc, p10 = eb * ca + ec * cb, p11 = eb * cb + ec * cc;
            F g00 = -(ca * p00 + cb * p10), g01 = -(ca * p01 + cb * p11), g11 = -(cb * p01 + cc * p11);
            F opacity = b.opacity;
            if (antialiased) opacity = opacity * sqrt(raw / det);
            const F d_ln_opacity = keep(drawn & (opacity <= F(DEBLURGS_OPACITY_MAX)), g[0]);
            d_log_opacity += d_ln_opacity;
            if (antialiased) {
                // ln o = ln op + 0.5 (ln det cov - ln det(cov + eps)).
                const M solid = raw > F(1e-30f);
                const F inverse_raw = one / select(solid, raw, one);
                const F h = keep(solid, F(0.5f) * d_ln_opacity);
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
            const V3 n0 = half * p.m0, n1 = half * p.m1; // rows of A S
            const V3 da0 = (two * g00) * n0 + (two * g01) * n1, da1 = (two * g01) * n0 + (two * g11) * n1;
            const F sx = pinhole.fx * p.inverse_z, sy = pinhole.fy * p.inverse_z;
            const F inside_u = keep(abs(p.u) <= pinhole.limit_u, one), inside_v = keep(abs(p.v) <= pinhole.limit_v, one);
            const F d_u = pinhole.fx * du - inside_u * sx * dot(rotation.row[2], da0);
            const F d_v = pinhole.fy * dw - inside_v * sy * dot(rotation.row[2], da1);
            V3 d_camera;
            d_camera.x = d_u * p.inverse_z;
            d_camera.y = d_v * p.inverse_z;
            d_camera.z = -(d_u * p.u + d_v * p.v + dot(p.a0, da0) + dot(p.a1, da1)) * p.inverse_z;
            d_mean = d_mean + transposed_times(rotation, d_camera);

            // Colour.
            V3 d_center{zero, zero, zero};
            F inverse_distance;
            const V3 direction = view_direction(b.mean, pose, &inverse_distance);
            F basis[DEBLURGS_MAX_SH_COEFFICIENTS];
            sh_basis(in.sh_degree, direction, basis);
            if (want_sh)
                for (int k = 0; k < coefficients; ++k)
                    for (int c = 0; c < 3; ++c) d_sh[k][c] = fma(basis[k], g[6 + c], d_sh[k][c]);
            if (in.sh_degree > 0) {
                F h[DEBLURGS_MAX_SH_COEFFICIENTS];
                for (int k = 1; k < coefficients; ++k)
                    h[k] = fma(b.sh[k][0], g[6], fma(b.sh[k][1], g[7], b.sh[k][2] * g[8]));
                V3 d = sh_direction_gradient(in.sh_degree, direction, h);
                d = inverse_distance * (d - dot(d, direction) * direction);
                d_mean = d_mean + d;
                d_center = {-d.x, -d.y, -d.z};
            }
            if (want_poses) {
                const V3 dr0 = d_camera.x * b.mean + sx * da0;
                const V3 dr1 = d_camera.y * b.mean + sy * da1;
                const V3 dr2 = d_camera.z * b.mean - (sx * p.jac_u) * da0 - (sy * p.jac_v) * da1;
                const F sums[kPoseSums] = {dr0.x,      dr0.y,      dr0.z,      dr1.x,      dr1.y,
                                           dr1.z,      dr2.x,      dr2.y,      dr2.z,      d_camera.x,
                                           d_camera.y, d_camera.z, d_center.x, d_center.y, d_center.z};
                float* out = pose_sums + (int64_t)v * kPoseSums * kLanes;
                for (int i = 0; i < kPoseSums; ++i) (F::load(out + i * kLanes) + sums[i]).store(out + i * kLanes);
            }
        }

        if (grad.means) store_fields(grad.means + 3 * first, 3, 3, count, &d_mean.x);
        if (grad.opacities) {
            // The gradient sums are zero where the opacity is not positive, whatever the quotient would be.
            store_field(grad.opacities + first, count, d_log_opacity / select(b.opacity > F(1e-30f), b.opacity, one));
        }
        if (grad.scales || grad.quats) {
            // Covariance = half half^T: gradient of half is 2 H half.
            V3 dh[3];
            const V3 h0{hxx, hxy, hxz}, h1{hxy, hyy, hyz}, h2{hxz, hyz, hzz};
            const V3 *r0 = &b.half.row[0], *r1 = &b.half.row[1], *r2 = &b.half.row[2];
            const V3 h_rows[3] = {h0, h1, h2};
            for (int i = 0; i < 3; ++i)
                dh[i] = (two * h_rows[i].x) * *r0 + (two * h_rows[i].y) * *r1 + (two * h_rows[i].z) * *r2;
            const V3* q = b.rotation.row;
            const F d_scale[3] = {dh[0].x * q[0].x + dh[1].x * q[1].x + dh[2].x * q[2].x,
                                  dh[0].y * q[0].y + dh[1].y * q[1].y + dh[2].y * q[2].y,
                                  dh[0].z * q[0].z + dh[1].z * q[1].z + dh[2].z * q[2].z};
            if (grad.scales) store_fields(grad.scales + 3 * first, 3, 3, count, d_scale);
            if (grad.quats) {
                Mat3<F> d_rotation;
                for (int i = 0; i < 3; ++i)
                    d_rotation.row[i] = {dh[i].x * b.scale.x, dh[i].y * b.scale.y, dh[i].z * b.scale.z};
                F d_quat[4];
                quat_gradient(b.quat, d_rotation, d_quat);
                store_fields(grad.quats + 4 * first, 4, 4, count, d_quat);
            }
        }
        if (grad.sh0) store_fields(grad.sh0 + 3 * first, 3, 3, count, d_sh[0]);
        if (grad.sh_rest && in.sh_stored > 1) {
            const int64_t stride = 3 * (in.sh_stored - 1);
            const int used = 3 * (coefficients - 1);
            if (used) store_fields(grad.sh_rest + stride * first, stride, used, count, d_sh[1]);
            for (int l = 0; l < count; ++l)
                memset(grad.sh_rest + stride * (first + l) + used, 0, sizeof(float) * (stride - used));
        }
        if (grad.gradient_px) {
            float* out = grad.gradient_px + first;
            store_field(out, count, load_field(out, count) + screen);
        }
    }
    // Fold the lanes in place: sums of view v end up at [v * kPoseSums].
    if (want_poses)
        for (int i = 0; i < in.num_views * kPoseSums; ++i) pose_sums[i] = sum(F::load(pose_sums + (int64_t)i * kLanes));
}

} // namespace DEBLURGS_ISA
} // namespace deblurgs
