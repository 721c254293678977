/* The arithmetic of one edge, for some vectors of channels. The rule contracted with an edge's y is a small sparse
 * matrix A from the rows of x to those of the result, with a number (or a vector of channels) for each entry, and a path
 * for each of its parts:
 *
 *     out[mu] += w[path] * sum of A[k] x[m1]        over the entries k of a row mu.
 *
 * matrix.py writes it as `code`: the number of paths, and for each a head, whose SHAPE is where its shape begins, and
 * whose STRAIGHT is what sa_straight_path says of that; rows m1 and mu are counted from the path's first one, in its
 * steps. What follows the heads are shapes: how many pairs of rows, and for each pair both rows (the second
 * -1: none), then how many m1 both, only the first and only the second have, and those m1. A path's entries are in that
 * order, the first row's before the second's; paths that are copies of each other share them. Two rows are computed at a
 * time, as loads of x are then shared. */
#ifndef SPARSEACC_EDGES_H
#define SPARSEACC_EDGES_H
#include "vector.h"

/* Vectors of channels at a time, by what is computed: two sums, and what is multiplied, stay in registers. */
#define MOST_CHANNELS 4
#define ACROSS_CHANNELS(computed) ((computed) == RESULT ? MOST_CHANNELS : MOST / 2)
_Static_assert(MOST / 2 == 2 || MOST / 2 == MOST_CHANNELS, "as kernels_for has them");

/* Rows of an operand, `step` numbers apart. */
struct rows_at {
    REAL *at;
    int64_t step;
};

#define ROW(rows, m) ((rows).at + (int64_t)(m) * (rows).step)

/* What a product of an edge reads and writes: `out` is the result or, where gradients are computed, its gradient. What it
 * gives to dw is added there, or it is the first, and written, past the caches or not. */
enum { ADDED, WRITTEN, WRITTEN_PAST_CACHE };
struct edge {
    const int32_t *code;
    const REAL *a;
    REAL *da;
    const struct rows_at *x, *w, *out, *dx, *dw;
    int how_to_dw;
};

/* Vectors that are needed, or zeros. */
INLINE void load(VEC *v, const REAL *from, const int vectors, const int needed)
{
    UNROLL
    for (int i = 0; i < vectors; i++)
        v[i] = needed ? (VEC)((const vec_any *)from)[i] : (VEC){0};
}

/* An entry of the matrix: one number for all channels, LANES edges side by side, or a vector of channels. */
#define ENTRY(a, shared) ((shared) ? SPREAD(*(a)) : *(const VEC *)(a))

INLINE void add_products(VEC *to, const vec_any *a, const VEC *b, const int vectors)
{
    UNROLL
    for (int v = 0; v < vectors; v++)
        to[v] = FMA(a[v], b[v], to[v]);
}

/* What is computed: the result, or some of the gradients. */
enum { RESULT = 0, OF_X = 1, OF_Y = 2, OF_W = 4 };

/* The head of a path, and of a pair of its rows. */
enum { PATH, FIRST_ENTRY, FIRST_M1, STEP_OF_M1, FIRST_MU, STEP_OF_MU, SHAPE, STRAIGHT, HEAD };
enum { FIRST_ROW, SECOND_ROW, OF_BOTH, OF_FIRST, OF_SECOND, M1 };

/* Where the numbers of a path are, for all channels: copied from the edge, so that compilers see that no result changes
 * it. */
struct place {
    const REAL *a, *weight;
    REAL *da, *dw;
    struct rows_at x, dx, out;
    int how_to_dw;
};

/* A path for some vectors of channels, and a pair of its rows: u = w dout, and the sums of A x. */
struct path {
    const REAL *a;
    REAL *da;
    struct rows_at x, dx, out;
    VEC weight[MOST_CHANNELS], of_weight[MOST_CHANNELS];
    VEC *to[2], u[2][MOST_CHANNELS], sum[2][MOST_CHANNELS];
};

INLINE int needs_sums(const int computed)
{
    return computed == RESULT || computed & OF_W;
}

INLINE int needs_x(const int computed)
{
    return computed == RESULT || computed & (OF_Y | OF_W);
}

INLINE int needs_u(const int computed)
{
    return computed & (OF_X | OF_Y);
}

/* Rows from one on, every so many. */
INLINE struct rows_at each(const struct rows_at *rows, int32_t first, int32_t step)
{
    return (struct rows_at){ROW(*rows, first), rows->step * step};
}

INLINE struct rows_at from(const struct rows_at rows, int64_t channel)
{
    return (struct rows_at){rows.at + channel, rows.step};
}

INLINE struct place place_of(const struct edge *e, const int32_t *head)
{
    const int64_t entry = (int64_t)head[FIRST_ENTRY] * LANES;
    return (struct place){
        .a = e->a + entry,
        .da = e->da + entry,
        .weight = ROW(*e->w, head[PATH]),
        .dw = ROW(*e->dw, head[PATH]),
        .x = each(e->x, head[FIRST_M1], head[STEP_OF_M1]),
        .dx = each(e->dx, head[FIRST_M1], head[STEP_OF_M1]),
        .out = each(e->out, head[FIRST_MU], head[STEP_OF_MU]),
        .how_to_dw = e->how_to_dw,
    };
}

INLINE struct path begin_path(const struct place *at, int64_t channel, const int vectors, const int computed)
{
    struct path p = {
        .a = at->a,
        .da = at->da,
        .x = from(at->x, channel),
        .dx = from(at->dx, channel),
        .out = from(at->out, channel),
    };
    load(p.weight, at->weight + channel, vectors, computed == RESULT || needs_u(computed));
    return p;
}

INLINE void begin_pair(struct path *p, int32_t first, int32_t second, const int rows, const int vectors,
                       const int computed)
{
    p->to[0] = (VEC *)ROW(p->out, first);
    p->to[1] = (VEC *)ROW(p->out, rows == 2 ? second : first);
    UNROLL
    for (int v = 0; v < vectors; v++)
        UNROLL
    for (int r = 0; r < 2; r++) {
        p->u[r][v] = needs_u(computed) ? p->weight[v] * ((const vec_any *)p->to[r])[v] : (VEC){0};
        p->sum[r][v] = (VEC){0};
    }
}

/* The next entries, with one m1, of `rows` rows of the pair from `row` on, which may be known to be their first: sums of
 * A x, dx[m1] += A u and da += u x. */
INLINE void add_entry(struct path *p, int32_t m1, const int row, const int rows, const int first, const int vectors,
                      const int shared, const int computed)
{
    VEC x[MOST_CHANNELS], dx[MOST_CHANNELS];
    load(x, ROW(p->x, m1), vectors, needs_x(computed));
    load(dx, ROW(p->dx, m1), vectors, computed & OF_X);
    UNROLL
    for (int v = 0; v < vectors; v++)
        if (rows == 2 && needs_x(computed))
            HOLD(x[v]);
    UNROLL
    for (int r = row; r < row + rows; r++, p->a += LANES) {
        const VEC entry = ENTRY(p->a, shared);
        VEC of_entry = computed & OF_Y ? *(VEC *)p->da : (VEC){0};
        UNROLL
        for (int v = 0; v < vectors; v++) {
            if (needs_sums(computed))
                p->sum[r][v] = first ? entry * x[v] : FMA(entry, x[v], p->sum[r][v]);
            if (computed & OF_X)
                dx[v] = FMA(entry, p->u[r][v], dx[v]);
            if (computed & OF_Y)
                of_entry = FMA(p->u[r][v], x[v], of_entry);
        }
        if (computed & OF_Y) {
            *(VEC *)p->da = of_entry;
            p->da += LANES;
        }
    }
    if (computed & OF_X)
        UNROLL
    for (int v = 0; v < vectors; v++)
        ((VEC *)ROW(p->dx, m1))[v] = dx[v];
}

/* out[mu] += w[path] A x, or what dw gets: dout A x. */
INLINE void end_of_row(struct path *p, const int r, const int vectors, const int computed)
{
    if (computed == RESULT)
        add_products(p->to[r], (const vec_any *)p->weight, p->sum[r], vectors);
    else if (needs_sums(computed))
        add_products(p->of_weight, (const vec_any *)p->to[r], p->sum[r], vectors);
}

INLINE void end_path(const struct path *p, const struct place *at, int64_t channel, const int vectors,
                     const int computed)
{
    if (!(computed & OF_W))
        return;
    vec_any *const dw = (vec_any *)(at->dw + channel);
    if (at->how_to_dw == WRITTEN_PAST_CACHE) {
        UNROLL
        for (int v = 0; v < vectors; v++)
            STREAM(&dw[v], p->of_weight[v]);
    } else {
        const int added = at->how_to_dw == ADDED;
        UNROLL
        for (int v = 0; v < vectors; v++)
            dw[v] = added ? (VEC)dw[v] + p->of_weight[v] : p->of_weight[v];
    }
}

/* One path, as its shape says. */
INLINE void one_path(const struct place *at, const int32_t *shape, int64_t channel, const int vectors, const int shared,
                     const int computed)
{
    struct path p = begin_path(at, channel, vectors, computed);
    const int32_t *pair = shape;
    for (int32_t pairs = *pair++; pairs > 0; pairs--) {
        const int rows = pair[SECOND_ROW] < 0 ? 1 : 2;
        begin_pair(&p, pair[FIRST_ROW], pair[SECOND_ROW], rows, vectors, computed);
        const int32_t *m1 = pair + M1, *end = m1 + pair[OF_BOTH];
        while (m1 < end)
            add_entry(&p, *m1++, 0, 2, 0, vectors, shared, computed);
        for (end += pair[OF_FIRST]; m1 < end;)
            add_entry(&p, *m1++, 0, 1, 0, vectors, shared, computed);
        for (end += pair[OF_SECOND]; m1 < end;)
            add_entry(&p, *m1++, 1, 1, 0, vectors, shared, computed);
        end_of_row(&p, 0, vectors, computed);
        if (rows == 2)
            end_of_row(&p, 1, vectors, computed);
        pair = end;
    }
    end_path(&p, at, channel, vectors, computed);
}

/* The arithmetic of a path of an edge for the channels from one to another, by what is computed: of numbers in A for as
 * many vectors as registers hold, two, or one at a time; or of vectors in it. A path is a function's whole work: with all of
 * an edge's in one, compilers run out of registers for addresses. */
typedef void path_kernel(const struct edge *e, const int32_t *head, int64_t channel, int64_t end, int wanted);

INLINE void all_channels(const struct edge *e, const int32_t *head, int64_t channel, int64_t end, const int vectors,
                         const int shared, const int computed)
{
    const struct place at = place_of(e, head);
    for (; channel < end; channel += vectors * LANES)
        one_path(&at, e->code + head[SHAPE], channel, vectors, shared, computed);
}

#define KERNEL(name, computed, vectors)                                                                                \
    APART void name##_##computed(const struct edge *e, const int32_t *head, int64_t channel, int64_t end, int wanted)  \
    {                                                                                                                  \
        (void)wanted;                                                                                                  \
        all_channels(e, head, channel, end, vectors, 1, computed);                                                     \
    }
#define KERNELS(name, vectors)                                                                                         \
    KERNEL(name, 0, vectors(0))                                                                                        \
    KERNEL(name, 1, vectors(1))                                                                                        \
    KERNEL(name, 2, vectors(2))                                                                                        \
    KERNEL(name, 3, vectors(3))                                                                                        \
    KERNEL(name, 4, vectors(4))                                                                                        \
    KERNEL(name, 5, vectors(5))                                                                                        \
    KERNEL(name, 6, vectors(6))                                                                                        \
    KERNEL(name, 7, vectors(7))                                                                                        \
    static path_kernel *const name[8] = {name##_0, name##_1, name##_2, name##_3,                                       \
                                         name##_4, name##_5, name##_6, name##_7};
#define TWO(computed) 2
KERNELS(of_many, ACROSS_CHANNELS)
KERNELS(of_two, TWO)
#undef TWO
#undef KERNELS
#undef KERNEL

APART void of_one(const struct edge *e, const int32_t *head, int64_t channel, int64_t end, int wanted)
{
    all_channels(e, head, channel, end, 1, 1, wanted);
}

APART void of_vectors(const struct edge *e, const int32_t *head, int64_t channel, int64_t end, int wanted)
{
    all_channels(e, head, channel, end, 1, 0, wanted);
}
#endif
