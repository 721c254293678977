/* AVX-512 (F, DQ, BW, VL). vector.h says what an instruction set has to define. */
#ifndef SPARSEACC_ISA_H
#define SPARSEACC_ISA_H
#if defined(__x86_64__)
#include <immintrin.h>
#if defined(__clang__)
#define SA_TARGET __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")))
#pragma clang attribute push(SA_TARGET, apply_to = function)
#define SA_ISA_END _Pragma("clang attribute pop")
#else
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")
#define SA_ISA_END
#endif
#define SA_BITS 512
#include "lanes.h"

/* Thirty-two registers: straight-line code gains for all rows, and more columns in place. */
#define MOST 8
#define PIECE (2 * QUAD)
#define ROTATES 1
#define MOST_STRAIGHT_ROWS INT32_MAX
#define MOST_STRAIGHT_COLUMNS 56
#define BY_COUPLINGS 1
#define LINES_BY_LOOP 0
#define ACROSS (2 * LANES)

#define HOLD(v) __asm__("" : "+v"(v))
#define STREAM(p, v) _mm512_stream_ps((float *)(p), (__m512)(v))
#define STREAM_END() _mm_sfence()

#if SA_REAL_BITS == 32
#define FMA(a, b, c) ((VEC)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define FNMA(a, b, c) ((VEC)_mm512_fnmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define LOW(a, b) ((VEC)_mm512_unpacklo_ps((__m512)(a), (__m512)(b)))
#define HIGH(a, b) ((VEC)_mm512_unpackhi_ps((__m512)(a), (__m512)(b)))
#define LOW2(a, b) ((VEC)_mm512_unpacklo_pd((__m512d)(a), (__m512d)(b)))
#define HIGH2(a, b) ((VEC)_mm512_unpackhi_pd((__m512d)(a), (__m512d)(b)))
#define MASK __mmask16
#define BLEND(mask, a, b) ((VEC)_mm512_mask_blend_ps(mask, (__m512)(a), (__m512)(b)))
#define PERMUTE(index, v) ((VEC)_mm512_permutexvar_ps(index, (__m512)(v)))
#define PERMUTE_TWO(v, index, w) ((VEC)_mm512_permutex2var_ps((__m512)(v), (__m512i)(index), (__m512)(w)))
#define ROTATED(i, by) _mm512_add_epi32((__m512i)(i), _mm512_set1_epi32(by))
#define LOAD_SOME(v, mask, p) ((VEC)_mm512_mask_loadu_ps((__m512)(v), mask, p))
typedef int32_t places __attribute__((vector_size(64)));
#else
#define FMA(a, b, c) ((VEC)_mm512_fmadd_pd((__m512d)(a), (__m512d)(b), (__m512d)(c)))
#define FNMA(a, b, c) ((VEC)_mm512_fnmadd_pd((__m512d)(a), (__m512d)(b), (__m512d)(c)))
#define LOW(a, b) ((VEC)_mm512_unpacklo_pd((__m512d)(a), (__m512d)(b)))
#define HIGH(a, b) ((VEC)_mm512_unpackhi_pd((__m512d)(a), (__m512d)(b)))
#define MASK __mmask8
#define BLEND(mask, a, b) ((VEC)_mm512_mask_blend_pd(mask, (__m512d)(a), (__m512d)(b)))
#define PERMUTE(index, v) ((VEC)_mm512_permutexvar_pd(index, (__m512d)(v)))
#define PERMUTE_TWO(v, index, w) ((VEC)_mm512_permutex2var_pd((__m512d)(v), (__m512i)(index), (__m512d)(w)))
#define ROTATED(i, by) _mm512_add_epi64((__m512i)(i), _mm512_set1_epi64(by))
#define LOAD_SOME(v, mask, p) ((VEC)_mm512_mask_loadu_pd((__m512d)(v), mask, p))
typedef int64_t places __attribute__((vector_size(64)));
#endif
#define PLACES_PER_LANE 1

INLINE VEC load_groups(const char *p, int64_t step)
{
    __m512 v = _mm512_castps128_ps512(_mm_loadu_ps((const float *)p));
    v = _mm512_mask_broadcast_f32x4(v, 0x00f0, _mm_loadu_ps((const float *)(p + step)));
    v = _mm512_mask_broadcast_f32x4(v, 0x0f00, _mm_loadu_ps((const float *)(p + 2 * step)));
    v = _mm512_mask_broadcast_f32x4(v, 0xf000, _mm_loadu_ps((const float *)(p + 3 * step)));
    return (VEC)v;
}

INLINE void store_groups(VEC v, char *p, int64_t step)
{
    _mm_storeu_ps((float *)p, _mm512_castps512_ps128((__m512)v));
    _mm_storeu_ps((float *)(p + step), _mm512_extractf32x4_ps((__m512)v, 1));
    _mm_storeu_ps((float *)(p + 2 * step), _mm512_extractf32x4_ps((__m512)v, 2));
    _mm_storeu_ps((float *)(p + 3 * step), _mm512_extractf32x4_ps((__m512)v, 3));
}

INLINE VEC load_halves(const char *p, int64_t step)
{
    const __m512 v = _mm512_castps256_ps512(_mm256_loadu_ps((const float *)p));
    return (VEC)_mm512_insertf32x8(v, _mm256_loadu_ps((const float *)(p + step)), 1);
}

#define EVEN_GROUPS(a, b) ((VEC)_mm512_shuffle_f32x4((__m512)(a), (__m512)(b), 0x88))
#define ODD_GROUPS(a, b) ((VEC)_mm512_shuffle_f32x4((__m512)(a), (__m512)(b), 0xdd))

INLINE void masks_by(MASK mask[ROTATION_STEPS], const int n, const int k, const int inverse)
{
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i product =
        _mm512_mullo_epi32(_mm512_sub_epi32(_mm512_set1_epi32(LANES * n + k), lanes), _mm512_set1_epi32(inverse));
    /* Exact, as products are below 2^13. */
    const __m512i quotient = _mm512_srli_epi32(_mm512_mullo_epi32(product, _mm512_set1_epi32((1 << 18) / n + 1)), 18);
    const __m512i s = _mm512_sub_epi32(product, _mm512_mullo_epi32(quotient, _mm512_set1_epi32(n)));
    UNROLL
    for (int bit = 0; bit < ROTATION_STEPS; bit++)
        mask[bit] = (MASK)_mm512_test_epi32_mask(s, _mm512_set1_epi32(1 << bit));
}

/* Loads that touch two cache lines cost as much as all the rest: rows are read from a vector's place on. */
INLINE int numbers_before(const char *from)
{
    return (uintptr_t)from % sizeof(REAL) ? 0 : (int)((uintptr_t)from % sizeof(VEC) / sizeof(REAL));
}

INLINE MASK first_lanes(int k)
{
    return (MASK)((1 << k) - 1);
}

INLINE VEC load_around(const char *from, const char *end, MASK after)
{
    return LOAD_SOME(LOAD_SOME((VEC){0}, (MASK)~after, from), after, end);
}

/* Whole vectors of n numbers that lie across cache lines, each put together from two aligned ones. Returns how many
 * numbers it copied. */
INLINE int64_t copy_unaligned(const char *from, REAL *to, int64_t n)
{
    const int k = (int)((uintptr_t)from % sizeof(VEC) / sizeof(REAL));
    if (k == 0 || (uintptr_t)from % sizeof(REAL) || n < 8 * LANES)
        return 0;
    const MASK after = first_lanes(k);
    places index;
    for (int i = 0; i < LANES; i++)
        index[i] = i;
    index = (places)ROTATED(index, k);
    from -= k * (int)sizeof(REAL);
    VEC one = LOAD_SOME((VEC){0}, (MASK)~after, from);
    int64_t i = LANES;
    for (; i + LANES <= n; i += LANES) {
        const VEC two = *(const vec_any *)(from + i * (int64_t)sizeof(REAL));
        *(vec_any *)(to + i - LANES) = PERMUTE_TWO(one, index, two);
        one = two;
    }
    const VEC two = LOAD_SOME((VEC){0}, after, from + i * (int64_t)sizeof(REAL));
    *(vec_any *)(to + i - LANES) = PERMUTE_TWO(one, index, two);
    return i;
}
#endif
#endif
