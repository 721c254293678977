/* Columns in place by straight-line code. */
#ifndef SPARSEACC_IN_PLACE_H
#define SPARSEACC_IN_PLACE_H
#include "copy.h"
#include "plan.h"
#include "tile.h"
#include "tiles.h"
#include "walk.h"

struct piece {
    int64_t rows;
    char *data[SA_MAX_OPERANDS];
};

/* There is little to do for each piece. Rows that are no whole vectors go in tiles. */
static void run_straight_columns(const sa_batch *batch, const struct plan *plan, struct walk *walk, REAL *numbers)
{
    const sa_program *p = batch->program;
    const int operands = p->n_inputs + p->n_outputs;
    const int64_t last = batch->ndim - 1;
    if ((walk->end[last] - walk->begin[last]) % LANES) {
        run_tiles(batch, plan, walk, numbers);
        return;
    }
    struct view views[SA_MAX_OPERANDS];
    struct sa_ahead ahead;
    int staged[SA_MAX_OPERANDS];
    for (int o = 0; o < operands; o++) {
        const sa_operand *operand = &batch->operand[o];
        uintptr_t apart = (uintptr_t)walk->data[o] | (uintptr_t)operand->component;
        for (int64_t d = 0; d < batch->ndim - 1; d++)
            apart |= (uintptr_t)operand->stride[d];
        const int past_cache = o >= p->n_inputs && plan->past_cache && apart % sizeof(VEC) == 0;
        views[o] = (struct view){0, operand->component, 1, past_cache};
        staged[o] = past_cache && plan->staged;
    }
    const int64_t most = plan->staged ? plan->height : MOST_ROWS;
    struct piece pieces[3]; /* this one, the next, and the one to be fetched */
    for (int i = 0; i < 2; i++)
        pieces[i].rows = next_segment(walk, batch, most, pieces[i].data);
    for (int64_t i = 0; pieces[i % 3].rows; i++) {
        const struct piece *now = &pieces[i % 3];
        struct piece *later = &pieces[(i + 2) % 3];
        later->rows = next_segment(walk, batch, most, later->data);
        REAL *to = numbers;
        sa_ahead_clear(&ahead);
        for (int o = 0; o < operands; o++) {
            views[o].base = now->data[o];
            if (plan->ahead && !views[o].past_cache && !staged[o])
                columns_ahead(later->data[o], later->rows, p->columns[o], views[o].step, &ahead);
            if (staged[o]) {
                views[o] = (struct view){(char *)to, now->rows * (int64_t)sizeof(REAL), 1, 0};
                to += p->columns[o] * now->rows;
            }
        }
        plan->straight_columns(views, (int)now->rows, p->coef, &ahead, sa_ahead_each(&ahead, now->rows / LANES));
        for (int o = p->n_inputs; o < operands; o++)
            for (int c = 0; staged[o] && c < p->columns[o]; c++)
                copy_out(p->dtype, (const REAL *)views[o].base + c * now->rows,
                         now->data[o] + c * batch->operand[o].component, sizeof(REAL), now->rows, 1);
    }
}
#endif
