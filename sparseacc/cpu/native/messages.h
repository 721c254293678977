/* Message passing, for one instruction set SA_ISA and one computation type REAL: for every edge the arithmetic of
 * edges.h, on rows where the caller has them, or copied to memory of the thread's own. Edges come in blocks of rows of
 * what they add to; the rows of a block are summed in that memory, each in the order of its edges. */
#ifndef SPARSEACC_MESSAGES_H
#define SPARSEACC_MESSAGES_H
#include "desk.h"
#include "paths.h"
#include <stdlib.h>
#include <string.h>

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

/* What a call does with each edge: the products that its part of the call is the sum of, as far as anything is wanted of
 * them, and what; the rows that any of them reads; and where sums go. Steps take the channels: those of as many vectors as
 * registers hold, and what is left of them; or a vector of channels, where y has channels. */
struct task {
    const sa_messages *call;
    const struct desk *desk;
    int apart, of_y, of_w, steps, dw_in_place;
    int products, reads, fetched; /* of the rows that are read, those of the next edge that are fetched already */
    int64_t ahead;                /* how many times LINES_AHEAD are fetched with each path */
    struct {
        struct edge edge;
        struct kernels kernels[3];
        const REAL *a;
        int wanted;
    } product[3];
    struct rows_of_edges rows[READS], *read[READS];
    struct rows_at sums, dw;
};

static void begin_task(struct task *t, const sa_messages *call, const struct desk *desk)
{
    const sa_matrix *m = call->matrix;
    const int to_result = call->pass == SA_TO_RECEIVERS, of_all = OF_X | OF_Y | OF_W;
    const int along_x = call->rows_of[SA_ZX].data != 0, along_y = call->rows_of[SA_ZY].data != 0;
    const int along_w = call->rows_of[SA_ZW].data != 0, along = along_x | along_y | along_w;
    const int of[] = {along ? 0 : of_all, along_x ? OF_Y | OF_W : 0, along_y ? OF_X | OF_W : 0,
                      along_w ? OF_X | OF_Y : 0};
    const sa_rows *const dw = &call->rows_of[SA_DW];
    int has[READS] = {[READ_DOUT] = !to_result}, of_w = 0;
    *t = (struct task){.call = call, .desk = desk, .sums = {desk->sum, desk->width}, .dw = {desk->dw, desk->width}};
    t->apart = call->rows_of[SA_Y].channel != 0;
    t->of_y = !to_result && call->wanted & OF_Y;
    t->of_w = !to_result && call->pass != SA_TO_WEIGHTS && call->wanted & OF_W;
    for (int i = 0; i < 4; i++)
        of_w += t->of_w && of[i] & OF_W;
    /* All of it is written, once; past the caches, by whole lines. */
    t->dw_in_place = of_w == 1 && m->code[0] == m->paths && in_place(call, dw, sizeof(REAL)) &&
                     (!call->past_cache || (!t->apart && in_place(call, dw, SA_LINE)));
    if (t->dw_in_place)
        t->dw.step = dw->component / (int64_t)sizeof(REAL);
    const int written = t->dw_in_place && call->past_cache ? WRITTEN_PAST_CACHE : WRITTEN;
    for (int i = 0, first = t->of_w; i < 4; i++) {
        const int wanted = to_result ? RESULT : of[i] & call->wanted;
        if (!of[i] || (!to_result && !wanted))
            continue;
        const int x = of[i] == (OF_Y | OF_W) ? READ_ZX : READ_X, w = of[i] == (OF_X | OF_Y) ? READ_ZW : READ_W;
        has[x] = has[w] = 1;
        t->product[t->products].wanted = wanted;
        t->product[t->products].a = desk->a[of[i] == (OF_X | OF_W)];
        t->product[t->products].edge = (struct edge){
            .code = m->code,
            .da = desk->da,
            .x = &t->rows[x].at,
            .w = &t->rows[w].at,
            .out = to_result ? &t->sums : &t->rows[READ_DOUT].at,
            .dx = &t->sums,
            .dw = call->pass == SA_TO_WEIGHTS ? &t->sums : &t->dw,
            .how_to_dw = first ? written : ADDED,
        };
        first = first && !(wanted & OF_W);
        t->steps = 0;
        for (int64_t left = desk->width / LANES; left > 0 && (t->steps == 0 || !t->apart); t->steps++) {
            const struct kernels k = kernels_for(left, !t->apart, wanted);
            t->product[t->products].kernels[t->steps] = k;
            left -= k.vectors;
        }
        t->products++;
    }
    if (!t->products) /* zeros are given */
        t->product[0].kernels[0] = (struct kernels){.vectors = t->apart ? 1 : desk->width / LANES};
    const int operands[] = {SA_X, SA_W, SA_DOUT, SA_ZX, SA_ZW};
    const int32_t n[] = {m->n1, m->paths, m->n_out, m->n1, m->paths};
    REAL *const copies[] = {desk->x, desk->w, desk->dout, desk->zx, desk->zw};
    for (int i = 0; i < READS; i++)
        if (has[i]) {
            t->rows[i] = rows_of_edges(call, operands[i], n[i], copies[i], desk->width);
            t->read[t->reads++] = &t->rows[i];
            t->ahead += (t->rows[i].bytes + BYTES_AHEAD - 1) / BYTES_AHEAD;
        }
    const int64_t turns = (int64_t)m->code[0] * t->products * (t->apart ? desk->width / LANES : t->steps);
    t->ahead = turns ? (t->ahead + turns - 1) / turns : 0;
}

/* The next edge becomes this one: finds where its rows are, or copies them, and finds those of the edge after it. */
static void next_edge(struct task *t, int64_t next)
{
    t->fetched = 0;
    for (int i = 0; i < t->reads; i++) {
        struct rows_of_edges *const r = t->read[i];
        r->here = r->next;
        r->next = r->ahead = row_of(r->rows, next);
        r->end = r->next + (r->next == r->here ? 0 : r->bytes);
        if (r->in_place)
            r->at.at = (REAL *)r->here;
        else
            copy_rows(r, t->call->channels);
    }
}

/* Fetches some lines of the next edge's rows: all as one burst would fill the processor's queue of outstanding lines. */
INLINE void fetch_ahead(struct task *t)
{
    for (int64_t left = t->ahead; left > 0 && t->fetched < t->reads; left--) {
        struct rows_of_edges *const r = t->read[t->fetched];
        UNROLL
        for (int i = 0; i < LINES_AHEAD; i++)
            __builtin_prefetch(r->ahead + i * SA_LINE, 0, 2);
        r->ahead += BYTES_AHEAD;
        t->fetched += r->ahead >= r->end;
    }
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
static void pass_edge(struct task *t, int64_t edge, int lane)
{
    const sa_messages *const call = t->call;
    const struct desk *const desk = t->desk;
    const sa_matrix *const m = call->matrix;
    const size_t entries = (size_t)m->entries * LANES * sizeof(REAL);
    const sa_rows *const dw = &call->rows_of[SA_DW];
    if (t->dw_in_place)
        t->dw.at = (REAL *)(dw->data + edge * dw->row);
    if (t->of_y)
        memset(desk->da, 0, entries);
    for (int64_t c = 0, end, step = 0; c < desk->width; c = end, step += !t->apart) {
        end = c + t->product[0].kernels[step].vectors * LANES;
        if (t->apart && call->rows_of[SA_Y].data)
            contract_channels(call, &call->rows_of[SA_Y], edge, c, desk, desk->a[0]);
        if (t->apart && call->rows_of[SA_ZY].data)
            contract_channels(call, &call->rows_of[SA_ZY], edge, c, desk, desk->a[1]);
        for (int i = 0; i < t->products; i++) {
            struct edge *const product = &t->product[i].edge;
            const struct kernels *const k = &t->product[i].kernels[step];
            product->a = t->product[i].a + lane;
            const int32_t *head = m->code + 1;
            for (int32_t paths = m->code[0]; paths > 0; paths--, head += HEAD) {
                fetch_ahead(t);
                kernel_of_path(k, head)(product, head, c, end, t->product[i].wanted);
            }
        }
        if (t->apart && t->of_y) {
            end_of_y(call, edge, c, t->apart, desk, t->sums);
            memset(desk->da, 0, entries);
        }
    }
    if (t->of_y && !t->apart)
        end_of_y(call, edge, 0, t->apart, desk, t->sums);
    if (t->of_w && !t->dw_in_place)
        give(dw, edge, m->paths, call->channels, desk->dw, desk->width, call->past_cache);
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
    struct task task;
    begin_task(&task, call, &desk);
    const int64_t begin = call->begin[first], end = call->begin[last];
    int64_t place = begin, edge = begin < end ? edge_at(call, begin) : 0;
    for (int i = 0; begin < end && i < task.reads; i++)
        task.read[i]->next = row_of(task.read[i]->rows, edge);
    for (int64_t block = first; block < last; block++) {
        memset(desk.sum, 0, (size_t)desk.sums * sizeof(REAL));
        for (; place < call->begin[block + 1]; place++) {
            const int lane = (int)((place - begin) % LANES);
            if (lane == 0 && call->rows_of[SA_Y].data && !call->rows_of[SA_Y].channel)
                contract_edges(call, &call->rows_of[SA_Y], place, end - place, &desk, desk.a[0]);
            if (lane == 0 && call->rows_of[SA_ZY].data && !call->rows_of[SA_ZY].channel)
                contract_edges(call, &call->rows_of[SA_ZY], place, end - place, &desk, desk.a[1]);
            const int64_t next = place + 1 < end ? edge_at(call, place + 1) : edge;
            next_edge(&task, next);
            if (rows)
                task.sums.at =
                    desk.sum + ((target->index ? target->index[edge] : edge) - block * each) * rows * desk.width;
            pass_edge(&task, edge, task.apart ? 0 : lane);
            edge = next;
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
