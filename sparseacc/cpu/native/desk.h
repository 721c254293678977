/* Where a thread that passes messages has its numbers: rows of edges in the caller's arrays, or copied to memory of the
 * thread's own, where sums are as well. */
#ifndef SPARSEACC_DESK_H
#define SPARSEACC_DESK_H
#include "ahead.h"
#include "copy.h"
#include "edges.h"
#include "sparseacc.h"

/* Edges that are computed at a time, path by path: what is the same for all edges of a path is then found once for them. Of
 * more, fewer rows stay in the caches, and memory would be read in more places at a time. */
enum { AT_ONCE = 4 };

/* Products of which a derivative along three operands is the sum. */
enum { PRODUCTS = 3 };

/* Memory of a thread's own. */
struct desk {
    int64_t width, sums;
    /* Of AT_ONCE edges, rows of `width` numbers, which are whole vectors: copies of what cannot be read in place, and dw. */
    REAL *x, *zx, *w, *zw, *dout, *dw;
    REAL *y, *dy;               /* columns of LANES numbers */
    REAL *a[2], *da;            /* AT_ONCE times the entries of the matrices by y and by zy, as columns */
    REAL *sum;                  /* the sums of a block */
    struct planned_path *paths; /* of all products */
};

INLINE int is_real(const sa_rows *o)
{
    return o->dtype == (sizeof(REAL) == 8 ? SA_FLOAT64 : SA_FLOAT32);
}

/* Whether rows of channels can be used where they are, with vectors that begin at multiples of so many bytes. */
static int in_place(const sa_messages *call, const sa_rows *o, int64_t aligned)
{
    const int64_t places = o->component | o->row | (int64_t)(uintptr_t)o->data;
    return is_real(o) && o->channel == sizeof(REAL) && call->channels % LANES == 0 && places % aligned == 0;
}

static int64_t rows_to_sum(const sa_messages *call)
{
    const sa_matrix *m = call->matrix;
    return call->pass == SA_TO_RECEIVERS ? m->n_out
           : call->pass == SA_TO_SENDERS ? m->n1
           : call->pass == SA_TO_WEIGHTS ? m->paths
           : call->pass == SA_TO_Y       ? m->n2
                                         : 0;
}

/* Shares out memory from `at` on, and returns its end: called with 0 it says how much there must be. */
static REAL *desk_at(const sa_messages *call, struct desk *desk, REAL *at)
{
    const sa_matrix *m = call->matrix;
    const int64_t width = (call->channels + LANES - 1) / LANES * LANES;
    desk->width = width;
    desk->sums = rows_to_sum(call) * call->rows_of_block * width;
    REAL **const of_rows[] = {&desk->x, &desk->zx, &desk->w, &desk->zw, &desk->dout, &desk->dw};
    const int operands[] = {SA_X, SA_ZX, SA_W, SA_ZW, SA_DOUT, SA_DW};
    int64_t rows[] = {m->n1, m->n1, m->paths, m->paths, m->n_out, m->paths};
    REAL **const of_columns[] = {&desk->y, &desk->dy, &desk->a[0], &desk->a[1], &desk->da};
    const int64_t entries = (int64_t)m->entries * AT_ONCE, columns[] = {m->n2, m->n2, entries, entries, entries};
    for (int i = 0; i < 6; at += rows[i++] * width * AT_ONCE) {
        const sa_rows *const o = &call->rows_of[operands[i]];
        if (!o->data || (operands[i] != SA_DW && in_place(call, o, sizeof(REAL))))
            rows[i] = 0;
        *of_rows[i] = at;
    }
    for (int i = 0; i < 5; at += columns[i++] * LANES)
        *of_columns[i] = at;
    desk->sum = at;
    at += desk->sums;
    desk->paths = (struct planned_path *)at;
    return at + PRODUCTS * m->code[0] * sizeof *desk->paths / sizeof(REAL);
}

INLINE char *row_of(const sa_rows *o, int64_t edge)
{
    return o->data + (o->index ? o->index[edge] : edge) * o->row;
}

INLINE int64_t edge_at(const sa_messages *call, int64_t place)
{
    return call->order ? call->order[place] : place;
}

/* The edge at a place; where there is none any more, the last. */
INLINE int64_t edge_or_last(const sa_messages *call, int64_t place, int64_t end)
{
    return edge_at(call, place < end ? place : end - 1);
}

/* Rows of channels that edges read: how many, their step, and where they are for some edges and for those after them; where
 * they cannot be read there, they are copied. */
struct rows_of_edges {
    const sa_rows *rows;
    int32_t n, in_place;
    int64_t step, bytes;
    REAL *copy;
    const char *at[AT_ONCE], *next[AT_ONCE];
};

/* Bytes of all rows of an edge, if they lie side by side. */
static int64_t bytes_side_by_side(const sa_messages *call, const sa_rows *o, int64_t n)
{
    return o->component > 0 && o->component == call->channels * o->channel ? n * o->component : 0;
}

static struct rows_of_edges rows_of_edges(const sa_messages *call, int operand, int32_t n, REAL *copy, int64_t width)
{
    const sa_rows *const o = &call->rows_of[operand];
    const int64_t size = sizeof(REAL), bytes = bytes_side_by_side(call, o, n);
    const int here = in_place(call, o, size);
    const int64_t step = here ? o->component / size : width;
    return (struct rows_of_edges){.rows = o, .n = n, .in_place = here, .step = step, .bytes = bytes, .copy = copy};
}

/* Finds the rows of one of the edges, and copies them if need be. */
INLINE REAL *rows_of_edge(const struct rows_of_edges *r, int edge, int64_t channels)
{
    const char *from = r->at[edge];
    if (r->in_place)
        return (REAL *)from;
    REAL *const copy = r->copy + edge * r->n * r->step;
    for (int32_t m = 0; m < r->n; m++, from += r->rows->component)
        read(r->rows->dtype, from, r->rows->channel, copy + m * r->step, channels);
    return copy;
}

/* Finished rows to memory; where they have one number for all channels, it is the sum over them. */
static void give(const sa_rows *o, int64_t row, int64_t n, int64_t channels, const REAL *from, int64_t width,
                 int past_cache)
{
    char *to = o->data + row * o->row;
    for (int64_t m = 0; m < n; m++, to += o->component, from += width) {
        REAL sum = 0;
        if (o->channel)
            copy_out(o->dtype, from, to, o->channel, channels, past_cache);
        else {
            for (int64_t c = 0; c < channels; c++)
                sum += from[c];
            write(o->dtype, &sum, to, 0, 1);
        }
    }
}
#endif
