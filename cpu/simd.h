// SPDX-License-Identifier: Apache-2.0
//
// A row of float lanes and its masks: 16 lanes with AVX-512, 8 lanes everywhere else (one AVX2 register, or two
// 128-bit registers of any target that GCC or clang vectorise for). Wider-than-native vector types are avoided because
// g++ scalarises their selects. Every name lives in a namespace of its own per instruction set, so the linker can never
// mix code of two of them.
#pragma once

#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

#ifndef DEBLURGS_ISA
#error "define DEBLURGS_ISA to the name of the instruction set"
#endif

#define DEBLURGS_INLINE inline __attribute__((always_inline))

namespace deblurgs {
namespace DEBLURGS_ISA {

#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#define DEBLURGS_AVX512 1

constexpr int kLanes = 16;

struct M {
    __mmask16 m;
};
DEBLURGS_INLINE M operator&(M a, M b) { return {(__mmask16)(a.m & b.m)}; }
DEBLURGS_INLINE M operator|(M a, M b) { return {(__mmask16)(a.m | b.m)}; }
DEBLURGS_INLINE M operator~(M a) { return {(__mmask16)~a.m}; }
DEBLURGS_INLINE uint32_t bits(M a) { return a.m; }
DEBLURGS_INLINE M mask_from_bits(uint32_t b) { return {(__mmask16)b}; }

struct F {
    __m512 v;
    DEBLURGS_INLINE F() {}
    DEBLURGS_INLINE F(__m512 x) : v(x) {}
    DEBLURGS_INLINE F(float s) : v(_mm512_set1_ps(s)) {}
    static DEBLURGS_INLINE F load(const float* p) { return _mm512_loadu_ps(p); }
    DEBLURGS_INLINE void store(float* p) const { _mm512_storeu_ps(p, v); }
};
DEBLURGS_INLINE F operator+(F a, F b) { return _mm512_add_ps(a.v, b.v); }
DEBLURGS_INLINE F operator-(F a, F b) { return _mm512_sub_ps(a.v, b.v); }
DEBLURGS_INLINE F operator*(F a, F b) { return _mm512_mul_ps(a.v, b.v); }
DEBLURGS_INLINE F operator/(F a, F b) { return _mm512_div_ps(a.v, b.v); }
DEBLURGS_INLINE F operator-(F a) { return _mm512_xor_ps(a.v, _mm512_set1_ps(-0.0f)); }
DEBLURGS_INLINE F fma(F a, F b, F c) { return _mm512_fmadd_ps(a.v, b.v, c.v); }
DEBLURGS_INLINE F fnma(F a, F b, F c) { return _mm512_fnmadd_ps(a.v, b.v, c.v); }
DEBLURGS_INLINE F min(F a, F b) { return _mm512_min_ps(a.v, b.v); }
DEBLURGS_INLINE F max(F a, F b) { return _mm512_max_ps(a.v, b.v); }
DEBLURGS_INLINE F abs(F a) { return _mm512_abs_ps(a.v); }
DEBLURGS_INLINE F sqrt(F a) { return _mm512_sqrt_ps(a.v); }
DEBLURGS_INLINE F floor(F a) { return _mm512_roundscale_ps(a.v, 0x09); }
DEBLURGS_INLINE M operator<(F a, F b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)}; }
DEBLURGS_INLINE M operator<=(F a, F b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LE_OQ)}; }
DEBLURGS_INLINE M operator>(F a, F b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ)}; }
DEBLURGS_INLINE M operator>=(F a, F b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_GE_OQ)}; }
DEBLURGS_INLINE F select(M m, F yes, F no) { return _mm512_mask_blend_ps(m.m, no.v, yes.v); }
DEBLURGS_INLINE F keep(M m, F a) { return _mm512_maskz_mov_ps(m.m, a.v); }
// Reciprocal within a few ulp: a 14-bit estimate and one Newton step.
DEBLURGS_INLINE F rcp(F a) {
    F r = _mm512_rcp14_ps(a.v);
    return fma(r, fnma(a, r, F(1.0f)), r);
}
DEBLURGS_INLINE void store_int(F a, int32_t* p) { _mm512_storeu_si512(p, _mm512_cvttps_epi32(a.v)); }
DEBLURGS_INLINE float sum(F a) { return _mm512_reduce_add_ps(a.v); }
// x = 2^exponent * mantissa with the mantissa in [0.75, 1.5).
DEBLURGS_INLINE F split_exponent(F x, F* exponent) {
    __m512 m = _mm512_getmant_ps(x.v, _MM_MANT_NORM_p75_1p5, _MM_MANT_SIGN_zero);
    // getexp floors to the exponent of [1, 2); mantissas below one belong to the next higher one.
    __mmask16 low = _mm512_cmp_ps_mask(m, _mm512_set1_ps(1.0f), _CMP_LT_OQ);
    __m512 e = _mm512_getexp_ps(x.v);
    *exponent = _mm512_mask_add_ps(e, low, e, _mm512_set1_ps(1.0f));
    return m;
}
// value * 2^round(shift), |result| in the normal range.
DEBLURGS_INLINE F scale_by_power(F value, F rounded) { return _mm512_scalef_ps(value.v, rounded.v); }
DEBLURGS_INLINE F round_nearest(F a) { return _mm512_roundscale_ps(a.v, 0x08); }

#else

#if defined(__AVX2__)
constexpr int kNative = 8;
#else
constexpr int kNative = 4;
#endif
constexpr int kLanes = 8;
constexpr int kParts = kLanes / kNative;

typedef float vf __attribute__((vector_size(4 * kNative)));
typedef int32_t vi __attribute__((vector_size(4 * kNative)));

struct M {
    vi v[kParts];
};
struct F {
    vf v[kParts];
    DEBLURGS_INLINE F() {}
    DEBLURGS_INLINE F(float s) {
        for (int i = 0; i < kParts; ++i) v[i] = s - vf{};
    }
    static DEBLURGS_INLINE F load(const float* p) {
        F r;
        memcpy(r.v, p, sizeof r.v);
        return r;
    }
    DEBLURGS_INLINE void store(float* p) const { memcpy(p, v, sizeof v); }
};
// Keeps the compiler from simplifying (a + magic) - magic.
#if defined(__SSE2__)
#define DEBLURGS_OPAQUE(t) __asm__("" : "+x"(t))
#elif defined(__aarch64__)
#define DEBLURGS_OPAQUE(t) __asm__("" : "+w"(t))
#else
#define DEBLURGS_OPAQUE(t) __asm__("" : "+m"(t))
#endif
#define DEBLURGS_EACH for (int i = 0; i < kParts; ++i)
#define DEBLURGS_BINARY(op)                                                                                           \
    DEBLURGS_INLINE F operator op(F a, F b) {                                                                         \
        F r;                                                                                                          \
        DEBLURGS_EACH r.v[i] = a.v[i] op b.v[i];                                                                      \
        return r;                                                                                                     \
    }
#define DEBLURGS_COMPARE(op)                                                                                          \
    DEBLURGS_INLINE M operator op(F a, F b) {                                                                         \
        M r;                                                                                                          \
        DEBLURGS_EACH r.v[i] = a.v[i] op b.v[i];                                                                      \
        return r;                                                                                                     \
    }
DEBLURGS_BINARY(+)
DEBLURGS_BINARY(-)
DEBLURGS_BINARY(*)
DEBLURGS_BINARY(/)
DEBLURGS_COMPARE(<)
DEBLURGS_COMPARE(<=)
DEBLURGS_COMPARE(>)
DEBLURGS_COMPARE(>=)
DEBLURGS_INLINE M operator&(M a, M b) {
    DEBLURGS_EACH a.v[i] &= b.v[i];
    return a;
}
DEBLURGS_INLINE M operator|(M a, M b) {
    DEBLURGS_EACH a.v[i] |= b.v[i];
    return a;
}
DEBLURGS_INLINE M operator~(M a) {
    DEBLURGS_EACH a.v[i] = ~a.v[i];
    return a;
}
DEBLURGS_INLINE F operator-(F a) {
    DEBLURGS_EACH a.v[i] = -a.v[i];
    return a;
}
DEBLURGS_INLINE F abs(F a) {
    DEBLURGS_EACH a.v[i] = (vf)((vi)a.v[i] & 0x7fffffff);
    return a;
}
DEBLURGS_INLINE F keep(M m, F a) {
    DEBLURGS_EACH a.v[i] = (vf)(m.v[i] & (vi)a.v[i]);
    return a;
}
DEBLURGS_INLINE F select(M m, F yes, F no) {
    DEBLURGS_EACH yes.v[i] = m.v[i] ? yes.v[i] : no.v[i];
    return yes;
}
DEBLURGS_INLINE F fma(F a, F b, F c) {
#if defined(__FMA__)
    return [&] { F r; r.v[0] = (vf)_mm256_fmadd_ps((__m256)a.v[0], (__m256)b.v[0], (__m256)c.v[0]); return r; }();
#else
    DEBLURGS_EACH c.v[i] = a.v[i] * b.v[i] + c.v[i];
    return c;
#endif
}
DEBLURGS_INLINE F fnma(F a, F b, F c) {
#if defined(__FMA__)
    return [&] { F r; r.v[0] = (vf)_mm256_fnmadd_ps((__m256)a.v[0], (__m256)b.v[0], (__m256)c.v[0]); return r; }();
#else
    DEBLURGS_EACH c.v[i] = c.v[i] - a.v[i] * b.v[i];
    return c;
#endif
}
#if defined(__AVX2__)
DEBLURGS_INLINE F min(F a, F b) { a.v[0] = (vf)_mm256_min_ps((__m256)a.v[0], (__m256)b.v[0]); return a; }
DEBLURGS_INLINE F max(F a, F b) { a.v[0] = (vf)_mm256_max_ps((__m256)a.v[0], (__m256)b.v[0]); return a; }
DEBLURGS_INLINE F sqrt(F a) { a.v[0] = (vf)_mm256_sqrt_ps((__m256)a.v[0]); return a; }
DEBLURGS_INLINE uint32_t bits(M a) { return (uint32_t)_mm256_movemask_ps((__m256)a.v[0]); }
DEBLURGS_INLINE F rcp(F a) {
    F r;
    r.v[0] = (vf)_mm256_rcp_ps((__m256)a.v[0]);
    r = fma(r, fnma(a, r, F(1.0f)), r);
    return r;
}
#elif defined(__SSE2__)
DEBLURGS_INLINE F min(F a, F b) { DEBLURGS_EACH a.v[i] = (vf)_mm_min_ps((__m128)a.v[i], (__m128)b.v[i]); return a; }
DEBLURGS_INLINE F max(F a, F b) { DEBLURGS_EACH a.v[i] = (vf)_mm_max_ps((__m128)a.v[i], (__m128)b.v[i]); return a; }
DEBLURGS_INLINE F sqrt(F a) { DEBLURGS_EACH a.v[i] = (vf)_mm_sqrt_ps((__m128)a.v[i]); return a; }
DEBLURGS_INLINE uint32_t bits(M a) {
    return (uint32_t)(_mm_movemask_ps((__m128)a.v[0]) | (_mm_movemask_ps((__m128)a.v[1]) << 4));
}
DEBLURGS_INLINE F rcp(F a) {
    F r;
    DEBLURGS_EACH r.v[i] = (vf)_mm_rcp_ps((__m128)a.v[i]);
    return fma(r, fnma(a, r, F(1.0f)), r);
}
#else
DEBLURGS_INLINE F min(F a, F b) { return select(a < b, a, b); }
DEBLURGS_INLINE F max(F a, F b) { return select(a > b, a, b); }
DEBLURGS_INLINE F sqrt(F a) {
    DEBLURGS_EACH for (int j = 0; j < kNative; ++j) a.v[i][j] = __builtin_sqrtf(a.v[i][j]);
    return a;
}
DEBLURGS_INLINE uint32_t bits(M a) {
    const vi weights = {1, 2, 4, 8};
    uint32_t r = 0;
    DEBLURGS_EACH {
        vi w = a.v[i] & weights;
        r |= (uint32_t)(w[0] | w[1] | w[2] | w[3]) << (4 * i);
    }
    return r;
}
DEBLURGS_INLINE F rcp(F a) { return F(1.0f) / a; }
#endif
DEBLURGS_INLINE M mask_from_bits(uint32_t b) {
    M r;
    DEBLURGS_EACH for (int j = 0; j < kNative; ++j) r.v[i][j] = -(int32_t)((b >> (i * kNative + j)) & 1u);
    return r;
}
// Adding 1.5 * 2^23 leaves the nearest integer in the low bits; right for |a| < 2^22.
DEBLURGS_INLINE F round_nearest(F a) {
    const F magic(12582912.0f);
    F r;
    DEBLURGS_EACH {
        vf t = a.v[i] + magic.v[i];
        DEBLURGS_OPAQUE(t);
        r.v[i] = t - magic.v[i];
    }
    return r;
}
DEBLURGS_INLINE F floor(F a) {
    F r = round_nearest(a);
    return select(r > a, r - F(1.0f), r);
}
DEBLURGS_INLINE void store_int(F a, int32_t* p) {
    DEBLURGS_EACH {
        vi t = __builtin_convertvector(a.v[i], vi);
        memcpy(p + i * kNative, &t, sizeof t);
    }
}
DEBLURGS_INLINE float sum(F a) {
    float t[kLanes];
    a.store(t);
    return ((t[0] + t[4]) + (t[1] + t[5])) + ((t[2] + t[6]) + (t[3] + t[7]));
}
DEBLURGS_INLINE F scale_by_power(F value, F rounded) {
    DEBLURGS_EACH {
        vi n = __builtin_convertvector(rounded.v[i], vi);
        value.v[i] = (vf)((vi)value.v[i] + (n << 23));
    }
    return value;
}
DEBLURGS_INLINE F split_exponent(F x, F* exponent) {
    F m;
    DEBLURGS_EACH {
        vi b = (vi)x.v[i];
        vi e = (b - 0x3f400000) >> 23; // 0x3f400000 is 0.75, so that the mantissa lies in [0.75, 1.5).
        m.v[i] = (vf)(b - (e << 23));
        exponent->v[i] = __builtin_convertvector(e, vf);
    }
    return m;
}
#undef DEBLURGS_BINARY
#undef DEBLURGS_COMPARE
#endif

// Two non-negative numbers below 65536 per lane as one 32-bit word, and whether the low halves of two words differ.
#if defined(DEBLURGS_AVX512)
DEBLURGS_INLINE F pack_words(F low, F high) {
    const __m512i h = _mm512_slli_epi32(_mm512_cvttps_epi32(high.v), 16);
    return _mm512_castsi512_ps(_mm512_or_si512(_mm512_cvttps_epi32(low.v), h));
}
DEBLURGS_INLINE M low_words_differ(F a, F b) {
    const __m512i x = _mm512_xor_si512(_mm512_castps_si512(a.v), _mm512_castps_si512(b.v));
    return {_mm512_test_epi32_mask(x, _mm512_set1_epi32(0xffff))};
}
#else
DEBLURGS_INLINE F pack_words(F low, F high) {
    DEBLURGS_EACH low.v[i] =
        (vf)(__builtin_convertvector(low.v[i], vi) | (__builtin_convertvector(high.v[i], vi) << 16));
    return low;
}
DEBLURGS_INLINE M low_words_differ(F a, F b) {
    M r;
    DEBLURGS_EACH r.v[i] = (((vi)a.v[i] ^ (vi)b.v[i]) & 0xffff) != 0;
    return r;
}
#endif

// The first n floats at p (the rest zero), and storing them; nothing beyond is touched.
#if defined(DEBLURGS_AVX512)
DEBLURGS_INLINE F load_first(const float* p, int n) { return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1u), p); }
DEBLURGS_INLINE void store_first(F a, float* p, int n) { _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1u), a.v); }
#else
DEBLURGS_INLINE F load_first(const float* p, int n) {
    if (n == kLanes) return F::load(p);
    alignas(32) float t[kLanes] = {};
    for (int i = 0; i < n; ++i) t[i] = p[i];
    return F::load(t);
}
DEBLURGS_INLINE void store_first(F a, float* p, int n) {
    if (n == kLanes) {
        a.store(p);
        return;
    }
    alignas(32) float t[kLanes];
    a.store(t);
    for (int i = 0; i < n; ++i) p[i] = t[i];
}
#endif

// Rows become columns.
#if defined(DEBLURGS_AVX512)
DEBLURGS_INLINE void transpose(F r[16]) {
    __m512 a[16], b[16];
    for (int i = 0; i < 16; i += 2) {
        a[i] = _mm512_unpacklo_ps(r[i].v, r[i + 1].v);
        a[i + 1] = _mm512_unpackhi_ps(r[i].v, r[i + 1].v);
    }
    for (int i = 0; i < 16; i += 4)
        for (int j = 0; j < 2; ++j) {
            b[i + 2 * j] = _mm512_shuffle_ps(a[i + j], a[i + j + 2], 0x44);
            b[i + 2 * j + 1] = _mm512_shuffle_ps(a[i + j], a[i + j + 2], 0xee);
        }
    // b[4 i + j]: column j of every group of four, for rows 4 i .. 4 i + 3.
    for (int j = 0; j < 4; ++j) {
        const __m512 lo01 = _mm512_shuffle_f32x4(b[j], b[4 + j], 0x88), hi01 = _mm512_shuffle_f32x4(b[j], b[4 + j], 0xdd);
        const __m512 lo23 = _mm512_shuffle_f32x4(b[8 + j], b[12 + j], 0x88);
        const __m512 hi23 = _mm512_shuffle_f32x4(b[8 + j], b[12 + j], 0xdd);
        r[j].v = _mm512_shuffle_f32x4(lo01, lo23, 0x88);
        r[8 + j].v = _mm512_shuffle_f32x4(lo01, lo23, 0xdd);
        r[4 + j].v = _mm512_shuffle_f32x4(hi01, hi23, 0x88);
        r[12 + j].v = _mm512_shuffle_f32x4(hi01, hi23, 0xdd);
    }
}
#elif defined(__AVX2__)
DEBLURGS_INLINE void transpose(F r[8]) {
    __m256 a[8], b[8];
    for (int i = 0; i < 8; i += 2) {
        a[i] = _mm256_unpacklo_ps((__m256)r[i].v[0], (__m256)r[i + 1].v[0]);
        a[i + 1] = _mm256_unpackhi_ps((__m256)r[i].v[0], (__m256)r[i + 1].v[0]);
    }
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; ++j) {
            b[i + 2 * j] = _mm256_shuffle_ps(a[i + j], a[i + j + 2], 0x44);
            b[i + 2 * j + 1] = _mm256_shuffle_ps(a[i + j], a[i + j + 2], 0xee);
        }
    for (int j = 0; j < 4; ++j) {
        r[j].v[0] = (vf)_mm256_permute2f128_ps(b[j], b[4 + j], 0x20);
        r[4 + j].v[0] = (vf)_mm256_permute2f128_ps(b[j], b[4 + j], 0x31);
    }
}
#else
DEBLURGS_INLINE void transpose4(const vf r[4], vf out[4]) {
    const vf a = __builtin_shufflevector(r[0], r[1], 0, 4, 1, 5), b = __builtin_shufflevector(r[0], r[1], 2, 6, 3, 7);
    const vf c = __builtin_shufflevector(r[2], r[3], 0, 4, 1, 5), d = __builtin_shufflevector(r[2], r[3], 2, 6, 3, 7);
    out[0] = __builtin_shufflevector(a, c, 0, 1, 4, 5);
    out[1] = __builtin_shufflevector(a, c, 2, 3, 6, 7);
    out[2] = __builtin_shufflevector(b, d, 0, 1, 4, 5);
    out[3] = __builtin_shufflevector(b, d, 2, 3, 6, 7);
}
DEBLURGS_INLINE void transpose(F r[8]) {
    for (int half = 0; half < 2; ++half) {
        vf top[4], bottom[4], t[4];
        for (int i = 0; i < 4; ++i) top[i] = r[i].v[half], bottom[i] = r[4 + i].v[half];
        transpose4(top, t);
        for (int i = 0; i < 4; ++i) top[i] = t[i];
        transpose4(bottom, t);
        for (int i = 0; i < 4; ++i) bottom[i] = t[i];
        if (half == 0) {
            for (int i = 0; i < 4; ++i) r[i].v[0] = top[i], r[4 + i].v[0] = bottom[i];
        } else {
            // Rows 4-7 of the result come from the right halves; their left parts wait in the lower rows.
            for (int i = 0; i < 4; ++i) {
                const vf left = r[4 + i].v[0];
                r[4 + i].v[0] = top[i];
                r[4 + i].v[1] = bottom[i];
                r[i].v[1] = left;
            }
        }
    }
}
#endif

DEBLURGS_INLINE F& operator+=(F& a, F b) { return a = a + b; }
DEBLURGS_INLINE F& operator-=(F& a, F b) { return a = a - b; }
DEBLURGS_INLINE F& operator*=(F& a, F b) { return a = a * b; }
DEBLURGS_INLINE bool any(M m) { return bits(m) != 0; }

// 2^p for the alpha of a pixel: p in about [-8, 0]. Other p give some number, masked away by the caller. Degree 4,
// relative error 2.6e-6: minimax of |P(f) / 2^f - 1| by linear programming on 2001 Chebyshev nodes, f in [0, 1] for
// AVX-512 (which reduces by floor) and [-0.5, 0.5] elsewhere.
DEBLURGS_INLINE F exp2_alpha(F p) {
#if defined(DEBLURGS_AVX512)
    F f = _mm512_reduce_ps(p.v, 0x09);
    F y = fma(F(1.353417053e-2f), f, F(5.201145519e-2f));
    y = fma(y, f, F(2.414427607e-1f));
    y = fma(y, f, F(6.930038335e-1f));
    y = fma(y, f, F(1.000002593f));
    return _mm512_scalef_ps(y.v, p.v);
#else
    const F magic(12582912.0f);
    F r;
    DEBLURGS_EACH {
        vf t = p.v[i] + magic.v[i];
        DEBLURGS_OPAQUE(t);
        r.v[i] = t;
    }
    F f = p - (r - magic);
    F y = fma(F(9.570101621e-3f), f, F(5.591786055e-2f));
    y = fma(y, f, F(2.402474484e-1f));
    y = fma(y, f, F(6.931218147e-1f));
    y = fma(y, f, F(9.999992614e-1f));
    DEBLURGS_EACH y.v[i] = (vf)((vi)y.v[i] + ((vi)r.v[i] << 23));
    return y;
#endif
}

// 2^p to 1e-7 relative, p clamped to the normal range. Degree 5, made like the one above on [-0.5, 0.5].
DEBLURGS_INLINE F exp2_precise(F p) {
    p = max(F(-126.0f), min(F(127.49f), p));
    F n = round_nearest(p), f = p - n;
    F y = fma(F(1.327647195e-3f), f, F(9.675541666e-3f));
    y = fma(y, f, F(5.550713276e-2f));
    y = fma(y, f, F(2.402211971e-1f));
    y = fma(y, f, F(6.931469671e-1f));
    y = fma(y, f, F(1.000000072f));
    return scale_by_power(y, n);
}

// log2 of a positive normal number; absolute error about 1e-7 plus rounding. P(t) with t = mantissa - 1 approximates
// log2(1 + t) / t on [-0.25, 0.5], degree 8, made in the same way.
DEBLURGS_INLINE F log2_precise(F x) {
    F e;
    F t = split_exponent(x, &e) - F(1.0f);
    F y = fma(F(7.444240106e-02f), t, F(-1.718931433e-01f));
    y = fma(y, t, F(2.171191802e-01f));
    y = fma(y, t, F(-2.433656909e-01f));
    y = fma(y, t, F(2.881638110e-01f));
    y = fma(y, t, F(-3.605296814e-01f));
    y = fma(y, t, F(4.809019105e-01f));
    y = fma(y, t, F(-7.213494125e-01f));
    y = fma(y, t, F(1.442695032e+00f));
    return fma(y, t, e);
}

#if defined(DEBLURGS_AVX512)
// Sums over the lanes of v[0..8] to out[0..8]; out[9..15] receive leftovers.
DEBLURGS_INLINE void sum_nine(const F v[9], float* out) {
    // Level 1: halves of two vectors side by side; then quarters; then within 128-bit groups.
    auto pair = [](__m512 a, __m512 b) {
        return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
    };
    auto quad = [](__m512 a, __m512 b) {
        return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
    };
    __m512 a = quad(pair(v[0].v, v[1].v), pair(v[2].v, v[3].v)); // 128-bit groups hold 0, 1, 2, 3
    __m512 b = quad(pair(v[4].v, v[5].v), pair(v[6].v, v[7].v)); // 4, 5, 6, 7
    __m512 c = v[8].v;
    c = _mm512_add_ps(c, _mm512_shuffle_f32x4(c, c, 0x4e));
    c = _mm512_add_ps(c, _mm512_shuffle_f32x4(c, c, 0xb1));
    // Within the groups: unpack interleaves a and b, then the two halves of each group are added.
    __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    __m512 cc = _mm512_add_ps(c, _mm512_permute_ps(c, 0x4e));
    // ab group g = (a02, b02, a13, b13): add the low to the high pair; c joins in the upper pair.
    __m512 lo = _mm512_shuffle_ps(ab, cc, 0x44), hi = _mm512_shuffle_ps(ab, _mm512_permute_ps(cc, 0xb1), 0xee);
    __m512 r = _mm512_add_ps(lo, hi); // group g = (sum g, sum 4+g, sum 8, sum 8)
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 3, 6, 7, 10, 11, 14, 15);
    _mm512_storeu_ps(out, _mm512_permutexvar_ps(order, r));
}
#elif defined(__AVX2__)
DEBLURGS_INLINE void sum_nine(const F v[9], float* out) {
    auto h = [](vf a, vf b) { return _mm256_hadd_ps((__m256)a, (__m256)b); };
    __m256 a = _mm256_hadd_ps(h(v[0].v[0], v[1].v[0]), h(v[2].v[0], v[3].v[0]));
    __m256 b = _mm256_hadd_ps(h(v[4].v[0], v[5].v[0]), h(v[6].v[0], v[7].v[0]));
    __m256 r = _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
    _mm256_storeu_ps(out, r);
    __m128 c = _mm_add_ps(_mm256_castps256_ps128((__m256)v[8].v[0]), _mm256_extractf128_ps((__m256)v[8].v[0], 1));
    c = _mm_add_ps(c, _mm_movehl_ps(c, c));
    out[8] = _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}
#else
DEBLURGS_INLINE void sum_nine(const F v[9], float* out) {
    for (int k = 0; k < 8; k += 4) {
        vf a[4], t[4];
        for (int i = 0; i < 4; ++i) a[i] = v[k + i].v[0] + v[k + i].v[1];
        transpose4(a, t);
        const vf r = (t[0] + t[1]) + (t[2] + t[3]);
        memcpy(out + k, &r, sizeof r);
    }
    out[8] = sum(v[8]);
}
#endif

} // namespace DEBLURGS_ISA
} // namespace deblurgs
