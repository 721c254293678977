/* The rule's arithmetic over a tile, up to MOST vectors of its columns at a time. */
#ifndef SPARSEACC_PRODUCT_H
#define SPARSEACC_PRODUCT_H
#include "ahead.h"
#include "sparseacc.h"
#include "vector.h"
#include <string.h>

/* Where an operand's columns are, in a tile or in the caller's memory: column c at base + c * step, and its row r
 * r numbers on, or (spread: 0) every row at the same vectors. Whether it is written past the caches. */
struct view {
    char *base;
    int64_t step;
    int spread, past_cache;
};

struct program {
    const int32_t *code;
    const REAL *coef;
};

/* Column c, the low or high half of two; one load and a multiplication find two columns, as loads are scarce. */
#define COLUMN(of, c) ((const VEC *)(of.base + (int64_t)(c) * of.step))
#define FIRST(two) ((uint32_t)(two))
#define SECOND(two) ((two) >> 32)
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the first of two columns is the low half");

INLINE uint64_t two_columns(const int32_t *code)
{
    uint64_t two;
    memcpy(&two, code, sizeof two);
    KEEP(two);
    return two;
}

/* The rows from r on. */
INLINE struct view from_row(const struct view *view, int64_t r)
{
    struct view at = *view;
    at.base += view->spread * r * (int64_t)sizeof(REAL);
    return at;
}

/* A quad: first += C1 (a b - a' b'), second += C2 (a b' + a' b), or the same with -a' for a'. */
INLINE void quad(const VEC a, const VEC aa, const VEC b, const VEC bb, const VEC c1, const VEC c2, VEC *first,
                 VEC *second, const int negated)
{
    const VEC p = a * b, q = a * bb;
    *first = FMA(c1, negated ? FMA(aa, bb, p) : FNMA(aa, bb, p), *first);
    *second = FMA(c2, negated ? FNMA(aa, b, q) : FMA(aa, b, q), *second);
}

/* n quads. Four columns read serve eight factors. */
INLINE struct program quads(struct program at, int32_t n, const struct view of_a, const struct view of_b,
                            VEC first[MOST], VEC second[MOST], const int vectors, const int negated)
{
    for (; n > 0; n--, at.code += 4, at.coef += 2) {
        const uint64_t as = two_columns(at.code), bs = two_columns(at.code + 2);
        const VEC *a1 = COLUMN(of_a, FIRST(as)), *a2 = COLUMN(of_a, SECOND(as));
        const VEC *b1 = COLUMN(of_b, FIRST(bs)), *b2 = COLUMN(of_b, SECOND(bs));
        const VEC c1 = SPREAD(at.coef[0]), c2 = SPREAD(at.coef[1]);
        for (int v = 0; v < vectors; v++) {
            VEC a = a1[v], aa = a2[v], b = b1[v], bb = b2[v];
            HOLD(a);
            HOLD(aa);
            HOLD(b);
            HOLD(bb);
            quad(a, aa, b, bb, c1, c2, &first[v], &second[v], negated);
        }
    }
    return at;
}

/* n terms: sum += C a b. */
INLINE struct program singles(struct program at, int32_t n, const struct view of_a, const struct view of_b,
                              VEC sum[MOST], const int vectors)
{
    for (; n > 0; n--, at.code += 2, at.coef += 1) {
        const uint64_t ab = two_columns(at.code);
        const VEC *a = COLUMN(of_a, FIRST(ab)), *b = COLUMN(of_b, SECOND(ab));
        const VEC c = SPREAD(at.coef[0]);
        for (int v = 0; v < vectors; v++)
            sum[v] = FMA(c * a[v], b[v], sum[v]);
    }
    return at;
}

/* A finished column of an output, which may be unaligned. */
INLINE void store(const struct view *view, int64_t column, const VEC *sum, const int vectors)
{
    char *to = view->base + column * view->step;
    if (view->past_cache)
        for (int v = 0; v < vectors; v++)
            STREAM(to + v * (int)sizeof(VEC), sum[v]);
    else
        for (int v = 0; v < vectors; v++)
            ((vec_any *)to)[v] = sum[v];
}

/* The terms of a group, `head` being what stands before them. */
INLINE struct program terms_of(struct program at, const int32_t *head, const struct view *views, VEC first[MOST],
                               VEC second[MOST], const int vectors)
{
    const struct view a = views[head[0]], b = views[head[1]];
    at = quads(at, head[2], a, b, first, second, vectors, 0);
    at = quads(at, head[3], a, b, first, second, vectors, 1);
    at = singles(at, head[4], a, b, first, vectors);
    return singles(at, head[5], a, b, second, vectors);
}

/* sum += outer * terms. */
INLINE void add_product(const VEC *outer, const VEC terms[MOST], VEC sum[MOST], const int vectors)
{
    for (int v = 0; v < vectors; v++)
        sum[v] = FMA(outer[v], terms[v], sum[v]);
}

/* All output columns, two at a time, fetching ahead between them. `vectors` is a constant where this is inlined; no
 * row's sums depend on it. So is `outer`: whether the sums of a group are multiplied by a column, which may be infinite
 * where an output has no terms. */
INLINE void outputs_of(struct program at, const struct view *views, struct sa_ahead *ahead, int64_t lines,
                       const int vectors, const int outer)
{
    for (int32_t pairs = *at.code++; pairs > 0; pairs--) {
        sa_ahead_fetch(ahead, lines);
        const int32_t *outputs = at.code;
        VEC first[MOST] = {{0}}, second[MOST] = {{0}};
        at.code += 5;
        for (int32_t groups = outputs[4]; groups > 0; groups--) {
            const int32_t *head = at.code;
            if (!outer) {
                at.code += 6;
                at = terms_of(at, head, views, first, second, vectors);
                continue;
            }
            VEC one[MOST] = {{0}}, two[MOST] = {{0}};
            at.code += 8;
            at = terms_of(at, head, views, one, two, vectors);
            if (head[2] + head[3] + head[4])
                add_product(COLUMN(views[head[6]], head[7]), one, first, vectors);
            if (head[2] + head[3] + head[5])
                add_product(COLUMN(views[head[6]], head[7]), two, second, vectors);
        }
        store(&views[outputs[0]], outputs[1], first, vectors);
        store(&views[outputs[2]], outputs[3], second, vectors);
    }
}

/* Vectors to compute at a time where as many rows are left: what lies beyond the last whole vector is never touched. */
static inline int vectors_for(int rows)
{
    int vectors = MOST;
    while (vectors > 1 && vectors * LANES > rows)
        vectors /= 2;
    return vectors;
}

INLINE void in_turns(struct program program, const struct view *tile, int n_views, int rows, struct sa_ahead *ahead,
                     const int outer)
{
    struct view views[SA_MAX_OPERANDS + 1];
    const int32_t pairs = *program.code;
    for (int r = 0, vectors; r < rows; r += vectors * LANES) {
        vectors = vectors_for(rows - r);
        for (int k = 0; k < n_views; k++)
            views[k] = from_row(&tile[k], r);
        const int64_t turns = (int64_t)pairs * ((rows - r + vectors * LANES - 1) / (vectors * LANES));
        const int64_t lines = sa_ahead_each(ahead, turns);
        if (vectors == MOST)
            outputs_of(program, views, ahead, lines, MOST, outer);
        else if (vectors == 4)
            outputs_of(program, views, ahead, lines, 4, outer);
        else if (vectors == 2)
            outputs_of(program, views, ahead, lines, 2, outer);
        else
            outputs_of(program, views, ahead, lines, 1, outer);
    }
}

APART void all_outputs(struct program program, const struct view *tile, int n_views, int rows, struct sa_ahead *ahead)
{
    in_turns(program, tile, n_views, rows, ahead, 0);
}

/* The same where sums are multiplied by a column. */
APART void all_weighted(struct program program, const struct view *tile, int n_views, int rows, struct sa_ahead *ahead)
{
    in_turns(program, tile, n_views, rows, ahead, 1);
}
#endif
