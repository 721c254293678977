/* How an operand lies in memory. */
#ifndef SPARSEACC_LAYOUT_H
#define SPARSEACC_LAYOUT_H
#include "half.h"
#include "sparseacc.h"
#include "tuning.h"
#include "vector.h"

static inline int64_t stored_size(const sa_program *p, int reduced)
{
    const int64_t narrow = sa_narrow_size(p->dtype);
    return reduced ? 8 : narrow ? narrow : (int64_t)sizeof(REAL);
}

/* Where a column begins. */
static inline int64_t offset_of(const sa_program *p, const sa_operand *operand, int64_t column, int64_t size)
{
    return p->planes == 1 ? column * operand->component : column / 2 * operand->component + column % 2 * size;
}

/* Whether an operand's rows are contiguous numbers: then a tile of it is a transpose, else its columns are copied. */
static int lies_in_rows(const sa_operand *operand, int64_t step, int64_t size, int planes)
{
    return operand->component == size * planes && step != size;
}

/* Whether an operand's columns are in memory as vectors, so that a tile of one segment needs no copy of them. */
static int lies_in_vectors(const sa_batch *batch, int o)
{
    const sa_program *p = batch->program;
    return batch->operand[o].stride[batch->ndim - 1] == sizeof(REAL) && p->planes == 1 &&
           stored_size(p, 0) == sizeof(REAL) && !batch->operand[o].reduced;
}

/* Whether all operands are contiguous rows, enough of them in the innermost dimension. */
static int in_whole_rows(const sa_batch *batch)
{
    const sa_program *p = batch->program;
    const int64_t last = batch->ndim - 1, size = sizeof(REAL);
    int whole = p->planes == 1 && stored_size(p, 0) == size && (last == 0 || batch->shape[last] >= SHORT * LANES);
    for (int o = 0; o < p->n_inputs + p->n_outputs; o++) {
        const sa_operand *operand = &batch->operand[o];
        whole &= operand->stride[last] == p->columns[o] * size && !operand->reduced;
        whole &= operand->component == size || p->columns[o] == 1;
    }
    return whole;
}
#endif
