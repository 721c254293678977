/* AVX2 with FMA. vector.h says what an instruction set has to define. */
#ifndef SPARSEACC_ISA_H
#define SPARSEACC_ISA_H
#if defined(__x86_64__)
#include <immintrin.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#define SA_ISA_END _Pragma("clang attribute pop")
#else
#pragma GCC target("avx2,fma")
#define SA_ISA_END
#endif
#define SA_BITS 256
#include "lanes.h"

/* Of more columns in place, cache lines that were read are lost before their other half is. Rules of couplings are faster
 * by the loop over all terms. */
#define MOST 4
#define PIECE QUAD
#define ROTATES 1
#define MOST_STRAIGHT_ROWS 56
#define MOST_STRAIGHT_COLUMNS 21
#define BY_COUPLINGS 0
#define LINES_BY_LOOP 1
#define ACROSS (MOST * LANES)

#define HOLD(v) __asm__("" : "+x"(v))
#define STREAM(p, v) _mm256_stream_ps((float *)(p), (__m256)(v))
#define STREAM_END() _mm_sfence()

#if SA_REAL_BITS == 32
#define FMA(a, b, c) ((VEC)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define FNMA(a, b, c) ((VEC)_mm256_fnmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define LOW(a, b) ((VEC)_mm256_unpacklo_ps((__m256)(a), (__m256)(b)))
#define HIGH(a, b) ((VEC)_mm256_unpackhi_ps((__m256)(a), (__m256)(b)))
#define LOW2(a, b) ((VEC)_mm256_unpacklo_pd((__m256d)(a), (__m256d)(b)))
#define HIGH2(a, b) ((VEC)_mm256_unpackhi_pd((__m256d)(a), (__m256d)(b)))
#define MASK __m256
#define BLEND(mask, a, b) ((VEC)_mm256_blendv_ps((__m256)(a), (__m256)(b), mask))
#else
#define FMA(a, b, c) ((VEC)_mm256_fmadd_pd((__m256d)(a), (__m256d)(b), (__m256d)(c)))
#define FNMA(a, b, c) ((VEC)_mm256_fnmadd_pd((__m256d)(a), (__m256d)(b), (__m256d)(c)))
#define LOW(a, b) ((VEC)_mm256_unpacklo_pd((__m256d)(a), (__m256d)(b)))
#define HIGH(a, b) ((VEC)_mm256_unpackhi_pd((__m256d)(a), (__m256d)(b)))
#define MASK __m256d
#define BLEND(mask, a, b) ((VEC)_mm256_blendv_pd((__m256d)(a), (__m256d)(b), mask))
#endif

INLINE VEC load_groups(const char *p, int64_t step)
{
    return (VEC)_mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps((const float *)p)),
                                     _mm_loadu_ps((const float *)(p + step)), 1);
}

INLINE void store_groups(VEC v, char *p, int64_t step)
{
    _mm_storeu_ps((float *)p, _mm256_castps256_ps128((__m256)v));
    _mm_storeu_ps((float *)(p + step), _mm256_extractf128_ps((__m256)v, 1));
}

/* Numbers of 64 bits are permuted as pairs of 32 bits. */
#define PLACES_PER_LANE (SA_REAL_BITS / 32)
typedef int32_t places __attribute__((vector_size(32)));
#define PERMUTE(index, v) ((VEC)_mm256_permutevar8x32_ps((__m256)(v), index))
#define ROTATED(i, by) _mm256_add_epi32((__m256i)(i), _mm256_set1_epi32(PLACES_PER_LANE *(by)))

INLINE void masks_by(MASK mask[ROTATION_STEPS], const int n, const int k, const int inverse)
{
    places moved[ROTATION_STEPS];
    UNROLL
    for (int bit = 0; bit < ROTATION_STEPS; bit++)
        UNROLL
    for (int i = 0; i < 8; i++)
        moved[bit][i] = -((LANES * n + k - i / PLACES_PER_LANE) * inverse % n >> bit & 1);
    UNROLL
    for (int bit = 0; bit < ROTATION_STEPS; bit++)
        mask[bit] = (MASK)moved[bit];
}

/* Loads that touch two cache lines cost little. */
#define numbers_before(from) 0
#define first_lanes(k) ((MASK){0})
#define load_around(from, end, after) (*(const vec_any *)(from))
#define copy_unaligned(from, to, n) 0
#endif
#endif
