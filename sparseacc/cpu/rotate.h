/* Transposes LANES whole rows of an odd number n of numbers, contiguous in memory, by loads and stores of whole vectors.
 *
 * Vector q holds the numbers f = LANES q + lane, of row f / n and column f mod n. If in each lane the n vectors are
 * rotated by s(lane), where LANES s + lane = 0 mod n, then vector i holds column LANES i mod n alone: a barrel rotation
 * of log2(n) steps, each a blend of every vector with another one under one mask. As n is odd, the rows of a column stand
 * in different lanes, row r of column c in lane (n r + c) mod LANES, and one permutation a column puts them in order.
 * The way back is the same backwards. That is n (2 + log2 n) instructions and 2 n whole vectors moved, where pieces
 * of rows (transpose_in) need twice as many and several times the loads.
 *
 * With AVX-512, loads that touch two cache lines cost as much as all the rest. Rows that begin k numbers after a
 * vector's place are therefore read by vectors from k numbers before them: number f is then in lane (f + k) mod LANES,
 * which changes only the masks and permutations, and vector 0 takes its first k lanes from after the others, where the
 * rows end. */
#if SA_BITS >= 256

#if SA_BITS == 512 && SA_REAL_BITS == 32
#define MASK __mmask16
#define BLEND(mask, a, b) ((VEC)_mm512_mask_blend_ps(mask, (__m512)(a), (__m512)(b)))
#define PERMUTE(index, v) ((VEC)_mm512_permutexvar_ps(index, (__m512)(v)))
#define PERMUTE_TWO(v, index, w) ((VEC)_mm512_permutex2var_ps((__m512)(v), (__m512i)(index), (__m512)(w)))
#define ROTATED_INDEX(i, by) _mm512_add_epi32((__m512i)(i), _mm512_set1_epi32(by))
#define LOAD_SOME(v, mask, p) ((VEC)_mm512_mask_loadu_ps((__m512)(v), mask, p))
typedef int32_t NAME(index) __attribute__((vector_size(64)));
#elif SA_BITS == 512
#define MASK __mmask8
#define BLEND(mask, a, b) ((VEC)_mm512_mask_blend_pd(mask, (__m512d)(a), (__m512d)(b)))
#define PERMUTE(index, v) ((VEC)_mm512_permutexvar_pd(index, (__m512d)(v)))
#define PERMUTE_TWO(v, index, w) ((VEC)_mm512_permutex2var_pd((__m512d)(v), (__m512i)(index), (__m512d)(w)))
#define ROTATED_INDEX(i, by) _mm512_add_epi64((__m512i)(i), _mm512_set1_epi64(by))
#define LOAD_SOME(v, mask, p) ((VEC)_mm512_mask_loadu_pd((__m512d)(v), mask, p))
typedef int64_t NAME(index) __attribute__((vector_size(64)));
#else /* numbers of 64 bits are permuted as pairs of 32 bits */
#define HALVES (SA_REAL_BITS / 32)
#define PERMUTE(index, v) ((VEC)_mm256_permutevar8x32_ps((__m256)(v), index))
#define ROTATED_INDEX(i, by) _mm256_add_epi32((__m256i)(i), _mm256_set1_epi32(HALVES * (by)))
typedef int32_t NAME(index) __attribute__((vector_size(32)));
#if SA_REAL_BITS == 32
#define MASK __m256
#define BLEND(mask, a, b) ((VEC)_mm256_blendv_ps((__m256)(a), (__m256)(b), mask))
#else
#define MASK __m256d
#define BLEND(mask, a, b) ((VEC)_mm256_blendv_pd((__m256d)(a), (__m256d)(b), mask))
#endif
#endif
#define UNROLL _Pragma("GCC unroll 32")

enum { NAME(MOST_ROTATED) = 17, NAME(STEPS) = 5 };

/* For each step the lanes that it moves: those whose s(lane), where LANES s + lane - k = 0 mod n, has that bit. */
static inline __attribute__((always_inline)) void
NAME(masks)(MASK mask[NAME(STEPS)], const int n, const int k, const int backwards)
{
    int inverse = 1; /* of LANES modulo n */
    UNROLL for (int i = 1; i < NAME(MOST_ROTATED); i++) if (i < n && i * LANES % n == 1) inverse = i;
    if (backwards)
        inverse = n - inverse;
#if SA_BITS == 512
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i product = _mm512_mullo_epi32(_mm512_sub_epi32(_mm512_set1_epi32(LANES * n + k), lanes),
                                               _mm512_set1_epi32(inverse));
    /* Exact, as products are below 2^13. */
    const __m512i quotient = _mm512_srli_epi32(_mm512_mullo_epi32(product, _mm512_set1_epi32((1 << 18) / n + 1)), 18);
    const __m512i s = _mm512_sub_epi32(product, _mm512_mullo_epi32(quotient, _mm512_set1_epi32(n)));
    UNROLL for (int bit = 0; bit < NAME(STEPS); bit++)
        mask[bit] = (MASK)_mm512_test_epi32_mask(s, _mm512_set1_epi32(1 << bit));
#else
    NAME(index) moved[NAME(STEPS)];
    UNROLL for (int bit = 0; bit < NAME(STEPS); bit++)
        UNROLL for (int i = 0; i < 8; i++)
            moved[bit][i] = -((LANES * n + k - i / HALVES) * inverse % n >> bit & 1);
    UNROLL for (int bit = 0; bit < NAME(STEPS); bit++) mask[bit] = (MASK)moved[bit];
#endif
}

/* Where the rows of column 0 stand that the lanes take. */
static inline __attribute__((always_inline)) NAME(index) NAME(rows_at)(const int n)
{
    NAME(index) rows;
#if SA_BITS == 512
    for (int i = 0; i < LANES; i++)
        rows[i] = n * i;
#else
    for (int i = 0; i < 8; i++)
        rows[i] = HALVES * n * (i / HALVES) + i % HALVES;
#endif
    return rows;
}

static inline __attribute__((always_inline)) void
NAME(rotate)(VEC v[], const int n, const MASK mask[NAME(STEPS)])
{
    UNROLL for (int bit = 0; bit < NAME(STEPS); bit++)
    {
        if (1 << bit >= n)
            continue;
        VEC old[NAME(MOST_ROTATED)];
        UNROLL for (int i = 0; i < n; i++) old[i] = v[i];
        UNROLL for (int i = 0; i < n; i++) v[i] = BLEND(mask[bit], old[i], old[(i + (1 << bit)) % n]);
    }
}

static inline __attribute__((always_inline)) void
NAME(rotate_rows_in)(const char *from, REAL *to, int64_t height, int blocks, const int n)
{
    NAME(index) rows = NAME(rows_at)(n);
    MASK mask[NAME(STEPS)];
#if SA_BITS == 512
    const int k = (uintptr_t)from % sizeof(REAL) ? 0 : (int)((uintptr_t)from % sizeof(VEC) / sizeof(REAL));
    const MASK after = (MASK)((1 << k) - 1);
    rows = (NAME(index))ROTATED_INDEX(rows, k);
    from -= k * (int)sizeof(REAL);
    NAME(masks)(mask, n, k, 0);
#else
    NAME(masks)(mask, n, 0, 0);
#endif
    for (; blocks > 0; blocks--, from += n * (int)sizeof(VEC), to += LANES) {
        VEC v[NAME(MOST_ROTATED)];
        UNROLL for (int q = 1; q < n; q++) v[q] = *(const NAME(vec_any) *)(from + q * (int)sizeof(VEC));
#if SA_BITS == 512
        v[0] = LOAD_SOME(LOAD_SOME((VEC){0}, (MASK)~after, from), after, from + n * (int)sizeof(VEC));
#else
        v[0] = *(const NAME(vec_any) *)from;
#endif
        NAME(rotate)(v, n, mask);
        UNROLL for (int i = 0; i < n; i++)
        {
            const int column = LANES * i % n;
            *(NAME(vec_any) *)(to + column * height) = PERMUTE(ROTATED_INDEX(rows, column), v[i]);
        }
    }
}

static inline __attribute__((always_inline)) void
NAME(rotate_rows_out)(const REAL *from, int64_t height, char *to, int blocks, int past_cache, const int n)
{
    int inverse = 1; /* of n modulo LANES */
    UNROLL for (int i = 1; i < LANES; i += 2) if (i * n % LANES == 1) inverse = i;
    const NAME(index) rows = NAME(rows_at)(inverse);
    MASK mask[NAME(STEPS)];
    NAME(masks)(mask, n, 0, 1);
    for (; blocks > 0; blocks--, from += LANES, to += n * (int)sizeof(VEC)) {
        VEC v[NAME(MOST_ROTATED)];
        UNROLL for (int i = 0; i < n; i++)
        {
            const int column = LANES * i % n;
            v[i] = PERMUTE(ROTATED_INDEX(rows, -inverse * column), *(const NAME(vec_any) *)(from + column * height));
        }
        NAME(rotate)(v, n, mask);
        if (past_cache && (uintptr_t)to % sizeof(VEC) == 0)
            UNROLL for (int q = 0; q < n; q++) STREAM(to + q * (int)sizeof(VEC), v[q]);
        else
            UNROLL for (int q = 0; q < n; q++) *(NAME(vec_any) *)(to + q * (int)sizeof(VEC)) = v[q];
    }
}

/* For n whose vectors fit the registers: as many rows as make whole blocks. Returns how many, 0 for another n. */
#define EACH_N(CASE) CASE(3) CASE(5) CASE(7) CASE(9) CASE(11) CASE(13) CASE(15) CASE(17)

static int NAME(rotates)(int64_t n)
{
    return n % 2 == 1 && n > 1 && n <= NAME(MOST_ROTATED);
}

static int NAME(rotate_in)(const char *from, int64_t n, REAL *to, int64_t height, int rows)
{
    const int blocks = rows / LANES;
    switch (n) {
#define CASE(n)                                                                                                        \
    case n:                                                                                                            \
        NAME(rotate_rows_in)(from, to, height, blocks, n);                                                             \
        return blocks * LANES;
        EACH_N(CASE)
#undef CASE
    }
    return 0;
}

static int NAME(rotate_out)(const REAL *from, int64_t height, int64_t n, char *to, int rows, int past_cache)
{
    const int blocks = rows / LANES;
    switch (n) {
#define CASE(n)                                                                                                        \
    case n:                                                                                                            \
        NAME(rotate_rows_out)(from, height, to, blocks, past_cache, n);                                                \
        return blocks * LANES;
        EACH_N(CASE)
#undef CASE
    }
    return 0;
}

#if SA_BITS == 512
/* Whole vectors of n numbers that lie across cache lines, each put together from two aligned ones. Returns how many
 * numbers it copied. */
static inline __attribute__((always_inline)) int64_t NAME(copy_unaligned)(const char *from, REAL *to, int64_t n)
{
    const int k = (int)((uintptr_t)from % sizeof(VEC) / sizeof(REAL));
    if (k == 0 || (uintptr_t)from % sizeof(REAL) || n < 8 * LANES)
        return 0;
    const MASK after = (MASK)((1 << k) - 1);
    NAME(index) index;
    for (int i = 0; i < LANES; i++)
        index[i] = i;
    index = (NAME(index))ROTATED_INDEX(index, k);
    from -= k * (int)sizeof(REAL);
    VEC one = LOAD_SOME((VEC){0}, (MASK)~after, from);
    int64_t i = LANES;
    for (; i + LANES <= n; i += LANES) {
        const VEC two = *(const NAME(vec_any) *)(from + i * (int64_t)sizeof(REAL));
        *(NAME(vec_any) *)(to + i - LANES) = PERMUTE_TWO(one, index, two);
        one = two;
    }
    const VEC two = LOAD_SOME((VEC){0}, after, from + i * (int64_t)sizeof(REAL));
    *(NAME(vec_any) *)(to + i - LANES) = PERMUTE_TWO(one, index, two);
    return i;
}
#endif

#undef MASK
#undef BLEND
#undef PERMUTE
#undef PERMUTE_TWO
#undef ROTATED_INDEX
#undef LOAD_SOME
#undef HALVES
#undef UNROLL
#undef EACH_N

#else

static int NAME(rotates)(int64_t n)
{
    (void)n;
    return 0;
}

static int NAME(rotate_in)(const char *from, int64_t n, REAL *to, int64_t height, int rows)
{
    (void)from, (void)n, (void)to, (void)height, (void)rows;
    return 0;
}

static int NAME(rotate_out)(const REAL *from, int64_t height, int64_t n, char *to, int rows, int past_cache)
{
    (void)from, (void)height, (void)n, (void)to, (void)rows, (void)past_cache;
    return 0;
}
#endif

#if SA_BITS < 512
static int64_t NAME(copy_unaligned)(const char *from, REAL *to, int64_t n)
{
    (void)from, (void)to, (void)n;
    return 0;
}
#endif
