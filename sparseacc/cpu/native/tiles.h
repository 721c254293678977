/* Rows gathered into the columns of a tile, computed there, and finished columns scattered. */
#ifndef SPARSEACC_TILES_H
#define SPARSEACC_TILES_H
#include "couplings.h"
#include "load.h"
#include "plan.h"
#include "product.h"
#include "store.h"
#include "tile.h"

static void run_tiles(const sa_batch *batch, const struct plan *plan, struct walk *walk, REAL *numbers)
{
    const sa_program *p = batch->program;
    const int operands = p->n_inputs + p->n_outputs;
    REAL *const to_spare = numbers + plan->inputs * plan->height, *const outputs = to_spare + plan->height;
    struct view views[SA_MAX_OPERANDS + 1];
    struct sa_ahead ahead;
    struct tile tiles[3];
    first_tiles(walk, batch, plan, numbers, tiles);
    for (int64_t t = 0; tiles[t % 3].rows; t++) {
        const struct tile *tile = &tiles[t % 3];
        next_tile(walk, batch, plan, &tiles[(t + 2) % 3]);
        inputs(batch, tile, numbers, plan, views);
        look_ahead(batch, plan, &tiles[(t + 2) % 3], operands, &ahead);
        REAL *column = outputs;
        for (int o = p->n_inputs; o < operands; column += p->columns[o++] * plan->height)
            views[o] = output(batch, o, tile, column, plan);
        views[operands] = (struct view){(char *)to_spare, 0, 1, 0};
        if (plan->straight_columns)
            plan->straight_columns(views, tile->rows, p->coef, &ahead,
                                   sa_ahead_each(&ahead, (tile->rows + LANES - 1) / LANES));
        else if (by_couplings(p))
            all_couplings(p, views, tile->rows, &ahead);
        else
            (p->outer ? all_weighted : all_outputs)((struct program){p->code, p->coef}, views, operands + 1, tile->rows,
                                                    &ahead);
        column = outputs;
        for (int o = p->n_inputs; o < operands; column += p->columns[o++] * plan->height)
            if (views[o].base == (char *)column)
                scatter(batch, o, tile, column, plan->height, plan->past_cache);
    }
}
#endif
