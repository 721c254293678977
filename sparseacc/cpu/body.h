/* The kernel, for one instruction set and one computation type REAL. A tile of `height` rows is gathered into columns
 * that stay in the L1 cache, the program runs over the columns with rows along the vector lanes, and finished
 * columns are written back. Columns that lie in memory as vectors already are read and written there. Every row goes
 * through the same arithmetic in its own lane, also in an incomplete tile. */
#include "sparseacc.h"
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include "ahead.h"
#include "half.h"

#if SA_REAL_BITS == 32
#define REAL float
#else
#define REAL double
#endif
enum { MOST_ROWS = 256 };

#include "vector.h"
#include "rotate.h"
#include "product.h"
#include "straight.h"

/* Rows that lie evenly in memory: the innermost dimension of the batch, or a piece of it. In a tile they begin at a
 * lane. */
struct segment {
    int64_t lane, rows;
    char *data[SA_MAX_OPERANDS];
};

/* A piece of an operand's column: its rows lie evenly, from lane `lane` of the tile on. */
struct run {
    int64_t lane, rows;
    char *data;
};

/* `run` is room for the runs of one operand, as many as segments. */
struct tile {
    int rows, segments;
    struct segment *segment;
    struct run *run;
};

#include "strided.h"

struct walk {
    int64_t index[SA_MAX_DIMS], begin[SA_MAX_DIMS], end[SA_MAX_DIMS], rows;
    char *data[SA_MAX_OPERANDS];
};

/* Where a part begins: evenly, and at whole vectors and cache lines if it is long. */
static int64_t edge(const sa_batch *batch, int64_t part)
{
    const int64_t size = batch->shape[batch->cut], each = size / batch->parts, left = size % batch->parts;
    const int64_t begin = each * part + left * part / batch->parts;
    return part < batch->parts && each >= 4096 ? begin / 64 * 64 : begin;
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

/* The sizes of a tile: `height` rows in at most so many segments, columns of inputs, all columns, and the vectors of
 * sums over rows. Whether a tile is one segment, all columns are in place, tiles are fetched ahead, and outputs written
 * past the caches, if need be from the tile. The straight-line code for the program, if there is, or whether there is
 * for its couplings, and whether the output is written in whole lines. */
struct plan {
    int64_t height, segments, inputs, columns, sums;
    int one_segment, in_place, ahead, past_cache, staged, couplings, lines;
    straight_rows *straight_rows;
    straight_columns *straight_columns;
};

/* The next rows of the part that lie evenly, at most `most`. */
static struct segment next_segment(struct walk *w, const sa_batch *batch, int64_t most)
{
    const int operands = batch->program->n_inputs + batch->program->n_outputs;
    const int64_t last = batch->ndim - 1, left = w->rows > 0 ? w->end[last] - w->index[last] : 0;
    struct segment segment = {.rows = left < most ? left : most};
    memcpy(segment.data, w->data, sizeof w->data);
    w->rows -= segment.rows;
    w->index[last] += segment.rows;
    for (int o = 0; o < operands; o++)
        w->data[o] += segment.rows * batch->operand[o].stride[last];
    for (int64_t d = last; d > 0 && w->index[d] == w->end[d]; d--) {
        w->index[d] = w->begin[d];
        w->index[d - 1]++;
        for (int o = 0; o < operands; o++)
            w->data[o] += batch->operand[o].stride[d - 1] - (w->end[d] - w->begin[d]) * batch->operand[o].stride[d];
    }
    return segment;
}

/* Takes the next rows of the part, at most `height`; with `one_segment` in one segment, of whole vectors if it can. */
static void next_tile(struct walk *w, const sa_batch *batch, const struct plan *plan, struct tile *tile)
{
    const int64_t last = batch->ndim - 1;
    tile->rows = tile->segments = 0;
    while (tile->rows < plan->height && w->rows > 0 && !(plan->one_segment && tile->segments)) {
        const int64_t left = w->end[last] - w->index[last];
        int64_t most = left < plan->height - tile->rows ? left : plan->height - tile->rows;
        if (plan->one_segment && most > LANES)
            most -= most % LANES;
        struct segment *segment = &tile->segment[tile->segments++];
        *segment = next_segment(w, batch, most);
        segment->lane = tile->rows;
        tile->rows += (int)segment->rows;
    }
}

#include "couplings.h"
#include "lines.h"

static struct plan planned(const sa_batch *batch)
{
    /* Batches of more bytes are fetched ahead; and of so many more that the result would not be found in a cache
     * anyway, it is not put there. */
    enum { AHEAD = 2 * 1024 * 1024, PAST_CACHE = 16 * 1024 * 1024 };
    /* Straight-line code writes a vector of each column in turn. The processor puts together lines of so many columns;
     * of more, parts of lines would go to memory. */
    enum { PUT_TOGETHER = 6 };
    const sa_program *p = batch->program;
    struct plan plan = {.height = MOST_ROWS};
    int64_t outputs = 0, rows = 1;
    for (int o = 0; o < p->n_inputs; o++)
        plan.inputs += p->columns[o];
    for (int o = p->n_inputs; o < p->n_inputs + p->n_outputs; o++)
        outputs += p->columns[o];
    for (int64_t d = 0; d < batch->ndim; d++)
        rows *= batch->shape[d];
    plan.sums = p->contraction ? outputs : 0;
    plan.columns = plan.inputs + 1 + (p->contraction ? 0 : outputs); /* one to spare */
    const int vectors = batch->shape[batch->ndim - 1] >= 4 * LANES;
    plan.in_place = vectors;
    for (int o = 0; vectors && o < p->n_inputs + p->n_outputs; o++) {
        plan.one_segment |= lies_in_vectors(batch, o);
        plan.in_place &= lies_in_vectors(batch, o) && (o < p->n_inputs || p->complete[o]);
    }
    /* A tile of more than four vectors takes about half of the L1 cache, or all of it where columns are used in place;
     * but pieces of columns that are shorter than four vectors cost more than the L1 cache saves. */
    const int64_t l1 = sa_l1_bytes(), enough = plan.one_segment ? l1 : l1 * 5 / 8;
    const int64_t most = plan.one_segment ? l1 * 2 : l1;
    while (plan.height > LANES && (plan.height / 2 >= rows || plan.columns * plan.height * (int64_t)sizeof(REAL) >
                                                                  (plan.height > 4 * LANES ? enough : most)))
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
    /* AVX2 is faster by the loop. */
    plan.couplings = SA_BITS == 512 && p->couplings > 0;
    plan.lines = plan.past_cache && goes_in_lines(batch, plan.couplings) && rows >= rows_of_lines(p) * ACROSS;
    return plan;
}

/* Columns that are all in place by straight-line code: there is little to do for each piece. */
static void run_straight_columns(const sa_batch *batch, const struct plan *plan, struct walk *walk, REAL *numbers)
{
    const sa_program *p = batch->program;
    const int operands = p->n_inputs + p->n_outputs;
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
    struct segment now = next_segment(walk, batch, most), next = next_segment(walk, batch, most);
    while (now.rows) {
        const struct segment later = next_segment(walk, batch, most);
        REAL *to = numbers;
        sa_ahead_clear(&ahead);
        for (int o = 0; o < operands; o++) {
            views[o].base = now.data[o];
            if (plan->ahead && !views[o].past_cache && !staged[o])
                columns_ahead(later.data[o], later.rows, p->columns[o], views[o].step, &ahead);
            if (staged[o]) {
                views[o] = (struct view){(char *)to, now.rows * (int64_t)sizeof(REAL), 1, 0};
                to += p->columns[o] * now.rows;
            }
        }
        plan->straight_columns(views, (int)now.rows, p->coef, &ahead, sa_ahead_each(&ahead, now.rows / LANES));
        for (int o = p->n_inputs; o < operands; o++)
            for (int c = 0; staged[o] && c < p->columns[o]; c++)
                copy_out(p->dtype, (const REAL *)views[o].base + c * now.rows,
                         now.data[o] + c * batch->operand[o].component, sizeof(REAL), now.rows, 1);
        now = next;
        next = later;
    }
}

/* Rows by straight-line code, which takes whole blocks: of an incomplete one copies, filled up with zeros. */
static void run_straight_rows(const sa_batch *batch, const struct plan *plan, struct walk *walk, REAL *numbers)
{
    const sa_program *p = batch->program;
    const int operands = p->n_inputs + p->n_outputs;
    struct segment now;
    while ((now = next_segment(walk, batch, INT64_MAX)).rows) {
        const int64_t blocks = now.rows / LANES, left = now.rows % LANES;
        if (blocks > 0)
            plan->straight_rows(now.data, blocks, p->coef, plan->past_cache);
        if (left == 0)
            continue;
        char *copies[SA_MAX_OPERANDS], *rest[SA_MAX_OPERANDS];
        REAL *block = numbers;
        for (int o = 0; o < operands; block += p->columns[o++] * LANES) {
            copies[o] = (char *)block;
            rest[o] = now.data[o] + blocks * p->columns[o] * (int64_t)sizeof(VEC);
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

static void run_part(const sa_batch *batch, const struct plan *plan, REAL *numbers, struct segment *segments,
                     int64_t part)
{
    const sa_program *p = batch->program;
    const int operands = p->n_inputs + p->n_outputs;
    const struct program program = {p->code, p->coef};
    REAL *sums = numbers + plan->columns * plan->height;
    struct tile tiles[3]; /* this one, the next, and the one to be fetched */
    for (int t = 0; t < 3; t++)
        tiles[t] = (struct tile){0, 0, segments + t * plan->segments, (struct run *)(segments + 3 * plan->segments)};
    struct view views[SA_MAX_OPERANDS + 1];
    struct sa_ahead ahead;
    struct walk walk;
    start(&walk, batch, part);
    const int64_t last = batch->ndim - 1;
    if (plan->straight_rows)
        run_straight_rows(batch, plan, &walk, numbers);
    else if (plan->straight_columns && plan->in_place && (walk.end[last] - walk.begin[last]) % LANES == 0)
        run_straight_columns(batch, plan, &walk, numbers);
    if (plan->lines && (uintptr_t)walk.data[2] % SA_LINE == 0)
        run_lines(batch, plan->couplings, &walk, sums);
    double *total = (double *)walk.data[p->n_inputs];
    next_tile(&walk, batch, plan, &tiles[0]);
    next_tile(&walk, batch, plan, &tiles[1]);
    for (int64_t t = 0; tiles[t % 3].rows; t++) {
        const struct tile *tile = &tiles[t % 3], *later = &tiles[(t + 2) % 3];
        next_tile(&walk, batch, plan, &tiles[(t + 2) % 3]);
        REAL *column = numbers;
        for (int o = 0; o < p->n_inputs; column += p->columns[o++] * plan->height)
            views[o] = input(batch, o, tile, column, plan->height, plan->straight_columns != 0);
        sa_ahead_clear(&ahead);
        for (int o = 0; plan->ahead && o < operands - p->contraction; o++)
            look_ahead(batch, o, later, o >= p->n_inputs && plan->past_cache, &ahead);
        if (p->contraction) {
            const int64_t tiles_to_flush = 32 * LANES > plan->height ? 32 * LANES / plan->height : 1;
            sa_ahead_fetch(&ahead, ahead.lines);
            contract(program, views, tile->rows, sums);
            if (t % tiles_to_flush == tiles_to_flush - 1) /* sums of float32 are short */
                flush(sums, plan->sums, total);
            continue;
        }
        views[operands] = (struct view){(char *)column, 0, 1, 0};
        REAL *const outputs = column += plan->height;
        for (int o = p->n_inputs; o < operands; column += p->columns[o++] * plan->height)
            views[o] = output(batch, o, tile, column, plan->height, plan->past_cache, plan->staged);
        if (plan->straight_columns)
            plan->straight_columns(views, tile->rows, p->coef, &ahead,
                                   sa_ahead_each(&ahead, (tile->rows + LANES - 1) / LANES));
        else if (plan->couplings)
            all_couplings(p, views, tile->rows, &ahead);
        else
            all_outputs(program, views, operands + 1, tile->rows, &ahead);
        column = outputs;
        for (int o = p->n_inputs; o < operands; column += p->columns[o++] * plan->height)
            if (views[o].base == (char *)column)
                scatter(batch, o, tile, column, plan->height, plan->past_cache);
    }
    if (p->contraction)
        flush(sums, plan->sums, total);
#if defined(__x86_64__)
    if (plan->past_cache)
        __builtin_ia32_sfence();
#endif
}

#define PASTE4(a, b, c, d) a##b##c##d
#define PASTE(a, b, c, d) PASTE4(a, b, c, d)

int PASTE(sa_, SA_ISA, _, REAL)(const sa_batch *batch, int64_t first, int64_t last)
{
    /* So many bytes need no allocation, which takes as long as some rows do. They are few, as threads may have small
     * stacks. */
    enum { ON_STACK = 12 * 1024 };
    const struct plan plan = planned(batch);
    const size_t inputs = (size_t)(plan.inputs * plan.height) * sizeof(REAL);
    const size_t numbers = sizeof(REAL) * (size_t)(plan.columns * plan.height + plan.sums * LANES +
                                                   (plan.lines ? numbers_for_lines(batch->program) : 0));
    const size_t bytes = numbers + (size_t)plan.segments * (3 * sizeof(struct segment) + sizeof(struct run));
    char on_stack[ON_STACK] __attribute__((aligned(64))), *tile = on_stack;
    if (bytes > sizeof on_stack && posix_memalign((void **)&tile, 64, bytes))
        return SA_NO_MEMORY;
    if (!plan.straight_rows)
        memset(tile + inputs, 0, numbers - inputs);
    for (int64_t part = first; part < last; part++)
        run_part(batch, &plan, (REAL *)tile, (struct segment *)(tile + numbers), part);
    if (tile != on_stack)
        free(tile);
    return SA_OK;
}
