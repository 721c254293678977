/* The kernel, for one instruction set and one computation type REAL. A tile of `height` rows is gathered into columns
 * that stay in the L1 cache, the program runs over the columns with rows along the vector lanes, and finished
 * columns are written back. Every row goes through the same arithmetic in its own lane, also in an incomplete tile. */
#define PASTE4(a, b, c, d) a##b##c##d
#define PASTE(a, b, c, d) PASTE4(a, b, c, d)
#define NAME(name) PASTE(name, _, SA_ISA, REAL)
#include "vector.h"
#include "strided.h"
#include "product.h"

enum { NAME(MOST_ROWS) = 4 * LANES };

/* Rows of a tile that lie evenly in memory: the innermost dimension of the batch, or a piece of it. */
struct NAME(segment) {
    int lane, rows;
    char *data[SA_MAX_OPERANDS];
};

struct NAME(walk) {
    int64_t index[SA_MAX_DIMS], begin[SA_MAX_DIMS], end[SA_MAX_DIMS], rows;
    char *data[SA_MAX_OPERANDS];
};

static void NAME(start)(struct NAME(walk) *w, const sa_batch *batch, int64_t part)
{
    const int operands = batch->program->n_inputs + batch->program->n_outputs;
    w->rows = 1;
    for (int o = 0; o < operands; o++)
        w->data[o] = batch->operand[o].data + part * batch->operand[o].part;
    for (int64_t d = 0; d < batch->ndim; d++) {
        const int64_t size = batch->shape[d], q = size / batch->parts, r = size % batch->parts;
        w->begin[d] = d == batch->cut ? q * part + r * part / batch->parts : 0;
        w->end[d] = d == batch->cut ? q * (part + 1) + r * (part + 1) / batch->parts : size;
        w->index[d] = w->begin[d];
        w->rows *= w->end[d] - w->begin[d];
        for (int o = 0; o < operands; o++)
            w->data[o] += w->begin[d] * batch->operand[o].stride[d];
    }
}

/* Takes the next rows of the part, at most `height`, as segments; returns how many rows. */
static int NAME(next_tile)(struct NAME(walk) *w, const sa_batch *batch, int height,
                           struct NAME(segment) *segment, int *segments)
{
    const int operands = batch->program->n_inputs + batch->program->n_outputs;
    const int64_t last = batch->ndim - 1;
    int lane = 0, n = 0;
    while (lane < height && w->rows > 0) {
        const int64_t left = w->end[last] - w->index[last];
        const int rows = left < height - lane ? (int)left : height - lane;
        segment[n].lane = lane;
        segment[n].rows = rows;
        memcpy(segment[n++].data, w->data, sizeof w->data);
        lane += rows;
        w->rows -= rows;
        w->index[last] += rows;
        for (int o = 0; o < operands; o++)
            w->data[o] += rows * batch->operand[o].stride[last];
        for (int64_t d = last; d > 0 && w->index[d] == w->end[d]; d--) {
            w->index[d] = w->begin[d];
            w->index[d - 1]++;
            for (int o = 0; o < operands; o++)
                w->data[o] += batch->operand[o].stride[d - 1] - (w->end[d] - w->begin[d]) * batch->operand[o].stride[d];
        }
    }
    *segments = n;
    return lane;
}

/* The sizes of a tile: `vectors` per column (1, 2 or 4), and how many output columns stand in it at a time. */
struct NAME(plan) {
    int vectors, height;
    int64_t inputs, block, sums;
};

static struct NAME(plan) NAME(plan)(const sa_batch *batch)
{
    enum { CACHE = 28 * 1024, SMALLEST_BLOCK = 16 }; /* of the 32 KiB that an L1 cache has at least */
    const sa_program *p = batch->program;
    struct NAME(plan) plan = {4, 0, 0, 0, 0};
    int64_t most = 0, rows = 1;
    for (int o = 0; o < p->n_inputs; o++)
        plan.inputs += p->columns[o];
    for (int o = p->n_inputs; o < p->n_inputs + p->n_outputs; o++)
        most = p->columns[o] > most ? p->columns[o] : most;
    for (int64_t d = 0; d < batch->ndim; d++)
        rows *= batch->shape[d];
    if (p->contraction) {
        plan.sums = most;
        most = 0;
    }
    const int64_t smallest = most < SMALLEST_BLOCK ? most : SMALLEST_BLOCK;
    while (plan.vectors > 1 && (rows <= plan.vectors / 2 * LANES ||
                                (plan.inputs + smallest) * plan.vectors * (SA_BITS / 8) > CACHE))
        plan.vectors /= 2;
    plan.height = plan.vectors * LANES;
    plan.block = CACHE / (plan.vectors * (SA_BITS / 8)) - plan.inputs;
    plan.block = plan.block / SMALLEST_BLOCK * SMALLEST_BLOCK;
    if (plan.block < SMALLEST_BLOCK)
        plan.block = SMALLEST_BLOCK;
    if (plan.block > most)
        plan.block = most;
    return plan;
}

static void NAME(products)(const sa_batch *batch, const struct NAME(plan) *plan, REAL *tile,
                           const struct NAME(segment) *segment, int segments)
{
    const sa_program *p = batch->program;
    struct NAME(program) next = {p->code, p->coef};
    REAL *out = tile + plan->inputs * plan->height;
    for (int o = p->n_inputs; o < p->n_inputs + p->n_outputs; o++)
        for (int64_t first = 0; first < p->columns[o]; first += plan->block) {
            const int64_t left = p->columns[o] - first, columns = left < plan->block ? left : plan->block;
            next = NAME(columns)(next, tile, out, columns, plan->vectors);
            for (int s = 0; s < segments; s++)
                NAME(scatter)(p, &batch->operand[o], batch->operand[o].stride[batch->ndim - 1], segment[s].data[o],
                              first, columns, out + segment[s].lane, plan->height, segment[s].rows);
        }
}

static void NAME(run_part)(const sa_batch *batch, const struct NAME(plan) *plan, REAL *tile, int64_t part)
{
    enum { TILES_PER_FLUSH = 64 }; /* so that a float32 sum stays short */
    const sa_program *p = batch->program;
    REAL *sums = tile + (plan->inputs + plan->block) * plan->height;
    struct NAME(segment) segment[NAME(MOST_ROWS)];
    struct NAME(walk) walk;
    int segments, rows;
    NAME(start)(&walk, batch, part);
    double *total = (double *)walk.data[p->n_inputs];
    for (int64_t tiles = 1; (rows = NAME(next_tile)(&walk, batch, plan->height, segment, &segments)); tiles++) {
        if (rows < plan->height)
            memset(tile, 0, sizeof(REAL) * (size_t)(plan->inputs * plan->height));
        REAL *column = tile;
        for (int o = 0; o < p->n_inputs; column += p->columns[o++] * plan->height)
            for (int s = 0; s < segments; s++)
                NAME(gather)(p, &batch->operand[o], batch->operand[o].stride[batch->ndim - 1], segment[s].data[o],
                             p->columns[o], column + segment[s].lane, plan->height, segment[s].rows);
        if (!p->contraction) {
            NAME(products)(batch, plan, tile, segment, segments);
            continue;
        }
        NAME(contract)((struct NAME(program)){p->code, p->coef}, tile, plan->vectors, sums);
        if (tiles % TILES_PER_FLUSH == 0)
            NAME(flush)(sums, plan->sums, total);
    }
    if (p->contraction)
        NAME(flush)(sums, plan->sums, total);
}

int PASTE(sa_, SA_ISA, _, REAL)(const sa_batch *batch, int64_t first, int64_t last)
{
    const struct NAME(plan) plan = NAME(plan)(batch);
    const size_t numbers = (size_t)((plan.inputs + plan.block) * plan.height + plan.sums * LANES);
    REAL on_stack[8192] __attribute__((aligned(64))), *tile = on_stack;
    if (numbers > sizeof on_stack / sizeof(REAL) &&
        posix_memalign((void **)&tile, 64, numbers * sizeof(REAL)))
        return SA_NO_MEMORY;
    memset(tile + (plan.inputs + plan.block) * plan.height, 0, sizeof(REAL) * (size_t)(plan.sums * LANES));
    for (int64_t part = first; part < last; part++)
        NAME(run_part)(batch, &plan, tile, part);
    if (tile != on_stack)
        free(tile);
    return SA_OK;
}

#undef LANES
#undef QUAD
#undef GROUPS
#undef VEC
#undef FMA
#undef LOW
#undef HIGH
#undef LOW2
#undef HIGH2
