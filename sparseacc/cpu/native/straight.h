/* The arithmetic of common rules without loops and tiles: straight.py writes it, with these macros, as
 * straight_bodies.h. C is kept, or compilers would load all coefficients before the loop, and store most of them. */
#ifndef SPARSEACC_STRAIGHT_H
#define SPARSEACC_STRAIGHT_H
#include "ahead.h"
#include "product.h"
#include "rotate.h"

typedef void straight_rows(char *const *data, int64_t blocks, const REAL *restrict C, int past_cache);
typedef void straight_columns(const struct view *views, int rows, const REAL *restrict C, struct sa_ahead *ahead,
                              int64_t lines);

/* Blocks of LANES rows, every operand's contiguous. */
#define STRAIGHT_ROWS(name)                                                                                            \
    static void rows_##name(char *const *data, int64_t blocks, const REAL *restrict C, int past_cache)
#define ROWS_IN(o, n) struct rows_in at##o = rows_in(data[o], n);
#define ROWS_OUT(o, n) struct rows_out at##o = rows_out(data[o], past_cache, n);
#define EACH_BLOCK                                                                                                     \
    VEC first, second;                                                                                                 \
    for (; blocks > 0; blocks--)
#define READ_ROWS(o, n)                                                                                                \
    VEC x##o[n];                                                                                                       \
    read_rows(&at##o, x##o, n);
#define WRITE_ROWS(o, n) write_rows(&at##o, x##o, n);

/* Columns as in product.h, in whole vectors, fetching ahead between them. */
#define STRAIGHT_COLUMNS(name)                                                                                         \
    static void columns_##name(const struct view *views, int rows, const REAL *restrict C, struct sa_ahead *ahead,     \
                               int64_t lines)
#define EACH_VECTOR                                                                                                    \
    VEC first, second;                                                                                                 \
    for (int r = 0; r < rows; r += LANES, sa_ahead_fetch(ahead, lines))
#define FIND_COLUMNS(o) const struct view at##o = from_row(&views[o], r);
#define READ_COLUMNS(o, n)                                                                                             \
    FIND_COLUMNS(o)                                                                                                    \
    VEC x##o[n];                                                                                                       \
    UNROLL                                                                                                             \
    for (int c = 0; c < n; c++)                                                                                        \
        x##o[c] = *(const vec_any *)(at##o.base + c * at##o.step);
#define WRITE_COLUMN(o, c, value) store(&at##o, c, &value, 1);

#define PAIR                                                                                                           \
    KEEP(C);                                                                                                           \
    first = second = (VEC){0};
#define QUAD_TERMS(a, aa, b, bb, k, negated)                                                                           \
    quad(a, aa, b, bb, SPREAD(C[k]), SPREAD(C[k + 1]), &first, &second, negated);
#define SINGLE_TERM(sum, a, b, k) sum = FMA(SPREAD(C[k]) * a, b, sum);

#include "straight_bodies.h"

#define ROWS(name) rows_##name,
#define COLUMNS(name) columns_##name,
static straight_rows *const rows_of_straight[] = {0, EACH_STRAIGHT(ROWS)};
static straight_columns *const columns_of_straight[] = {0, EACH_STRAIGHT(COLUMNS)};

static inline straight_columns *straight_columns_for(int32_t straight)
{
    return MOST_STRAIGHT_COLUMNS ? columns_of_straight[straight] : 0;
}

static inline straight_rows *straight_rows_for(int32_t straight)
{
    return MOST_STRAIGHT_ROWS ? rows_of_straight[straight] : 0;
}
#endif
