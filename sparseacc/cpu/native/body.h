/* The kernel, for one instruction set SA_ISA and one computation type REAL. A tile of `height` rows is gathered into
 * columns that stay in the L1 cache, the program runs over the columns with rows along the vector lanes, and finished
 * columns are written back. Columns that lie in memory as vectors already are read and written there. Every row goes
 * through the same arithmetic in its own lane, also in an incomplete tile. Some programs have ways past the tile. */
#ifndef SPARSEACC_BODY_H
#define SPARSEACC_BODY_H
#include "contraction.h"
#include "in_place.h"
#include "layout.h"
#include "lines.h"
#include "plan.h"
#include "rows.h"
#include "sparseacc.h"
#include "tile.h"
#include "tiles.h"
#include "tuning.h"
#include <stdlib.h>
#include <string.h>

static struct plan planned(const sa_batch *batch)
{
    const sa_program *p = batch->program;
    struct plan plan = {.height = MOST_ROWS};
    int64_t outputs = 0, rows = 1, lines = 0;
    for (int o = 0; o < p->n_inputs; o++)
        plan.inputs += p->columns[o];
    for (int o = p->n_inputs; o < p->n_inputs + p->n_outputs; o++)
        outputs += p->columns[o];
    for (int64_t d = 0; d < batch->ndim; d++)
        rows *= batch->shape[d];
    plan.sums = p->contraction ? outputs : 0;
    plan.columns = plan.inputs + 1 + (p->contraction ? 0 : outputs); /* one to spare */
    const int vectors = batch->shape[batch->ndim - 1] >= SHORT * LANES;
    int in_place = vectors;
    for (int o = 0; vectors && o < p->n_inputs + p->n_outputs; o++) {
        plan.one_segment |= lies_in_vectors(batch, o);
        in_place &= lies_in_vectors(batch, o) && (o < p->n_inputs || p->complete[o]);
    }
    /* A tile takes a part of the L1 cache, or all of it where columns are used in place; or more, as shorter columns
     * cost more than the L1 cache saves. */
    const int64_t l1 = sa_l1_bytes(), enough = plan.one_segment ? l1 : l1 * TILE_EIGHTHS / 8;
    const int64_t most = plan.one_segment ? l1 * 2 : l1;
    while (plan.height > LANES && (plan.height / 2 >= rows || plan.columns * plan.height * (int64_t)sizeof(REAL) >
                                                                  (plan.height > SHORT * LANES ? enough : most)))
        plan.height /= 2;
    const int64_t bytes = rows * (plan.inputs + outputs) * stored_size(p, 0);
    plan.ahead = bytes > AHEAD;
    plan.past_cache = bytes > PAST_CACHE;
    plan.straight_columns = straight_columns_for(p->straight);
    plan.staged = plan.past_cache && plan.straight_columns && sizeof(VEC) < SA_LINE && outputs > PUT_TOGETHER;
    plan.straight_rows = in_whole_rows(batch) ? straight_rows_for(p->straight) : 0;
    if (plan.straight_rows)
        plan.height = LANES; /* no tile, but an incomplete block */
    plan.segments = plan.one_segment || batch->ndim == 1 ? 1 : plan.height < rows ? plan.height : rows;
    plan.way = run_tiles;
    if (p->contraction)
        plan.way = run_contraction;
    else if (plan.straight_rows)
        plan.way = run_straight_rows;
    else if (plan.straight_columns && in_place)
        plan.way = run_straight_columns;
    else if (plan.past_cache && goes_in_lines(batch) && rows >= rows_of_lines(p) * ACROSS) {
        plan.way = run_lines;
        lines = numbers_for_lines(p);
    }
    plan.numbers = plan.columns * plan.height + plan.sums * LANES + lines;
    return plan;
}

int PASTE(sa_, SA_ISA, _, REAL)(const sa_batch *batch, int64_t first, int64_t last)
{
    const struct plan plan = planned(batch);
    const size_t inputs = (size_t)(plan.inputs * plan.height) * sizeof(REAL);
    const size_t numbers = (size_t)plan.numbers * sizeof(REAL);
    const size_t bytes = numbers + (size_t)bytes_of_tiles(batch->program, plan.segments);
    char on_stack[ON_STACK] __attribute__((aligned(64))), *memory = on_stack;
    if (bytes > sizeof on_stack && posix_memalign((void **)&memory, 64, bytes))
        return SA_NO_MEMORY;
    if (!plan.straight_rows)
        memset(memory + inputs, 0, numbers - inputs);
    for (int64_t part = first; part < last; part++) {
        struct walk walk;
        start(&walk, batch, part);
        plan.way(batch, &plan, &walk, (REAL *)memory);
    }
    if (plan.past_cache)
        STREAM_END();
    if (memory != on_stack)
        free(memory);
    return SA_OK;
}
#endif
