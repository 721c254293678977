/* The way through the rows of a part of a batch. */
#ifndef SPARSEACC_WALK_H
#define SPARSEACC_WALK_H
#include "sparseacc.h"
#include "tuning.h"

/* Where it is, and the rows that are left. */
struct walk {
    int64_t index[SA_MAX_DIMS], begin[SA_MAX_DIMS], end[SA_MAX_DIMS], rows;
    char *data[SA_MAX_OPERANDS];
};

/* Where a part begins: evenly, and at whole vectors and cache lines if it is long. */
static int64_t edge(const sa_batch *batch, int64_t part)
{
    const int64_t size = batch->shape[batch->cut], each = size / batch->parts, left = size % batch->parts;
    const int64_t begin = each * part + left * part / batch->parts;
    return part < batch->parts && each >= LONG_PART ? begin / PART_STEP * PART_STEP : begin;
}

static void start(struct walk *w, const sa_batch *batch, int64_t part)
{
    const int operands = batch->program->n_inputs + batch->program->n_outputs;
    w->rows = 1;
    for (int o = 0; o < operands; o++)
        w->data[o] = batch->operand[o].data + part * batch->operand[o].part;
    for (int64_t d = 0; d < batch->ndim; d++) {
        w->begin[d] = d == batch->cut ? edge(batch, part) : 0;
        w->end[d] = d == batch->cut ? edge(batch, part + 1) : batch->shape[d];
        w->index[d] = w->begin[d];
        w->rows *= w->end[d] - w->begin[d];
        for (int o = 0; o < operands; o++)
            w->data[o] += w->begin[d] * batch->operand[o].stride[d];
    }
}

/* Takes the next rows of the part that lie evenly in memory, at most `most`: those of the innermost dimension, or a piece
 * of them. Returns how many, and where each operand's are. */
static int64_t next_segment(struct walk *restrict w, const sa_batch *batch, int64_t most, char **restrict data)
{
    const int operands = batch->program->n_inputs + batch->program->n_outputs;
    const int64_t last = batch->ndim - 1, left = w->rows > 0 ? w->end[last] - w->index[last] : 0;
    const int64_t rows = left < most ? left : most;
    w->rows -= rows;
    w->index[last] += rows;
    for (int o = 0; o < operands; o++) {
        data[o] = w->data[o];
        w->data[o] += rows * batch->operand[o].stride[last];
    }
    for (int64_t d = last; d > 0 && w->index[d] == w->end[d]; d--) {
        w->index[d] = w->begin[d];
        w->index[d - 1]++;
        for (int o = 0; o < operands; o++)
            w->data[o] += batch->operand[o].stride[d - 1] - (w->end[d] - w->begin[d]) * batch->operand[o].stride[d];
    }
    return rows;
}
#endif
