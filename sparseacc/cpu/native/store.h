/* Outputs as columns: where they go, or scattered from a tile. */
#ifndef SPARSEACC_STORE_H
#define SPARSEACC_STORE_H
#include "copy.h"
#include "layout.h"
#include "plan.h"
#include "product.h"
#include "tile.h"

/* Where the columns of an output go: where they belong, or to the tile. */
static struct view output(const sa_batch *batch, int o, const struct tile *tile, REAL *to, const struct plan *plan)
{
    const sa_operand *operand = &batch->operand[o];
    char *data = tile->data[o];
    const int past_cache = plan->past_cache && ((uintptr_t)data | (uintptr_t)operand->component) % sizeof(VEC) == 0;
    if (tile->segments == 1 && tile->rows % LANES == 0 && lies_in_vectors(batch, o) && batch->program->complete[o] &&
        !(past_cache && plan->staged))
        return (struct view){data, operand->component, 1, past_cache};
    return (struct view){(char *)to, plan->height * (int64_t)sizeof(REAL), 1, 0};
}

/* The finished columns of an output, from a tile; added where the output is reduced. */
APART void scatter(const sa_batch *batch, int o, const struct tile *tile, const REAL *from, int64_t height,
                   int past_cache)
{
    const sa_program *p = batch->program;
    const sa_operand *operand = &batch->operand[o];
    const int64_t columns = p->columns[o], step = operand->stride[batch->ndim - 1];
    const int64_t size = stored_size(p, operand->reduced);
    const int runs = runs_of(tile, p->n_inputs + p->n_outputs, o, step);
    const struct run *const run = tile->run;
    if (!operand->reduced && lies_in_rows(operand, step, size, p->planes)) {
        for (int i = 0; i < runs; i++)
            if (size == sizeof(REAL))
                transpose_out(from + run[i].lane, height, columns, run[i].data, step, run[i].rows, past_cache);
            else
                convert_out(p->dtype, from + run[i].lane, height, columns, run[i].data, step, run[i].rows);
        return;
    }
    for (int64_t c = 0; c < columns; c++) {
        const int64_t offset = offset_of(p, operand, c, size);
        for (int i = 0; i < runs; i++)
            if (operand->reduced)
                add_out(from + c * height + run[i].lane, run[i].data + offset, step, run[i].rows);
            else
                copy_out(p->dtype, from + c * height + run[i].lane, run[i].data + offset, step, run[i].rows,
                         past_cache);
    }
}
#endif
