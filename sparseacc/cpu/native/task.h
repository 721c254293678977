/* What a thread plans for a part of a call of message passing, before the first edge: the products, the rows that they read
 * and write, and for each path its function and where its rows are. */
#ifndef SPARSEACC_TASK_H
#define SPARSEACC_TASK_H
#include "desk.h"
#include "paths.h"

/* Which rows a product of an edge reads. */
enum { READ_X, READ_W, READ_DOUT, READ_ZX, READ_ZW, READS };

/* A product that a call's part is made of: what is wanted of it, which rows it reads, and all that its kernels need. */
struct product {
    int wanted, x, w, by_zy;
    struct planned_path *paths;
    struct edge edges[AT_ONCE];
};

/* What a part of a call does with its edges: the products that it is the sum of, as far as anything is wanted of them; the
 * rows that any of them reads; and where sums go. Steps take the channels: those of as many vectors as registers hold, and
 * what is left of them; or a vector of channels, where y has channels. */
struct task {
    const sa_messages *call;
    const struct desk *desk;
    const sa_rows *target;
    int apart, of_y, of_w, dw_in_place, steps, products, reads, read[READS];
    int64_t end, bursts, dw_ahead, vectors[STEPS], step_of_dw, sums_of_row;
    struct product product[PRODUCTS];
    struct rows_of_edges rows[READS];
    /* The edges that are computed, where their sums go, and which LANES places were contracted last, -1: none. */
    int edges;
    int64_t edge[AT_ONCE], contracted;
    REAL *sums[AT_ONCE];
    struct sa_ahead ahead;
};

static const sa_rows *target_of(const sa_messages *call)
{
    return &call->rows_of[call->pass == SA_TO_RECEIVERS ? SA_OUT
                          : call->pass == SA_TO_SENDERS ? SA_DX
                          : call->pass == SA_TO_Y       ? SA_DY
                                                        : SA_DW];
}

/* Finds the products of a pass. */
static void begin_products(struct task *t)
{
    const sa_messages *const call = t->call;
    const int to_result = call->pass == SA_TO_RECEIVERS, of_all = OF_X | OF_Y | OF_W;
    const int along_x = call->rows_of[SA_ZX].data != 0, along_y = call->rows_of[SA_ZY].data != 0;
    const int along_w = call->rows_of[SA_ZW].data != 0, along = along_x | along_y | along_w;
    const int of[] = {along ? 0 : of_all, along_x ? OF_Y | OF_W : 0, along_y ? OF_X | OF_W : 0,
                      along_w ? OF_X | OF_Y : 0};
    for (int i = 0; i < 4; i++) {
        const int wanted = to_result ? RESULT : of[i] & call->wanted;
        if (!of[i] || (!to_result && !wanted))
            continue;
        t->product[t->products++] = (struct product){
            .wanted = wanted,
            .x = of[i] == (OF_Y | OF_W) ? READ_ZX : READ_X,
            .w = of[i] == (OF_X | OF_Y) ? READ_ZW : READ_W,
            .by_zy = of[i] == (OF_X | OF_W),
        };
    }
}

/* Finds what is read. */
static void begin_rows(struct task *t)
{
    const struct desk *const desk = t->desk;
    const sa_matrix *const m = t->call->matrix;
    const int operands[] = {SA_X, SA_W, SA_DOUT, SA_ZX, SA_ZW};
    const int32_t n[] = {m->n1, m->paths, m->n_out, m->n1, m->paths};
    REAL *const copies[] = {desk->x, desk->w, desk->dout, desk->zx, desk->zw};
    int has[READS] = {[READ_DOUT] = t->call->pass != SA_TO_RECEIVERS};
    for (int i = 0; i < t->products; i++)
        has[t->product[i].x] = has[t->product[i].w] = 1;
    for (int i = 0; i < READS; i++)
        if (has[i]) {
            t->rows[i] = rows_of_edges(t->call, operands[i], n[i], copies[i], desk->width);
            t->read[t->reads++] = i;
        }
}

/* Chooses how dw is written: to its place at once if all of it is written, once, and past the caches by whole lines. */
static void begin_dw(struct task *t)
{
    const sa_messages *const call = t->call;
    const sa_matrix *const m = call->matrix;
    const sa_rows *const dw = &call->rows_of[SA_DW];
    int products_of_w = 0;
    for (int i = 0; i < t->products; i++)
        products_of_w += t->of_w && t->product[i].wanted & OF_W;
    t->dw_in_place = products_of_w == 1 && m->code[0] == m->paths && in_place(call, dw, sizeof(REAL)) &&
                     (!call->past_cache || (!t->apart && in_place(call, dw, SA_LINE)));
    t->dw_ahead = t->dw_in_place && !call->past_cache ? bytes_side_by_side(call, dw, m->paths) : 0;
    t->step_of_dw = t->dw_in_place ? dw->component / (int64_t)sizeof(REAL) : t->desk->width;
}

/* Plans the steps, which are the same for all products, and the paths of each product. */
static void begin_paths(struct task *t)
{
    const sa_messages *const call = t->call;
    const struct desk *const desk = t->desk;
    const sa_matrix *const m = call->matrix;
    const int to_result = call->pass == SA_TO_RECEIVERS, past_cache = t->dw_in_place && call->past_cache;
    int first = t->of_w;
    for (int64_t left = desk->width / LANES; left > 0 && (t->steps == 0 || !t->apart); t->steps++)
        left -= t->vectors[t->steps] = kernels_for(left, !t->apart, RESULT).vectors;
    for (int i = 0; i < t->products; i++) {
        struct product *const p = &t->product[i];
        const int64_t x = t->rows[p->x].step, w = t->rows[p->w].step;
        const int64_t out = to_result ? desk->width : t->rows[READ_DOUT].step;
        const int32_t *head = m->code + 1;
        p->paths = desk->paths + (int64_t)i * m->code[0];
        for (struct planned_path *path = p->paths; path < p->paths + m->code[0]; path++, head += HEAD) {
            *path = (struct planned_path){
                .shape = m->code + head[SHAPE],
                .entry = (int64_t)head[FIRST_ENTRY] * LANES,
                .w = head[PATH] * w,
                .dw = head[PATH] * t->step_of_dw,
                .x = head[FIRST_M1] * x,
                .dx = head[FIRST_M1] * desk->width,
                .out = head[FIRST_MU] * out,
                .step_of_x = head[STEP_OF_M1] * x,
                .step_of_dx = head[STEP_OF_M1] * desk->width,
                .step_of_out = head[STEP_OF_MU] * out,
                .how_to_dw = !first       ? ADDED
                             : past_cache ? WRITTEN_PAST_CACHE
                                          : WRITTEN,
            };
            int64_t left = desk->width / LANES;
            for (int step = 0; step < t->steps; left -= t->vectors[step++])
                path->kernel[step] = kernel_of_path(kernels_for(left, !t->apart, p->wanted), head);
        }
        first = first && !(p->wanted & OF_W);
    }
}

/* Finds the rows of the edges from a place on. */
static void find_next(struct task *t, int64_t place)
{
    for (int i = 0; i < t->reads; i++) {
        struct rows_of_edges *const r = &t->rows[t->read[i]];
        for (int e = 0; e < AT_ONCE; e++)
            r->next[e] = row_of(r->rows, edge_or_last(t->call, place + e, t->end));
    }
}

/* Plans a part, whose edges are those from a place on to an end. */
static void begin_task(struct task *t, const sa_messages *call, const struct desk *desk, int64_t place, int64_t end)
{
    const int64_t paths = call->matrix->code[0], vectors = desk->width / LANES;
    const int to_result = call->pass == SA_TO_RECEIVERS;
    *t = (struct task){.call = call, .desk = desk, .target = target_of(call), .end = end, .contracted = -1};
    t->sums_of_row = rows_to_sum(call) * desk->width;
    t->apart = call->rows_of[SA_Y].channel != 0;
    t->of_y = !to_result && call->wanted & OF_Y;
    t->of_w = !to_result && call->pass != SA_TO_WEIGHTS && call->wanted & OF_W;
    begin_products(t);
    begin_rows(t);
    begin_dw(t);
    begin_paths(t);
    int64_t bursts = sa_bursts(t->dw_ahead);
    for (int i = 0; i < t->reads; i++)
        bursts += sa_bursts(t->rows[t->read[i]].bytes);
    const int64_t kernels = paths * t->products * (t->apart ? vectors : t->steps);
    t->bursts = kernels ? (bursts + kernels - 1) / kernels : 0;
    if (place < end)
        find_next(t, place);
}
#endif
