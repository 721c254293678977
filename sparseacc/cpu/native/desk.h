/* Where a thread that passes messages has its numbers: rows of edges in the caller's arrays, or copied to memory of the
 * thread's own, where sums are as well. */
#ifndef SPARSEACC_DESK_H
#define SPARSEACC_DESK_H
#include "ahead.h"
#include "copy.h"
#include "edges.h"
#include "sparseacc.h"

/* Memory of a thread's own: rows of `width` numbers, which are whole vectors, and columns of LANES numbers. */
struct desk {
    int64_t width, sums;
    REAL *x, *zx, *w, *zw, *dout, *dw, *sum; /* rows; the sums are those of a block */
    REAL *y, *dy, *a[2], *da;                /* columns: of y, and of entries of the matrices by y and by zy */
};

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
    const int64_t rows[] = {m->n1, m->n1, m->paths, m->paths, m->n_out, m->paths};
    REAL **const of_columns[] = {&desk->y, &desk->dy, &desk->a[0], &desk->a[1], &desk->da};
    const int64_t columns[] = {m->n2, m->n2, m->entries, m->entries, m->entries};
    for (int i = 0; i < 6; at += rows[i++] * width)
        *of_rows[i] = at;
    for (int i = 0; i < 5; at += columns[i++] * LANES)
        *of_columns[i] = at;
    desk->sum = at;
    return at + desk->sums;
}

INLINE char *row_of(const sa_rows *o, int64_t edge)
{
    return o->data + (o->index ? o->index[edge] : edge) * o->row;
}

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

/* Lines that are fetched ahead at a time. */
enum { LINES_AHEAD = 4, BYTES_AHEAD = LINES_AHEAD * SA_LINE };

/* Rows of channels that edges read: how many, whether they can be read where they are, or else where they are copied to,
 * and where those of an edge and of the next one are, with what is still to be fetched of these. `bytes` are those of a row
 * of all of them, if they lie side by side. */
struct rows_of_edges {
    const sa_rows *rows;
    int32_t n, in_place;
    int64_t bytes;
    const char *here, *next, *ahead, *end;
    struct rows_at copy, at;
};

static struct rows_of_edges rows_of_edges(const sa_messages *call, int operand, int32_t n, REAL *copy, int64_t width)
{
    const sa_rows *const o = &call->rows_of[operand];
    const int64_t bytes = o->component == call->channels * o->channel ? n * o->component : 0, size = sizeof(REAL);
    const int here = in_place(call, o, size);
    const struct rows_at at = {copy, here ? o->component / size : width};
    return (struct rows_of_edges){.rows = o, .n = n, .in_place = here, .bytes = bytes, .copy = {copy, width}, .at = at};
}

static void copy_rows(struct rows_of_edges *r, int64_t channels)
{
    const char *from = r->here;
    for (int32_t m = 0; m < r->n; m++, from += r->rows->component)
        read(r->rows->dtype, from, r->rows->channel, ROW(r->copy, m), channels);
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
