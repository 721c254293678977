/* Transposes LANES whole rows of an odd number n of numbers, contiguous in memory, by loads and stores of whole vectors.
 *
 * Vector q holds the numbers f = LANES q + lane, of row f / n and column f mod n. If in each lane the n vectors are
 * rotated by s(lane), where LANES s + lane = 0 mod n, then vector i holds column LANES i mod n alone: a barrel rotation
 * of log2(n) steps, each a blend of every vector with another one under one mask. As n is odd, the rows of a column stand
 * in different lanes, row r of column c in lane (n r + c) mod LANES, and one permutation a column puts them in order.
 * The way back is the same backwards. That is n (2 + log2 n) instructions and 2 n whole vectors moved, where pieces
 * of rows (transpose_in) need twice as many and several times the loads. */
#if SA_BITS == 512

#if SA_REAL_BITS == 32
#define MASK __mmask16
#define BLEND(mask, a, b) ((VEC)_mm512_mask_blend_ps(mask, (__m512)(a), (__m512)(b)))
#define PERMUTE(index, v) ((VEC)_mm512_permutexvar_ps(index, (__m512)(v)))
#define ROTATED_INDEX(i, by) _mm512_add_epi32((__m512i)(i), _mm512_set1_epi32(by))
typedef int32_t NAME(index) __attribute__((vector_size(64)));
#else
#define MASK __mmask8
#define BLEND(mask, a, b) ((VEC)_mm512_mask_blend_pd(mask, (__m512d)(a), (__m512d)(b)))
#define PERMUTE(index, v) ((VEC)_mm512_permutexvar_pd(index, (__m512d)(v)))
#define ROTATED_INDEX(i, by) _mm512_add_epi64((__m512i)(i), _mm512_set1_epi64(by))
typedef int64_t NAME(index) __attribute__((vector_size(64)));
#endif
#define UNROLL _Pragma("GCC unroll 32")

enum { NAME(MOST_ROTATED) = 17 };

/* The lanes whose rotation has bit `bit` set; backwards undoes it. */
static inline __attribute__((always_inline)) MASK NAME(lanes_to_move)(const int n, const int bit, const int backwards)
{
    unsigned mask = 0;
    UNROLL for (int lane = 0; lane < LANES; lane++)
    {
        int s = 0;
        UNROLL for (int i = 1; i < NAME(MOST_ROTATED); i++) if (i < n && (LANES * i + lane) % n == 0) s = i;
        if (backwards && s)
            s = n - s;
        mask |= (unsigned)(s >> bit & 1) << lane;
    }
    return (MASK)mask;
}

static inline __attribute__((always_inline)) void NAME(rotate)(VEC v[], const int n, const int backwards)
{
    UNROLL for (int bit = 0; bit < 5; bit++)
    {
        if (1 << bit >= n)
            continue;
        const MASK mask = NAME(lanes_to_move)(n, bit, backwards);
        VEC old[NAME(MOST_ROTATED)];
        UNROLL for (int i = 0; i < n; i++) old[i] = v[i];
        UNROLL for (int i = 0; i < n; i++) v[i] = BLEND(mask, old[i], old[(i + (1 << bit)) % n]);
    }
}

static inline __attribute__((always_inline)) void
NAME(rotate_rows_in)(const char *from, REAL *to, int64_t height, int blocks, const int n)
{
    NAME(index) rows;
    for (int i = 0; i < LANES; i++)
        rows[i] = n * i;
    for (; blocks > 0; blocks--, from += n * (int)sizeof(VEC), to += LANES) {
        VEC v[NAME(MOST_ROTATED)];
        UNROLL for (int q = 0; q < n; q++) v[q] = *(const NAME(vec_any) *)(from + q * (int)sizeof(VEC));
        NAME(rotate)(v, n, 0);
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
    NAME(index) rows;
    for (int i = 0; i < LANES; i++)
        rows[i] = inverse * i;
    for (; blocks > 0; blocks--, from += LANES, to += n * (int)sizeof(VEC)) {
        VEC v[NAME(MOST_ROTATED)];
        UNROLL for (int i = 0; i < n; i++)
        {
            const int column = LANES * i % n;
            v[i] = PERMUTE(ROTATED_INDEX(rows, -inverse * column), *(const NAME(vec_any) *)(from + column * height));
        }
        NAME(rotate)(v, n, 1);
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

#undef MASK
#undef BLEND
#undef PERMUTE
#undef ROTATED_INDEX
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
