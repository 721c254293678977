/* Message passing, for one instruction set SA_ISA and one computation type REAL: for every edge the arithmetic of
 * edges.h, on rows where the caller has them, or copied to memory of the thread's own. Edges come in blocks of rows of
 * what they add to, and a few are computed at once; the rows of a block are summed in that memory, each in the order of its
 * edges, and of their paths where edges that are computed at once add to one row. */
#ifndef SPARSEACC_MESSAGES_H
#define SPARSEACC_MESSAGES_H
#include "task.h"
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

/* The matrices of the LANES edges from a place on, side by side. */
static void contract_edges(const sa_messages *call, const sa_rows *y, int64_t first, int64_t end,
                           const struct desk *desk, REAL *a)
{
    const int real = is_real(y);
    const int32_t n2 = call->matrix->n2;
    for (int lane = 0; lane < LANES; lane++) {
        const char *from = row_of(y, edge_or_last(call, first + lane, end));
        REAL *to = desk->y + lane;
        if (real)
            for (int32_t m = 0; m < n2; m++, from += y->component, to += LANES)
                memcpy(to, from, sizeof(REAL));
        else
            for (int32_t m = 0; m < n2; m++, from += y->component, to += LANES)
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

/* Where the sums of an edge's row of the target are, in a block that begins with a row; of no use where there are none. */
static REAL *sums_of(const struct task *t, int64_t edge, int64_t first_row)
{
    const sa_rows *const target = t->target;
    const int64_t row = target->index ? target->index[edge] : edge;
    return t->desk->sum + (row - first_row) * t->sums_of_row;
}

/* Chooses which of the edges from a place on are computed at once. What is added to a row, and in which order, depends on
 * the edges of that row alone: blocks of senders have many rows, so that no two edges of a sender are among them. */
static void choose_edges(struct task *t, int64_t place, int64_t end, int64_t first_row)
{
    const int to_senders = t->call->pass == SA_TO_SENDERS;
    t->edges = 0;
    for (int e = 0; e < AT_ONCE && place + e < end; e++) {
        int met = 0;
        t->edge[e] = edge_at(t->call, place + e);
        t->sums[e] = sums_of(t, t->edge[e], first_row);
        for (int before = 0; to_senders && before < e; before++)
            met |= t->sums[before] == t->sums[e];
        if (met)
            return;
        t->edges++;
    }
}

/* Finds the column of the matrices of the edge at a place: those of LANES places are contracted side by side, wherever parts
 * and blocks begin. Edges that are computed at once are at no more than AT_ONCE times LANES places, whose matrices are kept. */
static int64_t column_of(struct task *t, int64_t place)
{
    const sa_messages *const call = t->call;
    const struct desk *const desk = t->desk;
    const sa_rows *const y = &call->rows_of[SA_Y], *const zy = &call->rows_of[SA_ZY];
    const int64_t side_by_side = place / LANES, first = side_by_side * LANES;
    const int64_t at = side_by_side % AT_ONCE * call->matrix->entries * LANES;
    if (t->contracted != side_by_side) {
        if (y->data)
            contract_edges(call, y, first, t->end, desk, desk->a[0] + at);
        if (zy->data)
            contract_edges(call, zy, first, t->end, desk, desk->a[1] + at);
        t->contracted = side_by_side;
    }
    return at + place - first;
}

/* Plans to fetch the rows of the edges from a place on ahead, but those that the edge before has as well. */
static void begin_ahead(struct task *t, int64_t place)
{
    sa_ahead_clear(&t->ahead);
    for (int e = 0; e < t->edges; e++) {
        for (int i = 0; i < t->reads; i++) {
            const struct rows_of_edges *const r = &t->rows[t->read[i]];
            if (r->next[e] != (e ? r->next[e - 1] : r->at[t->edges - 1]))
                sa_ahead_add(&t->ahead, r->next[e], r->bytes);
        }
        if (t->dw_ahead)
            sa_ahead_add(&t->ahead, row_of(&t->call->rows_of[SA_DW], edge_or_last(t->call, place + e, t->end)),
                         t->dw_ahead);
    }
}

/* Begins with some edges from a place on, of a block that begins with a row of the target, and returns how many. */
static int begin_edges(struct task *t, int64_t place, int64_t end, int64_t first_row)
{
    const sa_messages *const call = t->call;
    const struct desk *const desk = t->desk;
    const sa_rows *const dw = &call->rows_of[SA_DW];
    const int64_t entries = (int64_t)call->matrix->entries * LANES;
    const int to_result = call->pass == SA_TO_RECEIVERS, to_weights = call->pass == SA_TO_WEIGHTS;
    REAL *at[READS] = {0};
    choose_edges(t, place, end, first_row);
    for (int i = 0; i < t->reads; i++)
        memcpy(t->rows[t->read[i]].at, t->rows[t->read[i]].next, sizeof t->rows[0].at);
    for (int e = 0; e < t->edges; e++) {
        const int64_t column = t->apart ? e * entries : column_of(t, place + e);
        for (int i = 0; i < t->reads; i++)
            at[t->read[i]] = rows_of_edge(&t->rows[t->read[i]], e, call->channels);
        for (int i = 0; i < t->products; i++) {
            struct product *const p = &t->product[i];
            p->edges[e] = (struct edge){
                .a = desk->a[p->by_zy] + column,
                .w = at[p->w],
                .da = desk->da + e * entries,
                .dw = to_weights       ? t->sums[e]
                      : t->dw_in_place ? (REAL *)(dw->data + t->edge[e] * dw->row)
                                       : desk->dw + e * call->matrix->paths * desk->width,
                .x = at[p->x],
                .dx = t->sums[e],
                .out = to_result ? t->sums[e] : at[READ_DOUT],
            };
        }
    }
    find_next(t, place + t->edges);
    begin_ahead(t, place + t->edges);
    return t->edges;
}

/* Contracts y for a vector of channels of each edge. */
static void begin_channels(const struct task *t, int64_t channel)
{
    const struct desk *const desk = t->desk;
    const int64_t entries = (int64_t)t->call->matrix->entries * LANES;
    const sa_rows *const y = &t->call->rows_of[SA_Y], *const zy = &t->call->rows_of[SA_ZY];
    for (int e = 0; e < t->edges; e++) {
        if (y->data)
            contract_channels(t->call, y, t->edge[e], channel, desk, desk->a[0] + e * entries);
        if (zy->data)
            contract_channels(t->call, zy, t->edge[e], channel, desk, desk->a[1] + e * entries);
    }
}

/* Gives the gradient of y by some channels to each edge's row, or to the sums of a block, and begins it anew. */
static void end_of_y(const struct task *t, int64_t channel)
{
    const sa_messages *const call = t->call;
    const struct desk *const desk = t->desk;
    const int64_t entries = (int64_t)call->matrix->entries * LANES;
    for (int e = 0; e < t->edges; e++) {
        gradient_of_y(call->matrix, desk->da + e * entries, desk->dy);
        if (call->pass == SA_TO_Y)
            for (int32_t m = 0; m < call->matrix->n2; m++)
                *(VEC *)(t->sums[e] + m * desk->width + channel) += *(const VEC *)(desk->dy + (int64_t)m * LANES);
        else if (t->apart)
            give_channels_of_y(call, t->edge[e], channel, desk);
        else
            give_gradient_of_y(call, t->edge[e], desk);
    }
    memset(desk->da, 0, (size_t)(t->edges * entries) * sizeof(REAL));
}

/* The arithmetic of these edges, and what they give to rows of their own. */
static void pass_edges(struct task *t)
{
    const sa_messages *const call = t->call;
    const struct desk *const desk = t->desk;
    const sa_matrix *const m = call->matrix;
    struct turn turn = {.edges = t->edges, .bursts = t->bursts, .ahead = &t->ahead};
    for (int step = 0; turn.channel < desk->width; turn.channel = turn.end, step += !t->apart) {
        turn.end = turn.channel + t->vectors[step] * LANES;
        if (t->apart)
            begin_channels(t, turn.channel);
        for (int i = 0; i < t->products; i++) {
            const struct product *const p = &t->product[i];
            for (const struct planned_path *path = p->paths; path < p->paths + m->code[0]; path++)
                path->kernel[step](p->edges, path, &turn, p->wanted);
        }
        if (t->apart && t->of_y)
            end_of_y(t, turn.channel);
    }
    if (t->of_y && !t->apart)
        end_of_y(t, 0);
    for (int e = 0; t->of_w && !t->dw_in_place && e < t->edges; e++)
        give(&call->rows_of[SA_DW], t->edge[e], m->paths, call->channels, desk->dw + e * m->paths * desk->width,
             desk->width, call->past_cache);
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
    struct task task;
    begin_task(&task, call, &desk, call->begin[first], call->begin[last]);
    for (int64_t block = first, place = call->begin[first]; block < last; block++) {
        memset(desk.sum, 0, (size_t)desk.sums * sizeof(REAL));
        while (place < call->begin[block + 1]) {
            place += begin_edges(&task, place, call->begin[block + 1], block * each);
            pass_edges(&task);
        }
        for (int64_t r = 0; rows && r < each && block * each + r < call->rows; r++)
            give(task.target, block * each + r, rows, call->channels, desk.sum + r * rows * desk.width, desk.width,
                 call->past_cache);
    }
    if (call->past_cache)
        STREAM_END();
    free(memory);
    return SA_OK;
}
#endif
