/* Message passing, for one instruction set SA_ISA and one computation type REAL: for every edge the arithmetic of
 * edges.h, on rows where the caller has them, or copied to memory of the thread's own. Edges come in blocks of rows of
 * what they add to; the rows of a block are summed in that memory, each in the order of its edges. */
#ifndef SPARSEACC_MESSAGES_H
#define SPARSEACC_MESSAGES_H
#include "ahead.h"
#include "copy.h"
#include "edges.h"
#include "sparseacc.h"
#include <stdlib.h>
#include <string.h>

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

/* Rows of channels that edges read: how many, and whether they can be read where they are, or else where they are copied
 * to. `bytes` are those of a row of all of them, if they lie side by side. */
struct rows_of_edges {
    const sa_rows *rows;
    int32_t n, in_place;
    int64_t bytes, width;
    REAL *copy;
};

static struct rows_of_edges rows_of_edges(const sa_messages *call, int operand, int32_t n, REAL *copy, int64_t width)
{
    const sa_rows *const o = &call->rows_of[operand];
    const int64_t places = o->component | o->row | (int64_t)(uintptr_t)o->data;
    const int in_place =
        is_real(o) && o->channel == sizeof(REAL) && call->channels % LANES == 0 && places % (int64_t)sizeof(REAL) == 0;
    const int64_t bytes = o->component == call->channels * o->channel ? n * o->component : 0;
    return (struct rows_of_edges){o, n, in_place, bytes, width, copy};
}

static struct rows_at rows_of_edge(const struct rows_of_edges *r, int64_t edge, int64_t channels)
{
    const sa_rows *const o = r->rows;
    const char *from = row_of(o, edge);
    if (r->in_place)
        return (struct rows_at){(REAL *)from, o->component / (int64_t)sizeof(REAL)};
    for (int32_t m = 0; m < r->n; m++, from += o->component)
        read(o->dtype, from, o->channel, r->copy + m * r->width, channels);
    return (struct rows_at){r->copy, r->width};
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

/* A[k] = the sum of C y[m2] over the terms of entry k. */
static void contract_y(const sa_matrix *matrix, const REAL *y, REAL *a)
{
    const REAL *const coef = matrix->coef;
    for (int32_t k = 0; k < matrix->entries; k++) {
        VEC sum = {0};
        for (int32_t t = matrix->terms_of_entry[k]; t < matrix->terms_of_entry[k + 1]; t++)
            sum = FMA(SPREAD(coef[t]), *(const VEC *)(y + (int64_t)matrix->m2[t] * LANES), sum);
        *(VEC *)(a + (int64_t)k * LANES) = sum;
    }
}

/* Sums that are formed side by side, as an addition waits for the one before it in its sum. */
#define SUMS_AT_ONCE 4

/* The gradient of that: dy[m2] = the sum of C da[k]. */
static void gradient_of_y(const sa_matrix *matrix, const REAL *da, REAL *dy)
{
    const REAL *const coef = matrix->coef_of_m2;
    for (int32_t m = 0; m < matrix->n2; m++) {
        VEC sum[SUMS_AT_ONCE] = {{0}};
        int32_t t = matrix->terms_of_m2[m];
        const int32_t end = matrix->terms_of_m2[m + 1];
        for (; t + SUMS_AT_ONCE <= end; t += SUMS_AT_ONCE)
            UNROLL
        for (int i = 0; i < SUMS_AT_ONCE; i++)
            sum[i] = FMA(SPREAD(coef[t + i]), *(const VEC *)(da + (int64_t)matrix->entry[t + i] * LANES), sum[i]);
        for (; t < end; t++)
            sum[0] = FMA(SPREAD(coef[t]), *(const VEC *)(da + (int64_t)matrix->entry[t] * LANES), sum[0]);
        *(VEC *)(dy + (int64_t)m * LANES) = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    }
}

INLINE int64_t edge_at(const sa_messages *call, int64_t place)
{
    return call->order ? call->order[place] : place;
}

/* The matrices of n edges side by side. */
static void contract_edges(const sa_messages *call, const sa_rows *y, int64_t place, int64_t n, const struct desk *desk,
                           REAL *a)
{
    for (int lane = 0; lane < LANES; lane++) {
        const char *from = row_of(y, edge_at(call, place + (lane < n ? lane : 0)));
        REAL *to = desk->y + lane;
        for (int32_t m = 0; m < call->matrix->n2; m++, from += y->component, to += LANES)
            if (is_real(y))
                memcpy(to, from, sizeof(REAL));
            else
                read(y->dtype, from, 0, to, 1);
    }
    contract_y(call->matrix, desk->y, a);
}

/* The matrix of a vector of channels of one edge. */
static void contract_channels(const sa_messages *call, const sa_rows *y, int64_t edge, int64_t channel,
                              const struct desk *desk, REAL *a)
{
    const char *from = row_of(y, edge) + channel * y->channel;
    const int64_t left = call->channels - channel, n = left < LANES ? left : LANES;
    for (int32_t m = 0; m < call->matrix->n2; m++, from += y->component)
        read(y->dtype, from, y->channel, desk->y + (int64_t)m * LANES, n);
    contract_y(call->matrix, desk->y, a);
}

/* Which rows a product of an edge reads. */
enum { READ_X, READ_W, READ_DOUT, READ_ZX, READ_ZW, READS };

/* What is the same for all edges of a call: the products that an edge's part of it is the sum of, as far as anything is
 * wanted of them, and what; which rows and matrix they have, and the rows that any of them has. */
struct task {
    const sa_messages *call;
    const struct desk *desk;
    struct {
        int x, w, a, wanted;
    } product[3];
    struct rows_of_edges read[READS];
    int products, reads, is_read[READS];
    int64_t lines; /* to fetch ahead with each path */
};

static struct task task_of(const sa_messages *call, const struct desk *desk)
{
    const sa_matrix *m = call->matrix;
    const int to_result = call->pass == SA_TO_RECEIVERS, of_all = OF_X | OF_Y | OF_W;
    const int along_x = call->rows_of[SA_ZX].data != 0, along_y = call->rows_of[SA_ZY].data != 0;
    const int along_w = call->rows_of[SA_ZW].data != 0, along = along_x | along_y | along_w;
    const int of[] = {along ? 0 : of_all, along_x ? OF_Y | OF_W : 0, along_y ? OF_X | OF_W : 0,
                      along_w ? OF_X | OF_Y : 0};
    struct task t = {.call = call, .desk = desk};
    int has[READS] = {[READ_DOUT] = !to_result};
    for (int i = 0; i < 4; i++)
        if (of[i] & (to_result ? of_all : call->wanted)) {
            const int x = of[i] == (OF_Y | OF_W) ? READ_ZX : READ_X, w = of[i] == (OF_X | OF_Y) ? READ_ZW : READ_W;
            has[x] = has[w] = 1;
            t.product[t.products].x = x;
            t.product[t.products].w = w;
            t.product[t.products].a = of[i] == (OF_X | OF_W);
            t.product[t.products++].wanted = to_result ? RESULT : of[i] & call->wanted;
        }
    const int operands[] = {SA_X, SA_W, SA_DOUT, SA_ZX, SA_ZW};
    const int32_t n[] = {m->n1, m->paths, m->n_out, m->n1, m->paths};
    REAL *const copies[] = {desk->x, desk->w, desk->dout, desk->zx, desk->zw};
    struct sa_ahead each_edge;
    sa_ahead_clear(&each_edge);
    for (int i = 0; i < READS; i++)
        if (has[i]) {
            t.read[i] = rows_of_edges(call, operands[i], n[i], copies[i], desk->width);
            t.is_read[t.reads++] = i;
            sa_ahead_add(&each_edge, t.read[i].rows->data, t.read[i].bytes);
        }
    const int64_t chunk = call->rows_of[SA_Y].channel ? LANES : ACROSS_CHANNELS * LANES;
    t.lines = sa_ahead_each(&each_edge, m->code[0] * t.products * ((desk->width + chunk - 1) / chunk));
    return t;
}

static void give_gradient_of_y(const sa_messages *call, int64_t edge, const struct desk *desk)
{
    const sa_rows *const dy = &call->rows_of[SA_DY];
    char *to = dy->data + edge * dy->row;
    for (int32_t m = 0; m < call->matrix->n2; m++, to += dy->component) {
        REAL *const sum = desk->dy + (int64_t)m * LANES;
        UNROLL
        for (int half = LANES / 2; half > 0; half /= 2)
            UNROLL
        for (int lane = 0; lane < half; lane++)
            sum[lane] += sum[lane + half];
        if (is_real(dy))
            memcpy(to, sum, sizeof(REAL));
        else
            write(dy->dtype, sum, to, 0, 1);
    }
}

static void give_channels_of_y(const sa_messages *call, int64_t edge, int64_t channel, const struct desk *desk)
{
    const sa_rows *const dy = &call->rows_of[SA_DY];
    const int64_t left = call->channels - channel, n = left < LANES ? left : LANES;
    char *to = dy->data + edge * dy->row + channel * dy->channel;
    for (int32_t m = 0; m < call->matrix->n2; m++, to += dy->component)
        write(dy->dtype, desk->dy + (int64_t)m * LANES, to, dy->channel, n);
}

/* The gradient of y by some channels: to the edge's row, or to the sums of a block. */
static void end_of_y(const sa_messages *call, int64_t edge, int64_t channel, int apart, const struct desk *desk,
                     const struct rows_at sums)
{
    gradient_of_y(call->matrix, desk->da, desk->dy);
    if (call->pass == SA_TO_Y)
        for (int32_t m = 0; m < call->matrix->n2; m++)
            *(VEC *)(ROW(sums, m) + channel) += *(const VEC *)(desk->dy + (int64_t)m * LANES);
    else if (apart)
        give_channels_of_y(call, edge, channel, desk);
    else
        give_gradient_of_y(call, edge, desk);
}

/* One edge, whose matrices are in a lane of the desk if its y is the same for all channels. */
static void pass_edge(const struct task *t, int64_t edge, int lane, int64_t row_of_block, struct sa_ahead *ahead)
{
    const sa_messages *const call = t->call;
    const struct desk *const desk = t->desk;
    const sa_matrix *const m = call->matrix;
    const size_t entries = (size_t)m->entries * LANES * sizeof(REAL);
    const int of_y = call->pass != SA_TO_RECEIVERS && call->wanted & OF_Y, apart = call->rows_of[SA_Y].channel != 0;
    const int of_w = call->pass != SA_TO_WEIGHTS && call->wanted & OF_W;
    const struct rows_at sums = {desk->sum + row_of_block * rows_to_sum(call) * desk->width, desk->width};
    const struct rows_at dw = call->pass == SA_TO_WEIGHTS ? sums : (struct rows_at){desk->dw, desk->width};
    struct rows_at rows[READS];
    for (int i = 0; i < t->reads; i++)
        rows[t->is_read[i]] = rows_of_edge(&t->read[t->is_read[i]], edge, call->channels);
    if (of_w)
        memset(desk->dw, 0, (size_t)(m->paths * desk->width) * sizeof(REAL));
    if (of_y)
        memset(desk->da, 0, entries);
    for (int64_t c = 0; c < desk->width;) {
        int vectors = 1;
        if (apart && call->rows_of[SA_Y].data)
            contract_channels(call, &call->rows_of[SA_Y], edge, c, desk, desk->a[0]);
        if (apart && call->rows_of[SA_ZY].data)
            contract_channels(call, &call->rows_of[SA_ZY], edge, c, desk, desk->a[1]);
        for (int i = 0; i < t->products; i++) {
            const int wanted = t->product[i].wanted;
            const struct edge product = {
                .a = desk->a[t->product[i].a] + (apart ? 0 : lane),
                .da = desk->da,
                .x = rows[t->product[i].x],
                .w = rows[t->product[i].w],
                .out = wanted == RESULT ? sums : rows[READ_DOUT],
                .dx = sums,
                .dw = dw,
            };
            path_kernel *const kernel = kernel_for((desk->width - c) / LANES, !apart, wanted, &vectors);
            const int32_t *path = m->code + 1;
            for (int32_t paths = m->code[0]; paths > 0; paths--) {
                sa_ahead_fetch(ahead, t->lines);
                path = kernel(&product, path, c, wanted);
            }
        }
        if (apart && of_y) {
            end_of_y(call, edge, c, apart, desk, sums);
            memset(desk->da, 0, entries);
        }
        c += vectors * LANES;
    }
    if (of_y && !apart)
        end_of_y(call, edge, 0, apart, desk, sums);
    if (of_w)
        give(&call->rows_of[SA_DW], edge, m->paths, call->channels, desk->dw, desk->width, call->past_cache);
}

/* Notes what an edge reads from memory that the one before does not read, where its rows lie side by side. */
static void edge_ahead(const struct task *t, int64_t edge, int64_t before, struct sa_ahead *ahead)
{
    sa_ahead_clear(ahead);
    for (int i = 0; i < t->reads; i++) {
        const struct rows_of_edges *r = &t->read[t->is_read[i]];
        const char *at = row_of(r->rows, edge);
        if (at != row_of(r->rows, before))
            sa_ahead_add(ahead, at, r->bytes);
    }
}

int PASTE(sa_messages_, SA_ISA, _, REAL)(const void *of, int64_t first, int64_t last)
{
    const sa_messages *const call = of;
    struct desk desk;
    const int64_t numbers = desk_at(call, &desk, 0) - (REAL *)0;
    REAL *memory;
    if (numbers > INT64_MAX / 16 || posix_memalign((void **)&memory, 64, (size_t)numbers * sizeof(REAL) + 64))
        return SA_NO_MEMORY;
    desk_at(call, &desk, memory);
    memset(memory, 0, (size_t)numbers * sizeof(REAL));
    const int64_t each = call->rows_of_block, rows = rows_to_sum(call);
    const sa_rows *const target = call->pass == SA_TO_RECEIVERS ? &call->rows_of[SA_OUT]
                                  : call->pass == SA_TO_SENDERS ? &call->rows_of[SA_DX]
                                  : call->pass == SA_TO_Y       ? &call->rows_of[SA_DY]
                                                                : &call->rows_of[SA_DW];
    const struct task task = task_of(call, &desk);
    struct sa_ahead ahead;
    const int64_t begin = call->begin[first], end = call->begin[last];
    int64_t place = begin;
    for (int64_t block = first; block < last; block++) {
        memset(desk.sum, 0, (size_t)desk.sums * sizeof(REAL));
        for (; place < call->begin[block + 1]; place++) {
            const int lane = (int)((place - begin) % LANES);
            const int64_t edge = edge_at(call, place);
            if (lane == 0 && call->rows_of[SA_Y].data && !call->rows_of[SA_Y].channel)
                contract_edges(call, &call->rows_of[SA_Y], place, end - place, &desk, desk.a[0]);
            if (lane == 0 && call->rows_of[SA_ZY].data && !call->rows_of[SA_ZY].channel)
                contract_edges(call, &call->rows_of[SA_ZY], place, end - place, &desk, desk.a[1]);
            if (place + 1 < end)
                edge_ahead(&task, edge_at(call, place + 1), edge, &ahead);
            else
                sa_ahead_clear(&ahead);
            pass_edge(&task, edge, lane, rows ? (target->index ? target->index[edge] : edge) - block * each : 0,
                      &ahead);
        }
        for (int64_t r = 0; rows && r < each && block * each + r < call->rows; r++)
            give(target, block * each + r, rows, call->channels, desk.sum + r * rows * desk.width, desk.width,
                 call->past_cache);
    }
    if (call->past_cache)
        STREAM_END();
    free(memory);
    return SA_OK;
}
#endif
