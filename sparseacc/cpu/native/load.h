/* Inputs as columns: where they are, or gathered into a tile. */
#ifndef SPARSEACC_LOAD_H
#define SPARSEACC_LOAD_H
#include "copy.h"
#include "layout.h"
#include "plan.h"
#include "product.h"
#include "tile.h"

/* Operand o of a tile into columns, the padding of an incomplete vector with zeros. */
APART void gather(const sa_batch *batch, int o, const struct tile *tile, REAL *to, int64_t height)
{
    REAL *const first = to;
    const sa_program *p = batch->program;
    const sa_operand *operand = &batch->operand[o];
    const int64_t columns = p->columns[o], step = operand->stride[batch->ndim - 1], size = stored_size(p, 0);
    const int runs = runs_of(tile, p->n_inputs + p->n_outputs, o, step);
    const struct run *const run = tile->run;
    if (lies_in_rows(operand, step, size, p->planes))
        for (int i = 0; i < runs; i++)
            if (size == sizeof(REAL))
                transpose_in(run[i].data, step, columns, to + run[i].lane, height, run[i].rows);
            else
                convert_in(p->dtype, run[i].data, step, columns, to + run[i].lane, height, run[i].rows);
    else
        for (int64_t c = 0; c < columns; c++, to += height) {
            const int64_t offset = offset_of(p, operand, c, size);
            if (size != sizeof(REAL) || (step != 0 && step != size))
                for (int i = 0; i < runs; i++)
                    read(p->dtype, run[i].data + offset, step, to + run[i].lane, run[i].rows);
            else if (step == 0)
                for (int i = 0; i < runs; i++)
                    fill(run[i].data + offset, to + run[i].lane, run[i].rows);
            else
                for (int i = 0; i < runs; i++)
                    copy_in(run[i].data + offset, to + run[i].lane, run[i].rows);
        }
    if (tile->rows % LANES)
        for (int64_t c = 0; c < columns; c++)
            memset(first + c * height + tile->rows, 0, (size_t)(LANES - tile->rows % LANES) * sizeof(REAL));
}

/* The columns of an input: where they are, if they are vectors that begin at a cache line (or every access would touch
 * two); one vector for all rows, if they share it; else gathered into the tile. */
static struct view input(const sa_batch *batch, int o, const struct tile *tile, REAL *to, const struct plan *plan)
{
    const int64_t height = plan->height;
    const int once = plan->straight_columns != 0; /* whether each column is read once */
    const sa_program *p = batch->program;
    const sa_operand *operand = &batch->operand[o];
    const int64_t size = stored_size(p, 0), rows = tile->rows;
    const int whole = tile->segments == 1 && rows % LANES == 0;
    char *data = tile->data[o];
    if (whole && lies_in_vectors(batch, o)) {
        if (once || ((uintptr_t)data | (uintptr_t)operand->component) % sizeof(VEC) == 0)
            return (struct view){data, operand->component, 1, 0};
        if (operand->component == rows * size) {
            copy_in(data, to, p->columns[o] * rows);
            return (struct view){(char *)to, rows * size, 1, 0};
        }
    }
    /* Sums need zeros in the padding. */
    if (tile->segments == 1 && operand->stride[batch->ndim - 1] == 0 && size == sizeof(REAL) &&
        (whole || !p->contraction)) {
        const int64_t shared = once ? LANES : height < MOST * LANES ? height : MOST * LANES;
        for (int64_t c = 0; c < p->columns[o]; c++)
            fill(data + offset_of(p, operand, c, size), to + c * shared, shared);
        return (struct view){(char *)to, shared * size, 0, 0};
    }
    gather(batch, o, tile, to, height);
    return (struct view){(char *)to, height * (int64_t)sizeof(REAL), 1, 0};
}

/* The columns of all inputs of a tile. */
static void inputs(const sa_batch *batch, const struct tile *tile, REAL *numbers, const struct plan *plan,
                   struct view *views)
{
    const sa_program *p = batch->program;
    for (int o = 0; o < p->n_inputs; numbers += p->columns[o++] * plan->height)
        views[o] = input(batch, o, tile, numbers, plan);
}
#endif
