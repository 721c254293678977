/* The arithmetic of one edge, for some vectors of channels. The rule contracted with an edge's y is a small sparse
 * matrix A from the rows of x to those of the result, with a number (or a vector of channels) for each entry, and a path
 * for each of its parts:
 *
 *     out[mu] += w[path] * sum of A[k] x[m1]        over the entries k of a row mu.
 *
 * matrix.py writes it as `code`: the number of paths, and for each its number, its first entry and how many pairs of
 * rows; for each pair both rows (the second -1: none), then how many m1 both, only the first and only the second have, and
 * those m1. A path's entries are in that order, the first row's before the second's; paths that are copies of each other
 * share them. Two rows are computed at a time, as loads of x are then shared. */
#ifndef SPARSEACC_EDGES_H
#define SPARSEACC_EDGES_H
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
    const REAL *a;
    REAL *da;
    struct rows_at x, w, out, dx, dw;
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

INLINE void add_products(VEC *to, const vec_any *a, const VEC *b, const int vectors)
{
    UNROLL
    for (int v = 0; v < vectors; v++)
        to[v] = FMA(a[v], b[v], to[v]);
}

/* What is computed: the result, or some of the gradients. */
enum { RESULT = 0, OF_X = 1, OF_Y = 2, OF_W = 4 };

/* Of a path in the code, and of a pair of its rows. */
enum { PATH, FIRST_ENTRY, PAIRS, FIRST_PAIR };
enum { FIRST_ROW, SECOND_ROW, OF_BOTH, OF_FIRST, OF_SECOND, M1 };

/* What the rows of a pair need and give: u = w dout, and the sums of A x. */
struct pair {
    const REAL *a;
    REAL *da;
    VEC u[2][ACROSS_CHANNELS], sum[2][ACROSS_CHANNELS];
};

/* n entries with one m1 each of `rows` rows of a pair from `row` on: sums of A x, dx[m1] += A u and da += u x. */
INLINE void entries(struct pair *p, const int32_t *m1, int32_t n, const struct rows_at x, const struct rows_at dx,
                    const int row, const int rows, const int vectors, const int shared, const int wanted)
{
    for (int32_t i = 0; i < n; i++) {
        VEC x_row[ACROSS_CHANNELS], dx_row[ACROSS_CHANNELS];
        load(x_row, ROW(x, m1[i]), vectors, wanted & (OF_Y | OF_W));
        load(dx_row, ROW(dx, m1[i]), vectors, wanted & OF_X);
        UNROLL
        for (int v = 0; v < vectors; v++)
            if (rows == 2 && wanted & (OF_Y | OF_W))
                HOLD(x_row[v]);
        UNROLL
        for (int r = row; r < row + rows; r++, p->a += LANES, p->da += LANES) {
            const VEC entry = ENTRY(p->a, shared);
            VEC of_entry = wanted & OF_Y ? *(VEC *)p->da : (VEC){0};
            UNROLL
            for (int v = 0; v < vectors; v++) {
                if (wanted & OF_W)
                    p->sum[r][v] = FMA(entry, x_row[v], p->sum[r][v]);
                if (wanted & OF_X)
                    dx_row[v] = FMA(entry, p->u[r][v], dx_row[v]);
                if (wanted & OF_Y)
                    of_entry = FMA(p->u[r][v], x_row[v], of_entry);
            }
            if (wanted & OF_Y)
                *(VEC *)p->da = of_entry;
        }
        if (wanted & OF_X)
            UNROLL
        for (int v = 0; v < vectors; v++)
            ((VEC *)ROW(dx, m1[i]))[v] = dx_row[v];
    }
}

/* One path for some vectors of channels: out[mu] += w[path] A x, or dx[m1] += A^T (w dout), dw[path] += dout (A x) and
 * da[k] += (w dout) x, whose lanes are still to be summed. Returns the end of its code. */
INLINE const int32_t *one_path(const struct edge *e, const int32_t *path, int64_t channel, const int vectors,
                               const int shared, const int computed)
{
    const int wanted = computed == RESULT ? OF_W : computed, of_u = wanted & (OF_X | OF_Y);
    const struct rows_at x = from(e->x, channel), out = from(e->out, channel), dx = from(e->dx, channel);
    const int64_t first_entry = (int64_t)path[FIRST_ENTRY] * LANES;
    struct pair p = {.a = e->a + first_entry, .da = e->da + first_entry};
    VEC weight[ACROSS_CHANNELS], of_weight[ACROSS_CHANNELS] = {{0}};
    load(weight, ROW(e->w, path[PATH]) + channel, vectors, of_u || computed == RESULT);
    const int32_t *pair = path + FIRST_PAIR;
    for (int32_t pairs = path[PAIRS]; pairs > 0; pairs--) {
        const int rows = pair[SECOND_ROW] < 0 ? 1 : 2;
        VEC *const to[2] = {(VEC *)ROW(out, pair[FIRST_ROW]), (VEC *)ROW(out, pair[rows - 1])};
        UNROLL
        for (int v = 0; v < vectors; v++)
            UNROLL
        for (int r = 0; r < 2; r++) {
            p.u[r][v] = of_u ? weight[v] * ((const vec_any *)to[r])[v] : (VEC){0};
            p.sum[r][v] = (VEC){0};
        }
        const int32_t *m1 = pair + M1;
        entries(&p, m1, pair[OF_BOTH], x, dx, 0, 2, vectors, shared, wanted);
        m1 += pair[OF_BOTH];
        entries(&p, m1, pair[OF_FIRST], x, dx, 0, 1, vectors, shared, wanted);
        m1 += pair[OF_FIRST];
        entries(&p, m1, pair[OF_SECOND], x, dx, 1, 1, vectors, shared, wanted);
        UNROLL
        for (int r = 0; r < 2; r++) {
            if (r == 1 && rows == 1)
                break;
            if (computed == RESULT)
                add_products(to[r], (const vec_any *)weight, p.sum[r], vectors);
            else if (wanted & OF_W)
                add_products(of_weight, (const vec_any *)to[r], p.sum[r], vectors);
        }
        pair = m1 + pair[OF_SECOND];
    }
    if (computed != RESULT && wanted & OF_W) {
        VEC *const dw = (VEC *)(ROW(e->dw, path[PATH]) + channel);
        UNROLL
        for (int v = 0; v < vectors; v++)
            dw[v] += of_weight[v];
    }
    return pair;
}

/* The arithmetic of a path of an edge for some vectors of channels, by what is computed: of numbers in A for many vectors,
 * half as many, or one; or of vectors in it. A path is a function's whole work: with all of an edge's in one, compilers
 * run out of registers for addresses. */
typedef const int32_t *path_kernel(const struct edge *e, const int32_t *path, int64_t channel, int wanted);

#define KERNEL(name, computed, vectors)                                                                                \
    APART const int32_t *name##_##computed(const struct edge *e, const int32_t *path, int64_t channel, int wanted)     \
    {                                                                                                                  \
        (void)wanted;                                                                                                  \
        return one_path(e, path, channel, vectors, 1, computed);                                                       \
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
    static path_kernel *const name[8] = {name##_0, name##_1, name##_2, name##_3,                                       \
                                         name##_4, name##_5, name##_6, name##_7};
KERNELS(of_many, ACROSS_CHANNELS)
#if ACROSS_CHANNELS > 2
KERNELS(of_half, ACROSS_CHANNELS / 2)
#else
#define of_half of_many
#endif
#undef KERNELS
#undef KERNEL

APART const int32_t *of_one(const struct edge *e, const int32_t *path, int64_t channel, int wanted)
{
    return one_path(e, path, channel, 1, 1, wanted);
}

APART const int32_t *of_vectors(const struct edge *e, const int32_t *path, int64_t channel, int wanted)
{
    return one_path(e, path, channel, 1, 0, wanted);
}

/* The kernel for the vectors that are left, and how many it takes. */
static path_kernel *kernel_for(int64_t vectors, int shared, int wanted, int *taken)
{
    *taken = !shared ? 1 : vectors >= ACROSS_CHANNELS ? ACROSS_CHANNELS : vectors >= 2 ? 2 : 1;
    return !shared ? of_vectors : *taken == 1 ? of_one : *taken == ACROSS_CHANNELS ? of_many[wanted] : of_half[wanted];
}
#endif
