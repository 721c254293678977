/* Whole rows by straight-line code, from memory to registers and back. */
#ifndef SPARSEACC_ROWS_H
#define SPARSEACC_ROWS_H
#include "plan.h"
#include "walk.h"
#include <string.h>

/* Rows by straight-line code, which takes whole blocks: of an incomplete one copies, filled up with zeros. */
static void run_straight_rows(const sa_batch *batch, const struct plan *plan, struct walk *walk, REAL *numbers)
{
    const sa_program *p = batch->program;
    const int operands = p->n_inputs + p->n_outputs;
    char *data[SA_MAX_OPERANDS];
    int64_t rows;
    while ((rows = next_segment(walk, batch, INT64_MAX, data))) {
        const int64_t blocks = rows / LANES, left = rows % LANES;
        if (blocks > 0)
            plan->straight_rows(data, blocks, p->coef, plan->past_cache);
        if (left == 0)
            continue;
        char *copies[SA_MAX_OPERANDS], *rest[SA_MAX_OPERANDS];
        REAL *block = numbers;
        for (int o = 0; o < operands; block += p->columns[o++] * LANES) {
            copies[o] = (char *)block;
            rest[o] = data[o] + blocks * p->columns[o] * (int64_t)sizeof(VEC);
            if (o < p->n_inputs) {
                memset(block, 0, (size_t)p->columns[o] * sizeof(VEC));
                memcpy(block, rest[o], (size_t)(p->columns[o] * left) * sizeof(REAL));
            }
        }
        plan->straight_rows(copies, 1, p->coef, 0);
        for (int o = p->n_inputs; o < operands; o++)
            memcpy(rest[o], copies[o], (size_t)(p->columns[o] * left) * sizeof(REAL));
    }
}
#endif
