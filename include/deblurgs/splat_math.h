// SPDX-License-Identifier: Apache-2.0
//
// The mathematics of a splat, written once as templates. T may be float, double, a vector of SIMD lanes or a dual
// number; it needs + - * /, unary minus, construction from float, and by argument-dependent look-up `sqrt`, `abs`,
// `max` and `min`. Everything is force-inlined so that no out-of-line copy compiled for one instruction set can be
// picked by the linker for another.
//
// EWA projection: Zwicker et al., "EWA Volume Splatting", 2001. Spherical harmonics: Sloan, "Stupid Spherical
// Harmonics Tricks", 2008, appendix A2, with the signs of 3D Gaussian splat files.
#pragma once

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define DEBLURGS_HD __host__ __device__ __forceinline__
#else
#define DEBLURGS_HD inline __attribute__((always_inline))
#endif

namespace deblurgs {

template <class T> struct Vec3 {
    T x, y, z;
};
template <class T> DEBLURGS_HD Vec3<T> operator+(const Vec3<T>& a, const Vec3<T>& b) {
    return {a.x + b.x, a.y + b.y, a.z + b.z};
}
template <class T> DEBLURGS_HD Vec3<T> operator-(const Vec3<T>& a, const Vec3<T>& b) {
    return {a.x - b.x, a.y - b.y, a.z - b.z};
}
template <class T> DEBLURGS_HD Vec3<T> operator*(const T& s, const Vec3<T>& a) { return {s * a.x, s * a.y, s * a.z}; }
template <class T> DEBLURGS_HD T dot(const Vec3<T>& a, const Vec3<T>& b) { return a.x * b.x + a.y * b.y + a.z * b.z; }

// A 3x3 matrix by rows.
template <class T> struct Mat3 {
    Vec3<T> row[3];
};
template <class T> DEBLURGS_HD Vec3<T> operator*(const Mat3<T>& m, const Vec3<T>& v) {
    return {dot(m.row[0], v), dot(m.row[1], v), dot(m.row[2], v)};
}
template <class T> DEBLURGS_HD Vec3<T> transposed_times(const Mat3<T>& m, const Vec3<T>& v) {
    return v.x * m.row[0] + v.y * m.row[1] + v.z * m.row[2];
}
// v^T diag-free product: the row vector v times the matrix, as a vector.
template <class T> DEBLURGS_HD Vec3<T> row_times(const Vec3<T>& v, const Mat3<T>& m) { return transposed_times(m, v); }

// A unit quaternion wxyz and the reciprocal of the length it had.
template <class T> struct UnitQuat {
    T w, x, y, z, inverse_norm;
};

// Lengths from denormal to near the largest float are accepted because the largest component is divided out first.
template <class T> DEBLURGS_HD UnitQuat<T> normalized(const T& w, const T& x, const T& y, const T& z) {
    T largest = max(max(abs(w), abs(x)), max(abs(y), abs(z)));
    T a = w / largest, b = x / largest, c = y / largest, d = z / largest;
    T inverse = T(1.0f) / sqrt(a * a + b * b + c * c + d * d);
    return {a * inverse, b * inverse, c * inverse, d * inverse, inverse / largest};
}

template <class T> DEBLURGS_HD Mat3<T> rotation_from_quat(const UnitQuat<T>& q) {
    T two(2.0f), one(1.0f);
    T xx = q.x * q.x, yy = q.y * q.y, zz = q.z * q.z, xy = q.x * q.y, xz = q.x * q.z, yz = q.y * q.z;
    T wx = q.w * q.x, wy = q.w * q.y, wz = q.w * q.z;
    return {{{one - two * (yy + zz), two * (xy - wz), two * (xz + wy)},
             {two * (xy + wz), one - two * (xx + zz), two * (yz - wx)},
             {two * (xz - wy), two * (yz + wx), one - two * (xx + yy)}}};
}

// Gradient of the unnormalised quaternion (out[4], wxyz) from the gradient d of the rotation matrix.
template <class T> DEBLURGS_HD void quat_gradient(const UnitQuat<T>& q, const Mat3<T>& d, T out[4]) {
    T two(2.0f);
    const Vec3<T>&r0 = d.row[0], &r1 = d.row[1], &r2 = d.row[2];
    T gw = two * (q.x * (r2.y - r1.z) + q.y * (r0.z - r2.x) + q.z * (r1.x - r0.y));
    T gx = two * (q.y * (r0.y + r1.x) + q.z * (r0.z + r2.x) + q.w * (r2.y - r1.z) - two * q.x * (r1.y + r2.z));
    T gy = two * (q.x * (r0.y + r1.x) + q.z * (r1.z + r2.y) + q.w * (r0.z - r2.x) - two * q.y * (r0.x + r2.z));
    T gz = two * (q.x * (r0.z + r2.x) + q.y * (r1.z + r2.y) + q.w * (r1.x - r0.y) - two * q.z * (r0.x + r1.y));
    // The length of the quaternion has no effect, so the part along it is removed.
    T along = q.w * gw + q.x * gx + q.y * gy + q.z * gz;
    out[0] = (gw - q.w * along) * q.inverse_norm;
    out[1] = (gx - q.x * along) * q.inverse_norm;
    out[2] = (gy - q.y * along) * q.inverse_norm;
    out[3] = (gz - q.z * along) * q.inverse_norm;
}

// What projecting one Gaussian into one view yields before the conic.
template <class T> struct Projected {
    Vec3<T> camera;     // the mean in camera axes
    T inverse_z;
    T u, v;             // x/z and y/z
    T jac_u, jac_v;     // the same, clamped to the margin of the frustum, as the Jacobian uses them
    Vec3<T> a0, a1;     // rows of (Jacobian times rotation), pixels per world unit
    Vec3<T> m0, m1;     // rows of a * L with L = R(q) diag(scales): the 2-D covariance is m m^T
    T xx, xy, yy;       // that covariance, px^2, without the blur EPS2D
};

template <class T> struct Pinhole {
    T fx, fy, cx, cy, limit_u, limit_v;
};

template <class T>
DEBLURGS_HD Projected<T> project(const Mat3<T>& rotation, const Vec3<T>& camera, const Mat3<T>& half,
                                 const Pinhole<T>& pinhole) {
    Projected<T> p;
    p.camera = camera;
    p.inverse_z = T(1.0f) / p.camera.z;
    p.u = p.camera.x * p.inverse_z;
    p.v = p.camera.y * p.inverse_z;
    p.jac_u = max(-pinhole.limit_u, min(pinhole.limit_u, p.u));
    p.jac_v = max(-pinhole.limit_v, min(pinhole.limit_v, p.v));
    T sx = pinhole.fx * p.inverse_z, sy = pinhole.fy * p.inverse_z;
    p.a0 = sx * (rotation.row[0] - p.jac_u * rotation.row[2]);
    p.a1 = sy * (rotation.row[1] - p.jac_v * rotation.row[2]);
    p.m0 = row_times(p.a0, half);
    p.m1 = row_times(p.a1, half);
    p.xx = dot(p.m0, p.m0);
    p.xy = dot(p.m0, p.m1);
    p.yy = dot(p.m1, p.m1);
    return p;
}

// det(m m^T) as the sum of squared 2x2 minors (Cauchy-Binet), which does not cancel for needles as xx yy - xy^2 does.
template <class T> DEBLURGS_HD T determinant_of_covariance(const Projected<T>& p) {
    T a = p.m0.x * p.m1.y - p.m0.y * p.m1.x;
    T b = p.m0.x * p.m1.z - p.m0.z * p.m1.x;
    T c = p.m0.y * p.m1.z - p.m0.z * p.m1.y;
    return a * a + b * b + c * c;
}

inline constexpr float kSh0 = 0.28209479177387814f;   // sqrt(1/(4 pi))
inline constexpr float kSh1 = 0.4886025119029199f;    // sqrt(3/(4 pi))
inline constexpr float kSh2Xy = 1.0925484305920792f;  // sqrt(15/(4 pi))
inline constexpr float kSh2Zz = 0.31539156525252005f; // sqrt(5/(16 pi))
inline constexpr float kSh2Xx = 0.5462742152960396f;  // sqrt(15/(16 pi))
inline constexpr float kSh3M3 = 0.5900435899266435f;  // sqrt(35/(32 pi))
inline constexpr float kSh3M2 = 2.890611442640554f;   // sqrt(105/(4 pi))
inline constexpr float kSh3M1 = 0.4570457994644658f;  // sqrt(21/(32 pi))
inline constexpr float kSh3M0 = 0.3731763325901154f;  // sqrt(7/(16 pi))
inline constexpr float kSh3P2 = 1.445305721320277f;   // sqrt(105/(16 pi))

// Basis functions 0..(degree+1)^2-1 of a unit direction.
template <class T> DEBLURGS_HD void sh_basis(int degree, const Vec3<T>& d, T basis[16]) {
    const T &x = d.x, &y = d.y, &z = d.z;
    basis[0] = T(kSh0);
    if (degree < 1) return;
    basis[1] = T(-kSh1) * y;
    basis[2] = T(kSh1) * z;
    basis[3] = T(-kSh1) * x;
    if (degree < 2) return;
    T xx = x * x, yy = y * y, zz = z * z;
    basis[4] = T(kSh2Xy) * (x * y);
    basis[5] = T(-kSh2Xy) * (y * z);
    basis[6] = T(kSh2Zz) * (T(2.0f) * zz - xx - yy);
    basis[7] = T(-kSh2Xy) * (x * z);
    basis[8] = T(kSh2Xx) * (xx - yy);
    if (degree < 3) return;
    basis[9] = T(-kSh3M3) * y * (T(3.0f) * xx - yy);
    basis[10] = T(kSh3M2) * (x * y) * z;
    basis[11] = T(-kSh3M1) * y * (T(4.0f) * zz - xx - yy);
    basis[12] = T(kSh3M0) * z * (T(2.0f) * zz - T(3.0f) * (xx + yy));
    basis[13] = T(-kSh3M1) * x * (T(4.0f) * zz - xx - yy);
    basis[14] = T(kSh3P2) * z * (xx - yy);
    basis[15] = T(-kSh3M3) * x * (xx - T(3.0f) * yy);
}

// sum_k h[k] dY_k/d(x,y,z), the polynomials differentiated as they stand (no projection on the sphere).
template <class T> DEBLURGS_HD Vec3<T> sh_direction_gradient(int degree, const Vec3<T>& d, const T h[16]) {
    const T &x = d.x, &y = d.y, &z = d.z;
    Vec3<T> g{T(0.0f), T(0.0f), T(0.0f)};
    if (degree < 1) return g;
    g = {T(-kSh1) * h[3], T(-kSh1) * h[1], T(kSh1) * h[2]};
    if (degree < 2) return g;
    T two_zz = T(2.0f * kSh2Zz) * h[6], two_xx = T(2.0f * kSh2Xx) * h[8];
    g.x = g.x + T(kSh2Xy) * (y * h[4] - z * h[7]) - x * two_zz + x * two_xx;
    g.y = g.y + T(kSh2Xy) * (x * h[4] - z * h[5]) - y * two_zz - y * two_xx;
    g.z = g.z - T(kSh2Xy) * (y * h[5] + x * h[7]) + T(2.0f) * z * two_zz;
    if (degree < 3) return g;
    T xx = x * x, yy = y * y, zz = z * z, xy = x * y, xz = x * z, yz = y * z;
    T h9 = T(-kSh3M3) * h[9], h10 = T(kSh3M2) * h[10], h11 = T(-kSh3M1) * h[11], h12 = T(kSh3M0) * h[12];
    T h13 = T(-kSh3M1) * h[13], h14 = T(kSh3P2) * h[14], h15 = T(-kSh3M3) * h[15];
    T three(3.0f), two(2.0f), six(6.0f), eight(8.0f);
    T ring = T(4.0f) * zz - xx - yy, cap = xx - yy;
    g.x = g.x + six * xy * h9 + yz * h10 - two * xy * h11 - six * xz * h12 + (ring - two * xx) * h13 +
          two * xz * h14 + three * cap * h15;
    g.y = g.y + three * cap * h9 + xz * h10 + (ring - two * yy) * h11 - six * yz * h12 - two * xy * h13 -
          two * yz * h14 - six * xy * h15;
    g.z = g.z + xy * h10 + eight * yz * h11 + three * (two * zz - xx - yy) * h12 + eight * xz * h13 + cap * h14;
    return g;
}

} // namespace deblurgs
