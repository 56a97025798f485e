// SPDX-License-Identifier: Apache-2.0
//
// One Gaussian as a thread holds it, and its geometry in one view; shared by the two projection passes.
#pragma once

#include "records.cuh"

namespace deblurgs {

using V3 = Vec3<float>;
using M3 = Mat3<float>;

DEBLURGS_DEVICE bool usable(float x) { return fabsf(x) < kHuge; }

struct Gaussian {
    V3 mean, scale;
    UnitQuat<float> quat;
    float opacity;
    M3 rotation, half; // half = rotation diag(scale); the world covariance is half half^T
};

// False for a Gaussian that must not be drawn whatever the view; then `out` holds harmless numbers.
DEBLURGS_DEVICE bool load_gaussian(const float* means, const float* quats, const float* scales, const float* opacities,
                                   i64 index, Gaussian& out) {
    const float *m = means + 3 * index, *q = quats + 4 * index, *s = scales + 3 * index;
    out.mean = {m[0], m[1], m[2]};
    out.scale = {s[0], s[1], s[2]};
    out.opacity = opacities[index];
    bool valid = usable(m[0]) && usable(m[1]) && usable(m[2]) && usable(s[0]) && usable(s[1]) && usable(s[2]) &&
                 usable(out.opacity);
    float w = q[0], x = q[1], y = q[2], z = q[3];
    const float largest = fmaxf(fmaxf(fabsf(w), fabsf(x)), fmaxf(fabsf(y), fabsf(z)));
    // The sum also sees a NaN that the maximum passes over.
    valid = valid && fabsf(w) + fabsf(x) + fabsf(y) + fabsf(z) < 3e38f && largest > 1.2e-38f;
    if (!valid) {
        out.mean = {0.0f, 0.0f, 0.0f};
        out.scale = {0.0f, 0.0f, 0.0f};
        out.opacity = 0.0f;
        w = 1.0f, x = y = z = 0.0f;
    }
    out.quat = normalized(w, x, y, z);
    out.rotation = rotation_from_quat(out.quat);
    for (int i = 0; i < 3; ++i) {
        const V3& r = out.rotation.row[i];
        out.half.row[i] = {r.x * out.scale.x, r.y * out.scale.y, r.z * out.scale.z};
    }
    return valid;
}

DEBLURGS_DEVICE M3 pose_rotation(const ViewPose& p) {
    const float* r = p.rotation;
    return {{{r[0], r[1], r[2]}, {r[3], r[4], r[5]}, {r[6], r[7], r[8]}}};
}

DEBLURGS_DEVICE V3 camera_from_world(const M3& rotation, const ViewPose& pose, const V3& mean) {
    const V3 translation = {pose.translation[0], pose.translation[1], pose.translation[2]};
    return rotation * mean + translation;
}

// Unit direction from the camera centre and the reciprocal of the distance.
DEBLURGS_DEVICE V3 view_direction(const V3& mean, const ViewPose& pose, float* inverse_distance) {
    const V3 d = {mean.x - pose.center[0], mean.y - pose.center[1], mean.z - pose.center[2]};
    // A Gaussian exactly at the camera centre is behind the near plane; the floor only keeps the number finite.
    *inverse_distance = 1.0f / sqrtf(fmaxf(dot(d, d), 1e-30f));
    return *inverse_distance * d;
}

// Covariance with the blur EPS2D, its determinant and that of the bare one, and the opacity drawn with.
struct Footprint {
    float xx, yy, raw, det, opacity;
};
DEBLURGS_DEVICE Footprint footprint(const Projected<float>& p, float opacity, bool antialiased) {
    Footprint f;
    const float eps = DEBLURGS_EPS2D;
    f.xx = p.xx + eps;
    f.yy = p.yy + eps;
    f.raw = determinant_of_covariance(p);
    f.det = f.raw + eps * (p.xx + p.yy) + eps * eps;
    f.opacity = antialiased ? opacity * sqrtf(f.raw / f.det) : opacity;
    return f;
}

} // namespace deblurgs
