/* What every machine of the architecture has: SSE2 on x86-64, NEON on arm64, plain C elsewhere. vector.h says what an
 * instruction set has to define. */
#ifndef SPARSEACC_ISA_H
#define SPARSEACC_ISA_H
#define SA_BITS 128
#define SA_ISA_END
#if defined(__aarch64__)
#include <arm_neon.h>
#elif defined(__x86_64__)
#include <emmintrin.h>
#endif
#include "lanes.h"

/* Sixteen registers of four numbers: rotations and straight-line code gain nothing. Nor do whole lines where rows are
 * long. */
#define MOST 4
#define PIECE QUAD
#define ROTATES 0
#define MOST_STRAIGHT_ROWS 0
#define MOST_STRAIGHT_COLUMNS 0
#define BY_COUPLINGS 0
#define LINES_BY_LOOP 0
#define ACROSS (MOST * LANES)

#if defined(__aarch64__) && SA_REAL_BITS == 32
#define FMA(a, b, c) ((VEC)vfmaq_f32((float32x4_t)(c), (float32x4_t)(a), (float32x4_t)(b)))
#define FNMA(a, b, c) ((VEC)vfmsq_f32((float32x4_t)(c), (float32x4_t)(a), (float32x4_t)(b)))
#elif defined(__aarch64__)
#define FMA(a, b, c) ((VEC)vfmaq_f64((float64x2_t)(c), (float64x2_t)(a), (float64x2_t)(b)))
#define FNMA(a, b, c) ((VEC)vfmsq_f64((float64x2_t)(c), (float64x2_t)(a), (float64x2_t)(b)))
#else
#define FMA(a, b, c) ((a) * (b) + (c))
#define FNMA(a, b, c) ((c) - (a) * (b))
#endif

#if defined(__x86_64__)
#define HOLD(v) __asm__("" : "+x"(v))
#define STREAM(p, v) _mm_stream_ps((float *)(p), (__m128)(v))
#define STREAM_END() _mm_sfence()
#elif defined(__aarch64__)
#define HOLD(v) __asm__("" : "+w"(v))
#define STREAM(p, v) (*(vec_any *)(p) = (v))
#define STREAM_END() (void)0
#else
#define HOLD(v) (void)(v)
#define STREAM(p, v) (*(vec_any *)(p) = (v))
#define STREAM_END() (void)0
#endif

#if SA_REAL_BITS == 32
#define LOW(a, b) ((VEC){(a)[0], (b)[0], (a)[1], (b)[1]})
#define HIGH(a, b) ((VEC){(a)[2], (b)[2], (a)[3], (b)[3]})
#define LOW2(a, b) ((VEC){(a)[0], (a)[1], (b)[0], (b)[1]})
#define HIGH2(a, b) ((VEC){(a)[2], (a)[3], (b)[2], (b)[3]})
#else
#define LOW(a, b) ((VEC){(a)[0], (b)[0]})
#define HIGH(a, b) ((VEC){(a)[1], (b)[1]})
#endif

#define load_groups(p, step) (*(const quad_any *)(p))
#define store_groups(v, p, step) (*(quad_any *)(p) = (v))
#define copy_unaligned(from, to, n) 0
#endif
