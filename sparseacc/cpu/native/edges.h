/* The arithmetic of one edge, for some vectors of channels. The rule contracted with an edge's y is a small sparse
 * matrix A from the rows of x to those of the result, with a number (or a vector of channels) for each entry, and a path
 * for each of its parts:
 *
 *     out[mu] += w[path] * sum of A[k] x[m1]        over the entries k of a row mu.
 *
 * matrix.py writes it as `code`: the number of groups, and for each the path and a number of pairs of rows; for each pair
 * both rows (the second -1: none), then how many m1 both, only the first and only the second have, and those m1. Entries
 * are numbered in that order, the first row's before the second's. Two rows are computed at a time, as loads of x are
 * then shared. */
#ifndef SPARSEACC_EDGES_H
#define SPARSEACC_EDGES_H
#include "ahead.h"
#include "vector.h"

/* Vectors of channels at a time: two sums, and what is multiplied, stay in registers. */
#define ACROSS_CHANNELS (MOST / 2)
_Static_assert(ACROSS_CHANNELS == 2 || ACROSS_CHANNELS == 4, "as kernel_for has them");

/* Rows of an operand, `step` numbers apart. */
struct rows_at {
    REAL *at;
    int64_t step;
};

#define ROW(rows, m) ((rows).at + (int64_t)(m) * (rows).step)

/* What a product of an edge reads and writes: `out` is the result or, where gradients are computed, its gradient. */
struct edge {
    const int32_t *code;
    const REAL *a;
    REAL *da;
    struct rows_at x, w, out, dx, dw;
    struct sa_ahead *ahead;
    int64_t lines; /* to fetch ahead for each path */
};

INLINE struct rows_at from(const struct rows_at rows, int64_t channel)
{
    return (struct rows_at){rows.at + channel, rows.step};
}

/* Vectors that are needed, or zeros. */
INLINE void load(VEC *v, const REAL *from, const int vectors, const int needed)
{
    UNROLL
    for (int i = 0; i < vectors; i++)
        v[i] = needed ? (VEC)((const vec_any *)from)[i] : (VEC){0};
}

/* An entry of the matrix: one number for all channels, LANES edges side by side, or a vector of channels. */
#define ENTRY(a, shared) ((shared) ? SPREAD(*(a)) : *(const VEC *)(a))

/* sum += A[k] x[m1] for n entries of one row. */
INLINE const REAL *some_entries(const int32_t *m1, int32_t n, const REAL *a, const struct rows_at x, VEC *sum,
                                const int vectors, const int shared)
{
    for (int32_t i = 0; i < n; i++, a += LANES) {
        const VEC entry = ENTRY(a, shared);
        const REAL *const row = ROW(x, m1[i]);
        UNROLL
        for (int v = 0; v < vectors; v++)
            sum[v] = FMA(entry, ((const vec_any *)row)[v], sum[v]);
    }
    return a;
}

/* The sums of both rows of a pair: `first` and `second` += A x. */
INLINE const REAL *pair_of_rows(const int32_t *pair, const REAL *a, const struct rows_at x, VEC *first, VEC *second,
                                const int vectors, const int shared)
{
    const int32_t *m1 = pair + 5;
    for (int32_t i = 0; i < pair[2]; i++, a += 2 * LANES) {
        const VEC one = ENTRY(a, shared), two = ENTRY(a + LANES, shared);
        VEC row[ACROSS_CHANNELS];
        load(row, ROW(x, m1[i]), vectors, 1);
        UNROLL
        for (int v = 0; v < vectors; v++) {
            HOLD(row[v]);
            first[v] = FMA(one, row[v], first[v]);
            second[v] = FMA(two, row[v], second[v]);
        }
    }
    m1 += pair[2];
    a = some_entries(m1, pair[3], a, x, first, vectors, shared);
    return some_entries(m1 + pair[3], pair[4], a, x, second, vectors, shared);
}

INLINE const int32_t *after(const int32_t *pair)
{
    return pair + 5 + pair[2] + pair[3] + pair[4];
}

/* out[mu] += w[path] A x. */
INLINE void to_result(const struct edge *e, int64_t channel, const int vectors, const int shared)
{
    const struct rows_at x = from(e->x, channel), w = from(e->w, channel), out = from(e->out, channel);
    const int32_t *code = e->code;
    const REAL *a = e->a;
    for (int32_t groups = *code++; groups > 0; groups--) {
        sa_ahead_fetch(e->ahead, e->lines);
        VEC weight[ACROSS_CHANNELS];
        load(weight, ROW(w, code[0]), vectors, 1);
        int32_t pairs = code[1];
        for (code += 2; pairs > 0; pairs--, code = after(code)) {
            VEC first[ACROSS_CHANNELS] = {{0}}, second[ACROSS_CHANNELS] = {{0}};
            a = pair_of_rows(code, a, x, first, second, vectors, shared);
            VEC *to = (VEC *)ROW(out, code[0]);
            UNROLL
            for (int v = 0; v < vectors; v++)
                to[v] = FMA(weight[v], first[v], to[v]);
            if (code[1] < 0)
                continue;
            to = (VEC *)ROW(out, code[1]);
            UNROLL
            for (int v = 0; v < vectors; v++)
                to[v] = FMA(weight[v], second[v], to[v]);
        }
    }
}

/* What is computed: the result, or some of the gradients. */
enum { RESULT = 0, OF_X = 1, OF_Y = 2, OF_W = 4 };

/* n entries with one m1 each that are of one row, or of two (n2 is then as many, and u, sum are of both): the sums
 * of A x, dx[m1] += A u, and the entries' own gradients += u x, where u is w dout. */
INLINE void gradients_of(const int32_t *m1, int32_t n, const REAL *a, REAL *da, const struct rows_at x,
                         const struct rows_at dx, VEC (*u)[ACROSS_CHANNELS], VEC (*sum)[ACROSS_CHANNELS],
                         const int rows, const int vectors, const int shared, const int wanted)
{
    for (int32_t i = 0; i < n; i++) {
        VEC x_row[ACROSS_CHANNELS], dx_row[ACROSS_CHANNELS];
        load(x_row, ROW(x, m1[i]), vectors, wanted & (OF_Y | OF_W));
        load(dx_row, ROW(dx, m1[i]), vectors, wanted & OF_X);
        UNROLL
        for (int r = 0; r < rows; r++, a += LANES, da += LANES) {
            const VEC entry = ENTRY(a, shared);
            VEC of_entry = wanted & OF_Y ? *(VEC *)da : (VEC){0};
            UNROLL
            for (int v = 0; v < vectors; v++) {
                if (wanted & OF_W)
                    sum[r][v] = FMA(entry, x_row[v], sum[r][v]);
                if (wanted & OF_X)
                    dx_row[v] = FMA(entry, u[r][v], dx_row[v]);
                if (wanted & OF_Y)
                    of_entry = FMA(u[r][v], x_row[v], of_entry);
            }
            if (wanted & OF_Y)
                *(VEC *)da = of_entry;
        }
        if (wanted & OF_X)
            UNROLL
        for (int v = 0; v < vectors; v++)
            ((VEC *)ROW(dx, m1[i]))[v] = dx_row[v];
    }
}

INLINE void add_products(VEC *to, const vec_any *a, const VEC *b, const int vectors)
{
    UNROLL
    for (int v = 0; v < vectors; v++)
        to[v] = FMA(a[v], b[v], to[v]);
}

/* dx[m1] += A^T (w dout), dw[path] += dout (A x), and da[k] += (w dout) x, whose lanes are still to be summed. */
INLINE void to_gradients(const struct edge *e, int64_t channel, const int vectors, const int shared, const int wanted)
{
    const struct rows_at x = from(e->x, channel), w = from(e->w, channel), dout = from(e->out, channel);
    const struct rows_at dx = from(e->dx, channel), dw = from(e->dw, channel);
    const int32_t *code = e->code;
    const REAL *a = e->a;
    REAL *da = e->da;
    for (int32_t groups = *code++; groups > 0; groups--) {
        sa_ahead_fetch(e->ahead, e->lines);
        VEC weight[ACROSS_CHANNELS], of_weight[ACROSS_CHANNELS] = {{0}};
        load(weight, ROW(w, code[0]), vectors, 1);
        VEC *const to = (VEC *)ROW(dw, code[0]);
        int32_t pairs = code[1];
        for (code += 2; pairs > 0; pairs--) {
            const int rows = code[1] < 0 ? 1 : 2;
            VEC sum[2][ACROSS_CHANNELS], u[2][ACROSS_CHANNELS];
            const vec_any *const d[2] = {(const vec_any *)ROW(dout, code[0]),
                                         (const vec_any *)ROW(dout, code[rows - 1])};
            UNROLL
            for (int v = 0; v < vectors; v++)
                UNROLL
            for (int r = 0; r < 2; r++) {
                u[r][v] = weight[v] * d[r][v];
                sum[r][v] = (VEC){0};
            }
            const int32_t *m1 = code + 5, both = code[2], first = code[3], second = code[4];
            gradients_of(m1, both, a, da, x, dx, u, sum, 2, vectors, shared, wanted);
            a += 2 * both * LANES;
            da += 2 * both * LANES;
            gradients_of(m1 + both, first, a, da, x, dx, u, sum, 1, vectors, shared, wanted);
            a += first * LANES;
            da += first * LANES;
            gradients_of(m1 + both + first, second, a, da, x, dx, u + 1, sum + 1, 1, vectors, shared, wanted);
            a += second * LANES;
            da += second * LANES;
            if (wanted & OF_W)
                add_products(of_weight, d[0], sum[0], vectors);
            if (wanted & OF_W && rows == 2)
                add_products(of_weight, d[1], sum[1], vectors);
            code = after(code);
        }
        if (wanted & OF_W)
            UNROLL
        for (int v = 0; v < vectors; v++)
            to[v] += of_weight[v];
    }
}

/* The arithmetic of an edge for some vectors of channels, by what is computed: of numbers in A for many vectors, half as
 * many, or one; or of vectors in it. */
typedef void edge_kernel(const struct edge *e, int64_t channel, int wanted);

#define KERNEL(name, computed, vectors)                                                                                \
    APART void name##_##computed(const struct edge *e, int64_t channel, int wanted)                                    \
    {                                                                                                                  \
        (void)wanted;                                                                                                  \
        if (computed == RESULT)                                                                                        \
            to_result(e, channel, vectors, 1);                                                                         \
        else                                                                                                           \
            to_gradients(e, channel, vectors, 1, computed);                                                            \
    }
#define KERNELS(name, vectors)                                                                                         \
    KERNEL(name, 0, vectors)                                                                                           \
    KERNEL(name, 1, vectors)                                                                                           \
    KERNEL(name, 2, vectors)                                                                                           \
    KERNEL(name, 3, vectors)                                                                                           \
    KERNEL(name, 4, vectors)                                                                                           \
    KERNEL(name, 5, vectors)                                                                                           \
    KERNEL(name, 6, vectors)                                                                                           \
    KERNEL(name, 7, vectors)                                                                                           \
    static edge_kernel *const name[8] = {name##_0, name##_1, name##_2, name##_3,                                       \
                                         name##_4, name##_5, name##_6, name##_7};
KERNELS(of_many, ACROSS_CHANNELS)
#if ACROSS_CHANNELS > 2
KERNELS(of_half, ACROSS_CHANNELS / 2)
#else
#define of_half of_many
#endif
#undef KERNELS
#undef KERNEL

APART void of_one(const struct edge *e, int64_t channel, int wanted)
{
    if (wanted == RESULT)
        to_result(e, channel, 1, 1);
    else
        to_gradients(e, channel, 1, 1, wanted);
}

APART void of_vectors(const struct edge *e, int64_t channel, int wanted)
{
    if (wanted == RESULT)
        to_result(e, channel, 1, 0);
    else
        to_gradients(e, channel, 1, 0, wanted);
}

/* The kernel for the vectors that are left, and how many it takes. */
static edge_kernel *kernel_for(int64_t vectors, int shared, int wanted, int *taken)
{
    *taken = !shared ? 1 : vectors >= ACROSS_CHANNELS ? ACROSS_CHANNELS : vectors >= 2 ? 2 : 1;
    return !shared ? of_vectors : *taken == 1 ? of_one : *taken == ACROSS_CHANNELS ? of_many[wanted] : of_half[wanted];
}
#endif
