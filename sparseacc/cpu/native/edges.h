/* The arithmetic of some edges, path by path, for some vectors of channels. The rule contracted with an edge's y is a small sparse
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
#include "ahead.h"
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

/* What a product of an edge reads and writes, and where its rows begin: `out` is the result or, where gradients are
 * computed, its gradient. */
struct edge {
    const REAL *a, *w;
    REAL *da, *dw, *x, *dx, *out;
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

struct planned_path;
struct turn;

/* The arithmetic of a path of some edges, by what is computed: of numbers in A for as many vectors as registers hold,
 * two, or one at a time; or of vectors in it. A path is a function's whole work: with all of an edge's in one, compilers
 * run out of registers for addresses. */
typedef void path_kernel(const struct edge *edges, const struct planned_path *path, const struct turn *turn,
                         int wanted);

/* What a path gives to dw is added there, or it is the first, and written, past the caches or not. */
enum { ADDED, WRITTEN, WRITTEN_PAST_CACHE };

/* Channels are taken in at most three steps: as many vectors as one function can take, two, and one. */
enum { STEPS = 3 };

/* A path of a product: its function for each step, its shape, and where its rows are from where those of an edge begin. */
struct planned_path {
    path_kernel *kernel[STEPS];
    const int32_t *shape;
    int64_t entry, w, dw, x, dx, out, step_of_x, step_of_dx, step_of_out;
    int how_to_dw;
};

/* How many edges a path is computed of, one after the other, and for which channels; with each so many bursts of lines
 * are fetched ahead. */
struct turn {
    int edges;
    int64_t channel, end, bursts;
    struct sa_ahead *ahead;
};

/* Where the numbers of a path of an edge are, for all channels. */
struct place {
    const REAL *a, *w;
    REAL *da, *dw;
    struct rows_at x, dx, out;
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

INLINE struct place place_of(const struct edge *e, const struct planned_path *path)
{
    return (struct place){
        .a = e->a + path->entry,
        .w = e->w + path->w,
        .da = e->da + path->entry,
        .dw = e->dw + path->dw,
        .x = {e->x + path->x, path->step_of_x},
        .dx = {e->dx + path->dx, path->step_of_dx},
        .out = {e->out + path->out, path->step_of_out},
    };
}

INLINE struct rows_at from(const struct rows_at rows, int64_t channel)
{
    return (struct rows_at){rows.at + channel, rows.step};
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
    load(p.weight, at->w + channel, vectors, computed == RESULT || needs_u(computed));
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

INLINE void end_path(const struct path *p, const struct place *at, int how_to_dw, int64_t channel, const int vectors,
                     const int computed)
{
    if (!(computed & OF_W))
        return;
    vec_any *const dw = (vec_any *)(at->dw + channel);
    if (how_to_dw == WRITTEN_PAST_CACHE) {
        UNROLL
        for (int v = 0; v < vectors; v++)
            STREAM(&dw[v], p->of_weight[v]);
    } else {
        const int added = how_to_dw == ADDED;
        UNROLL
        for (int v = 0; v < vectors; v++)
            dw[v] = added ? (VEC)dw[v] + p->of_weight[v] : p->of_weight[v];
    }
}

/* The rows of a path, as its shape says. */
INLINE void rows_of_shape(struct path *p, const int32_t *shape, const int vectors, const int shared, const int computed)
{
    const int32_t *pair = shape;
    for (int32_t pairs = *pair++; pairs > 0; pairs--) {
        const int rows = pair[SECOND_ROW] < 0 ? 1 : 2;
        begin_pair(p, pair[FIRST_ROW], pair[SECOND_ROW], rows, vectors, computed);
        const int32_t *m1 = pair + M1, *end = m1 + pair[OF_BOTH];
        while (m1 < end)
            add_entry(p, *m1++, 0, 2, 0, vectors, shared, computed);
        for (end += pair[OF_FIRST]; m1 < end;)
            add_entry(p, *m1++, 0, 1, 0, vectors, shared, computed);
        for (end += pair[OF_SECOND]; m1 < end;)
            add_entry(p, *m1++, 1, 1, 0, vectors, shared, computed);
        end_of_row(p, 0, vectors, computed);
        if (rows == 2)
            end_of_row(p, 1, vectors, computed);
        pair = end;
    }
}

/* A function for a path whose rows are computed by `rows`, so many vectors of channels at a time. */
#define PATH_KERNEL(name, across, computed_, rows)                                                                     \
    APART void name(const struct edge *edges, const struct planned_path *path, const struct turn *turn, int wanted)    \
    {                                                                                                                  \
        (void)wanted;                                                                                                  \
        const int vectors = across, computed = computed_;                                                              \
        const int64_t begin = turn->channel, end = turn->end;                                                          \
        for (const struct edge *e = edges, *last = edges + turn->edges; e < last; e++) {                               \
            sa_ahead_bursts(turn->ahead, turn->bursts);                                                                \
            const struct place at = place_of(e, path);                                                                 \
            for (int64_t channel = begin; channel < end; channel += vectors * LANES) {                                 \
                struct path p = begin_path(&at, channel, vectors, computed);                                           \
                rows;                                                                                                  \
                end_path(&p, &at, path->how_to_dw, channel, vectors, computed);                                        \
            }                                                                                                          \
        }                                                                                                              \
    }
#define BY_SHAPE(shared) rows_of_shape(&p, path->shape, vectors, shared, computed)
#define OF_MANY(computed) PATH_KERNEL(of_many_##computed, ACROSS_CHANNELS(computed), computed, BY_SHAPE(1))
#define OF_TWO(computed) PATH_KERNEL(of_two_##computed, 2, computed, BY_SHAPE(1))
#define EACH_COMPUTED(EACH) EACH(0) EACH(1) EACH(2) EACH(3) EACH(4) EACH(5) EACH(6) EACH(7)
#define NAME_OF_MANY(computed) of_many_##computed,
#define NAME_OF_TWO(computed) of_two_##computed,
EACH_COMPUTED(OF_MANY)
EACH_COMPUTED(OF_TWO)
PATH_KERNEL(of_one, 1, wanted, BY_SHAPE(1))
PATH_KERNEL(of_vectors, 1, wanted, BY_SHAPE(0))
static path_kernel *const of_many[] = {EACH_COMPUTED(NAME_OF_MANY)};
static path_kernel *const of_two[] = {EACH_COMPUTED(NAME_OF_TWO)};
#undef NAME_OF_TWO
#undef NAME_OF_MANY
#undef EACH_COMPUTED
#undef OF_TWO
#undef OF_MANY
#undef BY_SHAPE
#endif
