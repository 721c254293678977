/* Vectors of SA_BITS bits of REAL, for one instruction set and computation type. A vector is read as groups of 128
 * bits, QUAD numbers each: transposing QUAD rows into QUAD columns then needs only instructions that stay inside their
 * group, and every group takes rows of its own. */
#define INLINE static inline __attribute__((always_inline))
#define LANES (SA_BITS / SA_REAL_BITS)
#define QUAD (128 / SA_REAL_BITS)
#define GROUPS (SA_BITS / 128)

/* The most vectors of rows that a term is computed for at once: two sums of each are kept in registers. */
#if SA_BITS == 512
#define MOST 8
#else
#define MOST 4
#endif

typedef REAL vec __attribute__((vector_size(SA_BITS / 8)));
typedef REAL vec_any __attribute__((vector_size(SA_BITS / 8), aligned(1), may_alias));
typedef REAL quad_any __attribute__((vector_size(16), aligned(1), may_alias));
#define VEC vec

/* c + a b and c - a b. The fused multiply-add is spelt out, and contraction left to nobody, so that a number does not
 * depend on what the compiler made of one copy of a loop: that is what keeps results bitwise equal wherever a row
 * stands. */
#if SA_BITS == 512 && SA_REAL_BITS == 32
#define FMA(a, b, c) ((VEC)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define FNMA(a, b, c) ((VEC)_mm512_fnmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#elif SA_BITS == 512
#define FMA(a, b, c) ((VEC)_mm512_fmadd_pd((__m512d)(a), (__m512d)(b), (__m512d)(c)))
#define FNMA(a, b, c) ((VEC)_mm512_fnmadd_pd((__m512d)(a), (__m512d)(b), (__m512d)(c)))
#elif SA_BITS == 256 && SA_REAL_BITS == 32
#define FMA(a, b, c) ((VEC)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define FNMA(a, b, c) ((VEC)_mm256_fnmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#elif SA_BITS == 256
#define FMA(a, b, c) ((VEC)_mm256_fmadd_pd((__m256d)(a), (__m256d)(b), (__m256d)(c)))
#define FNMA(a, b, c) ((VEC)_mm256_fnmadd_pd((__m256d)(a), (__m256d)(b), (__m256d)(c)))
#elif defined(__aarch64__) && SA_REAL_BITS == 32
#define FMA(a, b, c) ((VEC)vfmaq_f32((float32x4_t)(c), (float32x4_t)(a), (float32x4_t)(b)))
#define FNMA(a, b, c) ((VEC)vfmsq_f32((float32x4_t)(c), (float32x4_t)(a), (float32x4_t)(b)))
#elif defined(__aarch64__)
#define FMA(a, b, c) ((VEC)vfmaq_f64((float64x2_t)(c), (float64x2_t)(a), (float64x2_t)(b)))
#define FNMA(a, b, c) ((VEC)vfmsq_f64((float64x2_t)(c), (float64x2_t)(a), (float64x2_t)(b)))
#else
#define FMA(a, b, c) ((a) * (b) + (c))
#define FNMA(a, b, c) ((c) - (a) * (b))
#endif

/* Keeps a loaded vector in its register: compilers like to load it again as an operand of each use, and loads are
 * scarce. */
#if SA_BITS == 512
#define HOLD(v) __asm__("" : "+v"(v))
#elif defined(__x86_64__)
#define HOLD(v) __asm__("" : "+x"(v))
#elif defined(__aarch64__)
#define HOLD(v) __asm__("" : "+w"(v))
#else
#define HOLD(v) (void)(v)
#endif

/* The same for an integer or an address. */
#define KEEP(x) __asm__("" : "+r"(x))

/* Loops are unrolled before arrays of vectors become registers. For GCC's pragma (not before clang 19) and for its own
 * plain "unroll", clang unrolls only later, and then loops go through memory. */
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

/* A store past the caches, to an address that is a multiple of the vector's size. */
#if SA_BITS == 512
#define STREAM(p, v) _mm512_stream_ps((float *)(p), (__m512)(v))
#elif SA_BITS == 256
#define STREAM(p, v) _mm256_stream_ps((float *)(p), (__m256)(v))
#elif defined(__x86_64__)
#define STREAM(p, v) _mm_stream_ps((float *)(p), (__m128)(v))
#else
#define STREAM(p, v) (*(vec_any *)(p) = (v))
#endif

/* Interleave the low or high halves of each group: numbers, or pairs of numbers. */
#if SA_BITS == 512 && SA_REAL_BITS == 32
#define LOW(a, b) ((VEC)_mm512_unpacklo_ps((__m512)(a), (__m512)(b)))
#define HIGH(a, b) ((VEC)_mm512_unpackhi_ps((__m512)(a), (__m512)(b)))
#define LOW2(a, b) ((VEC)_mm512_unpacklo_pd((__m512d)(a), (__m512d)(b)))
#define HIGH2(a, b) ((VEC)_mm512_unpackhi_pd((__m512d)(a), (__m512d)(b)))
#elif SA_BITS == 512
#define LOW(a, b) ((VEC)_mm512_unpacklo_pd((__m512d)(a), (__m512d)(b)))
#define HIGH(a, b) ((VEC)_mm512_unpackhi_pd((__m512d)(a), (__m512d)(b)))
#elif SA_BITS == 256 && SA_REAL_BITS == 32
#define LOW(a, b) ((VEC)_mm256_unpacklo_ps((__m256)(a), (__m256)(b)))
#define HIGH(a, b) ((VEC)_mm256_unpackhi_ps((__m256)(a), (__m256)(b)))
#define LOW2(a, b) ((VEC)_mm256_unpacklo_pd((__m256d)(a), (__m256d)(b)))
#define HIGH2(a, b) ((VEC)_mm256_unpackhi_pd((__m256d)(a), (__m256d)(b)))
#elif SA_BITS == 256
#define LOW(a, b) ((VEC)_mm256_unpacklo_pd((__m256d)(a), (__m256d)(b)))
#define HIGH(a, b) ((VEC)_mm256_unpackhi_pd((__m256d)(a), (__m256d)(b)))
#elif SA_REAL_BITS == 32
#define LOW(a, b) ((VEC){(a)[0], (b)[0], (a)[1], (b)[1]})
#define HIGH(a, b) ((VEC){(a)[2], (b)[2], (a)[3], (b)[3]})
#define LOW2(a, b) ((VEC){(a)[0], (a)[1], (b)[0], (b)[1]})
#define HIGH2(a, b) ((VEC){(a)[2], (a)[3], (b)[2], (b)[3]})
#else
#define LOW(a, b) ((VEC){(a)[0], (b)[0]})
#define HIGH(a, b) ((VEC){(a)[1], (b)[1]})
#endif

/* QUAD numbers of each of GROUPS rows that lie `step` bytes apart, from memory and to memory. */
INLINE VEC load_groups(const char *p, int64_t step)
{
#if SA_BITS == 512
    __m512 v = _mm512_castps128_ps512(_mm_loadu_ps((const float *)p));
    v = _mm512_mask_broadcast_f32x4(v, 0x00f0, _mm_loadu_ps((const float *)(p + step)));
    v = _mm512_mask_broadcast_f32x4(v, 0x0f00, _mm_loadu_ps((const float *)(p + 2 * step)));
    v = _mm512_mask_broadcast_f32x4(v, 0xf000, _mm_loadu_ps((const float *)(p + 3 * step)));
    return (VEC)v;
#elif SA_BITS == 256
    return (VEC)_mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps((const float *)p)),
                                     _mm_loadu_ps((const float *)(p + step)), 1);
#else
    (void)step;
    return *(const quad_any *)p;
#endif
}

INLINE void store_groups(VEC v, char *p, int64_t step)
{
#if SA_BITS == 512
    _mm_storeu_ps((float *)p, _mm512_castps512_ps128((__m512)v));
    _mm_storeu_ps((float *)(p + step), _mm512_extractf32x4_ps((__m512)v, 1));
    _mm_storeu_ps((float *)(p + 2 * step), _mm512_extractf32x4_ps((__m512)v, 2));
    _mm_storeu_ps((float *)(p + 3 * step), _mm512_extractf32x4_ps((__m512)v, 3));
#elif SA_BITS == 256
    _mm_storeu_ps((float *)p, _mm256_castps256_ps128((__m256)v));
    _mm_storeu_ps((float *)(p + step), _mm256_extractf128_ps((__m256)v, 1));
#else
    (void)step;
    *(quad_any *)p = v;
#endif
}

/* In each group, QUAD vectors of one row to QUAD vectors of one column, or back. */
INLINE void transpose(VEC v[QUAD])
{
#if SA_REAL_BITS == 32
    const VEC a = LOW(v[0], v[1]), b = HIGH(v[0], v[1]), c = LOW(v[2], v[3]), d = HIGH(v[2], v[3]);
    v[0] = LOW2(a, c);
    v[1] = HIGH2(a, c);
    v[2] = LOW2(b, d);
    v[3] = HIGH2(b, d);
#else
    const VEC a = v[0];
    v[0] = LOW(a, v[1]);
    v[1] = HIGH(a, v[1]);
#endif
}

/* The most numbers of a row that are worth reading at once: of two quads, an instruction more saves two loads. */
#if SA_BITS == 512
enum { PIECE = 2 * QUAD };

/* 256 bits of each of two rows. */
INLINE VEC load_halves(const char *p, int64_t step)
{
    const __m512 v = _mm512_castps256_ps512(_mm256_loadu_ps((const float *)p));
    return (VEC)_mm512_insertf32x8(v, _mm256_loadu_ps((const float *)(p + step)), 1);
}

/* Of two vectors' groups every other one. */
#define EVEN_GROUPS(a, b) ((VEC)_mm512_shuffle_f32x4((__m512)(a), (__m512)(b), 0x88))
#define ODD_GROUPS(a, b) ((VEC)_mm512_shuffle_f32x4((__m512)(a), (__m512)(b), 0xdd))
#else
enum { PIECE = QUAD };
#endif

/* n numbers, QUAD or PIECE, of each of LANES rows that lie `step` bytes apart, as n columns. */
INLINE void load_columns(const char *p, int64_t step, VEC *v, const int n)
{
#if SA_BITS == 512
    if (n == PIECE) {
        VEC w[2][QUAD];
        for (int i = 0; i < 2; i++, p += 2 * QUAD * step) {
            for (int q = 0; q < QUAD; q++)
                w[i][q] = load_halves(p + q * step, QUAD * step);
            transpose(w[i]);
        }
        for (int q = 0; q < QUAD; q++) {
            v[q] = EVEN_GROUPS(w[0][q], w[1][q]);
            v[QUAD + q] = ODD_GROUPS(w[0][q], w[1][q]);
        }
        return;
    }
#endif
    for (int q = 0; q < n; q++)
        v[q] = load_groups(p + q * step, QUAD * step);
    transpose(v);
}

/* The same, to memory `apart` bytes from column to column. */
INLINE void transpose_piece(const char *p, int64_t step, char *to, int64_t apart, const int n)
{
    VEC v[PIECE];
    load_columns(p, step, v, n);
    for (int q = 0; q < n; q++)
        *(vec_any *)(to + q * apart) = v[q];
}
