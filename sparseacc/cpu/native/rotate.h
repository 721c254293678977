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
 * rows end.
 *
 * An instruction set that has ROTATES has these operations for it:
 *
 *   MASK, BLEND            lanes, and a's lanes or, under the mask, b's
 *   places, PERMUTE,       where each lane comes from, in PLACES_PER_LANE numbers each; the lanes of v from there; and
 *   ROTATED                places further by so many lanes, modulo LANES
 *   masks_by               the masks of each step, by the inverse of LANES modulo n
 *   numbers_before         k of an address
 *   first_lanes            the mask of k lanes
 *   load_around            a vector, the lanes under the mask from `end` on */
#ifndef SPARSEACC_ROTATE_H
#define SPARSEACC_ROTATE_H
#include "vector.h"

/* The longest rows whose vectors fit the registers. */
enum { MOST_ROTATED = 17 };

#if ROTATES

/* For each step the lanes that it moves: those whose s(lane), where LANES s + lane - k = 0 mod n, has that bit. */
INLINE void masks_of(MASK mask[ROTATION_STEPS], const int n, const int k, const int backwards)
{
    int inverse = 1; /* of LANES modulo n */
    UNROLL
    for (int i = 1; i < MOST_ROTATED; i++)
        if (i < n && i * LANES % n == 1)
            inverse = i;
    if (backwards)
        inverse = n - inverse;
    masks_by(mask, n, k, inverse);
}

/* Where the rows of column 0 stand that the lanes take. */
INLINE places rows_at(const int n)
{
    places rows;
    for (int i = 0; i < LANES * PLACES_PER_LANE; i++)
        rows[i] = PLACES_PER_LANE * n * (i / PLACES_PER_LANE) + i % PLACES_PER_LANE;
    return rows;
}

INLINE void rotate(VEC v[], const int n, const MASK mask[ROTATION_STEPS])
{
    UNROLL
    for (int bit = 0; bit < ROTATION_STEPS; bit++) {
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

#define EACH_N(CASE) CASE(3) CASE(5) CASE(7) CASE(9) CASE(11) CASE(13) CASE(15) CASE(17)

static int rotates(int64_t n)
{
    return n % 2 == 1 && n > 1 && n <= MOST_ROTATED;
}

static void masks(MASK mask[ROTATION_STEPS], int n, int k, int backwards)
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
    MASK mask[ROTATION_STEPS], after;
    places rows;
};

INLINE struct rows_in rows_in(const char *from, const int n)
{
    struct rows_in at;
    const int k = numbers_before(from);
    at.after = first_lanes(k);
    at.rows = (places)ROTATED(rows_at(n), k);
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
    v[0] = load_around(at->from, at->from + n * (int)sizeof(VEC), at->after);
    rotate(v, n, at->mask);
    UNROLL
    for (int i = 0; i < n; i++)
        column[LANES * i % n] = PERMUTE(ROTATED(at->rows, LANES * i % n), v[i]);
    at->from += n * (int)sizeof(VEC);
}

/* The same to be written. */
struct rows_out {
    char *to;
    MASK mask[ROTATION_STEPS];
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
#endif
