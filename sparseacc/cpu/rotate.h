/* Transposes LANES whole rows of an odd number n of numbers, contiguous in memory, by loads and stores of whole
 * vectors.
 *
 * Vector q holds the numbers f = LANES q + lane, of row f / n and column f mod n. If in each lane the n vectors are
 * rotated by s(lane), where LANES s + lane = 0 mod n, then vector i holds column LANES i mod n alone: a barrel rotation
 * of log2(n) steps, each a blend of every vector with another one under one mask. As n is odd, the rows of a column
 * stand in different lanes, row r of column c in lane (n r + c) mod LANES, and one permutation a column puts them in
 * order. The way back is the same backwards. That is n (2 + log2 n) instructions and 2 n whole vectors moved, where
 * pieces of rows (transpose_in) need more, and two to five times the loads.
 *
 * With AVX-512, loads that touch two cache lines cost as much as all the rest. Rows that begin k numbers after a
 * vector's place are therefore read by vectors from k numbers before them: number f is then in lane (f + k) mod LANES,
 * which changes only the masks and permutations, and vector 0 takes its first k lanes from after the others, where the
 * rows end. */
enum { MOST_ROTATED = 17 };

#if SA_BITS >= 256

#if SA_BITS == 512 && SA_REAL_BITS == 32
#define MASK __mmask16
#define BLEND(mask, a, b) ((VEC)_mm512_mask_blend_ps(mask, (__m512)(a), (__m512)(b)))
#define PERMUTE(index, v) ((VEC)_mm512_permutexvar_ps(index, (__m512)(v)))
#define PERMUTE_TWO(v, index, w) ((VEC)_mm512_permutex2var_ps((__m512)(v), (__m512i)(index), (__m512)(w)))
#define ROTATED(i, by) _mm512_add_epi32((__m512i)(i), _mm512_set1_epi32(by))
#define LOAD_SOME(v, mask, p) ((VEC)_mm512_mask_loadu_ps((__m512)(v), mask, p))
typedef int32_t places __attribute__((vector_size(64)));
#elif SA_BITS == 512
#define MASK __mmask8
#define BLEND(mask, a, b) ((VEC)_mm512_mask_blend_pd(mask, (__m512d)(a), (__m512d)(b)))
#define PERMUTE(index, v) ((VEC)_mm512_permutexvar_pd(index, (__m512d)(v)))
#define PERMUTE_TWO(v, index, w) ((VEC)_mm512_permutex2var_pd((__m512d)(v), (__m512i)(index), (__m512d)(w)))
#define ROTATED(i, by) _mm512_add_epi64((__m512i)(i), _mm512_set1_epi64(by))
#define LOAD_SOME(v, mask, p) ((VEC)_mm512_mask_loadu_pd((__m512d)(v), mask, p))
typedef int64_t places __attribute__((vector_size(64)));
#else /* numbers of 64 bits are permuted as pairs of 32 bits */
#define HALVES (SA_REAL_BITS / 32)
#define PERMUTE(index, v) ((VEC)_mm256_permutevar8x32_ps((__m256)(v), index))
#define ROTATED(i, by) _mm256_add_epi32((__m256i)(i), _mm256_set1_epi32(HALVES *(by)))
typedef int32_t places __attribute__((vector_size(32)));
#if SA_REAL_BITS == 32
#define MASK __m256
#define BLEND(mask, a, b) ((VEC)_mm256_blendv_ps((__m256)(a), (__m256)(b), mask))
#else
#define MASK __m256d
#define BLEND(mask, a, b) ((VEC)_mm256_blendv_pd((__m256d)(a), (__m256d)(b), mask))
#endif
#endif

enum { STEPS = 5 };

/* For each step the lanes that it moves: those whose s(lane), where LANES s + lane - k = 0 mod n, has that bit. */
INLINE void masks_of(MASK mask[STEPS], const int n, const int k, const int backwards)
{
    int inverse = 1; /* of LANES modulo n */
    UNROLL
    for (int i = 1; i < MOST_ROTATED; i++)
        if (i < n && i * LANES % n == 1)
            inverse = i;
    if (backwards)
        inverse = n - inverse;
#if SA_BITS == 512
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i product =
        _mm512_mullo_epi32(_mm512_sub_epi32(_mm512_set1_epi32(LANES * n + k), lanes), _mm512_set1_epi32(inverse));
    /* Exact, as products are below 2^13. */
    const __m512i quotient = _mm512_srli_epi32(_mm512_mullo_epi32(product, _mm512_set1_epi32((1 << 18) / n + 1)), 18);
    const __m512i s = _mm512_sub_epi32(product, _mm512_mullo_epi32(quotient, _mm512_set1_epi32(n)));
    UNROLL
    for (int bit = 0; bit < STEPS; bit++)
        mask[bit] = (MASK)_mm512_test_epi32_mask(s, _mm512_set1_epi32(1 << bit));
#else
    places moved[STEPS];
    UNROLL
    for (int bit = 0; bit < STEPS; bit++)
        UNROLL
    for (int i = 0; i < 8; i++)
        moved[bit][i] = -((LANES * n + k - i / HALVES) * inverse % n >> bit & 1);
    UNROLL
    for (int bit = 0; bit < STEPS; bit++)
        mask[bit] = (MASK)moved[bit];
#endif
}

/* Where the rows of column 0 stand that the lanes take. */
INLINE places rows_at(const int n)
{
    places rows;
#if SA_BITS == 512
    for (int i = 0; i < LANES; i++)
        rows[i] = n * i;
#else
    for (int i = 0; i < 8; i++)
        rows[i] = HALVES * n * (i / HALVES) + i % HALVES;
#endif
    return rows;
}

INLINE void rotate(VEC v[], const int n, const MASK mask[STEPS])
{
    UNROLL
    for (int bit = 0; bit < STEPS; bit++) {
        if (1 << bit >= n)
            continue;
        VEC old[MOST_ROTATED];
        UNROLL
        for (int i = 0; i < n; i++)
            old[i] = v[i];
        UNROLL
        for (int i = 0; i < n; i++)
            v[i] = BLEND(mask[bit], old[i], old[(i + (1 << bit)) % n]);
    }
}

/* For n whose vectors fit the registers. */
#define EACH_N(CASE) CASE(3) CASE(5) CASE(7) CASE(9) CASE(11) CASE(13) CASE(15) CASE(17)

static int rotates(int64_t n)
{
    return n % 2 == 1 && n > 1 && n <= MOST_ROTATED;
}

static void masks(MASK mask[STEPS], int n, int k, int backwards)
{
    switch (n) {
#define CASE(n)                                                                                                        \
    case n:                                                                                                            \
        masks_of(mask, n, k, backwards);                                                                               \
        break;
        EACH_N(CASE)
#undef CASE
    }
}

/* Rows of n numbers to be read from an address on, LANES at a time. */
struct rows_in {
    const char *from;
    MASK mask[STEPS], after;
    places rows;
};

INLINE struct rows_in rows_in(const char *from, const int n)
{
    struct rows_in at;
#if SA_BITS == 512
    const int k = (uintptr_t)from % sizeof(REAL) ? 0 : (int)((uintptr_t)from % sizeof(VEC) / sizeof(REAL));
    at.after = (MASK)((1 << k) - 1);
    at.rows = (places)ROTATED(rows_at(n), k);
#else
    const int k = 0;
    at.after = (MASK){0};
    at.rows = rows_at(n);
#endif
    at.from = from - k * (int)sizeof(REAL);
    masks(at.mask, n, k, 0);
    return at;
}

INLINE void read_rows(struct rows_in *at, VEC *column, const int n)
{
    VEC v[MOST_ROTATED];
    UNROLL
    for (int q = 1; q < n; q++)
        v[q] = *(const vec_any *)(at->from + q * (int)sizeof(VEC));
#if SA_BITS == 512
    v[0] = LOAD_SOME(LOAD_SOME((VEC){0}, (MASK)~at->after, at->from), at->after, at->from + n * (int)sizeof(VEC));
#else
    v[0] = *(const vec_any *)at->from;
#endif
    rotate(v, n, at->mask);
    UNROLL
    for (int i = 0; i < n; i++)
        column[LANES * i % n] = PERMUTE(ROTATED(at->rows, LANES * i % n), v[i]);
    at->from += n * (int)sizeof(VEC);
}

/* The same to be written. */
struct rows_out {
    char *to;
    MASK mask[STEPS];
    places rows;
    int inverse, past_cache;
};

INLINE struct rows_out rows_out(char *to, int past_cache, const int n)
{
    struct rows_out at = {.to = to, .inverse = 1};
    UNROLL
    for (int i = 1; i < LANES; i += 2)
        if (i * n % LANES == 1)
            at.inverse = i; /* of n modulo LANES */
    at.rows = rows_at(at.inverse);
    at.past_cache = past_cache && (uintptr_t)to % sizeof(VEC) == 0;
    masks(at.mask, n, 0, 1);
    return at;
}

INLINE void write_rows(struct rows_out *at, const VEC *column, const int n)
{
    VEC v[MOST_ROTATED];
    UNROLL
    for (int i = 0; i < n; i++)
        v[i] = PERMUTE(ROTATED(at->rows, -at->inverse * (LANES * i % n)), column[LANES * i % n]);
    rotate(v, n, at->mask);
    if (at->past_cache)
        UNROLL
    for (int q = 0; q < n; q++)
        STREAM(at->to + q * (int)sizeof(VEC), v[q]);
    else UNROLL
    for (int q = 0; q < n; q++)
        *(vec_any *)(at->to + q * (int)sizeof(VEC)) = v[q];
    at->to += n * (int)sizeof(VEC);
}

INLINE void rotate_rows_in(const char *from, REAL *to, int64_t height, int blocks, const int n)
{
    struct rows_in at = rows_in(from, n);
    for (; blocks > 0; blocks--, to += LANES) {
        VEC column[MOST_ROTATED];
        read_rows(&at, column, n);
        UNROLL
        for (int c = 0; c < n; c++)
            *(vec_any *)(to + c * height) = column[c];
    }
}

INLINE void rotate_rows_out(const REAL *from, int64_t height, char *to, int blocks, int past_cache, const int n)
{
    struct rows_out at = rows_out(to, past_cache, n);
    for (; blocks > 0; blocks--, from += LANES) {
        VEC column[MOST_ROTATED];
        UNROLL
        for (int c = 0; c < n; c++)
            column[c] = *(const vec_any *)(from + c * height);
        write_rows(&at, column, n);
    }
}

/* As many rows as make whole blocks. Returns how many, 0 for another n. */
static int rotate_in(const char *from, int64_t n, REAL *to, int64_t height, int rows)
{
    const int blocks = rows / LANES;
    switch (n) {
#define CASE(n)                                                                                                        \
    case n:                                                                                                            \
        rotate_rows_in(from, to, height, blocks, n);                                                                   \
        return blocks * LANES;
        EACH_N(CASE)
#undef CASE
    }
    return 0;
}

static int rotate_out(const REAL *from, int64_t height, int64_t n, char *to, int rows, int past_cache)
{
    const int blocks = rows / LANES;
    switch (n) {
#define CASE(n)                                                                                                        \
    case n:                                                                                                            \
        rotate_rows_out(from, height, to, blocks, past_cache, n);                                                      \
        return blocks * LANES;
        EACH_N(CASE)
#undef CASE
    }
    return 0;
}

#if SA_BITS == 512
/* Whole vectors of n numbers that lie across cache lines, each put together from two aligned ones. Returns how many
 * numbers it copied. */
INLINE int64_t copy_unaligned(const char *from, REAL *to, int64_t n)
{
    const int k = (int)((uintptr_t)from % sizeof(VEC) / sizeof(REAL));
    if (k == 0 || (uintptr_t)from % sizeof(REAL) || n < 8 * LANES)
        return 0;
    const MASK after = (MASK)((1 << k) - 1);
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

#else

static int rotates(int64_t n)
{
    (void)n;
    return 0;
}

static int rotate_in(const char *from, int64_t n, REAL *to, int64_t height, int rows)
{
    (void)from, (void)n, (void)to, (void)height, (void)rows;
    return 0;
}

static int rotate_out(const REAL *from, int64_t height, int64_t n, char *to, int rows, int past_cache)
{
    (void)from, (void)height, (void)n, (void)to, (void)rows, (void)past_cache;
    return 0;
}
#endif

#if SA_BITS < 512
static int64_t copy_unaligned(const char *from, REAL *to, int64_t n)
{
    (void)from, (void)to, (void)n;
    return 0;
}
#endif
