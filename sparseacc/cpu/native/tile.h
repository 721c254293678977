/* A tile: the next rows of a part, in segments whose rows lie evenly. */
#ifndef SPARSEACC_TILE_H
#define SPARSEACC_TILE_H
#include "ahead.h"
#include "layout.h"
#include "plan.h"
#include "rotate.h"
#include "walk.h"

/* A piece of an operand's column: its rows lie evenly, from lane `lane` of the tile on. */
struct run {
    int64_t lane, rows;
    char *data;
};

/* Rows of one dimension, or a piece of it: they lie evenly for every operand. In the tile they begin at a lane. */
struct segment {
    int32_t lane, rows;
};

/* `data` has the addresses of all operands, segment after segment; `run` is room for the runs of one operand. */
struct tile {
    int rows, segments;
    struct segment *segment;
    char **data;
    struct run *run;
};

/* Bytes of this tile, the next, and the one to be fetched: their runs are in one place. */
static int64_t bytes_of_tiles(const sa_program *p, int64_t segments)
{
    const int64_t operands = p->n_inputs + p->n_outputs;
    return segments * (int64_t)(sizeof(struct run) + 3 * (operands * sizeof(char *) + sizeof(struct segment)));
}

static void tiles_at(void *at, const sa_program *p, int64_t segments, struct tile tiles[3])
{
    const int operands = p->n_inputs + p->n_outputs;
    char **const data = (char **)((struct run *)at + segments);
    struct segment *const segment = (struct segment *)(data + 3 * segments * operands);
    for (int t = 0; t < 3; t++)
        tiles[t] = (struct tile){0, 0, segment + t * segments, data + t * segments * operands, at};
}

/* An operand's rows of a tile in as few runs as its strides allow. */
static int runs_of(const struct tile *tile, int operands, int o, int64_t step)
{
    struct run *const run = tile->run;
    int n = 0;
    for (int s = 0; s < tile->segments; s++) {
        const struct segment *segment = &tile->segment[s];
        char *const data = tile->data[s * operands + o];
        if (n > 0 && data == run[n - 1].data + run[n - 1].rows * step)
            run[n - 1].rows += segment->rows;
        else
            run[n++] = (struct run){segment->lane, segment->rows, data};
    }
    return n;
}

/* Takes the next rows of the part, at most `height`; with `one_segment` in one segment, of whole vectors if it can. */
static void next_tile(struct walk *w, const sa_batch *batch, const struct plan *plan, struct tile *tile)
{
    const int operands = batch->program->n_inputs + batch->program->n_outputs;
    const int64_t last = batch->ndim - 1;
    tile->rows = tile->segments = 0;
    while (tile->rows < plan->height && w->rows > 0 && !(plan->one_segment && tile->segments)) {
        const int64_t left = w->end[last] - w->index[last];
        int64_t most = left < plan->height - tile->rows ? left : plan->height - tile->rows;
        if (plan->one_segment && most > LANES)
            most -= most % LANES;
        const int rows = (int)next_segment(w, batch, most, tile->data + tile->segments * operands);
        tile->segment[tile->segments++] = (struct segment){tile->rows, rows};
        tile->rows += rows;
    }
}

/* Notes the memory of columns that are vectors of `rows` numbers, `apart` bytes from each to the next. */
static inline void columns_ahead(const char *at, int64_t rows, int64_t columns, int64_t apart, struct sa_ahead *ahead)
{
    const int64_t bytes = rows * (int64_t)sizeof(REAL);
    if (apart == bytes)
        sa_ahead_add(ahead, at, columns * bytes);
    else
        for (int64_t c = 0; c < columns; c++)
            sa_ahead_add(ahead, at + c * apart, bytes);
}

/* The first two tiles of a part, in the memory after the numbers. */
static void first_tiles(struct walk *walk, const sa_batch *batch, const struct plan *plan, REAL *numbers,
                        struct tile tiles[3])
{
    tiles_at(numbers + plan->numbers, batch->program, plan->segments, tiles);
    next_tile(walk, batch, plan, &tiles[0]);
    next_tile(walk, batch, plan, &tiles[1]);
}

/* Notes the memory that an operand's rows of a tile take, where it is dense and not written past the caches. */
static void look_ahead_at(const sa_batch *batch, int o, const struct tile *tile, int past_cache, struct sa_ahead *ahead)
{
    const sa_program *p = batch->program;
    const sa_operand *operand = &batch->operand[o];
    const int64_t columns = p->columns[o], step = operand->stride[batch->ndim - 1];
    const int64_t size = stored_size(p, operand->reduced);
    const int runs = runs_of(tile, p->n_inputs + p->n_outputs, o, step);
    const struct run *const run = tile->run;
    const int by_rows = lies_in_rows(operand, step, size, p->planes);
    const int whole = by_rows ? step == columns * size && rotates(columns) : step == size;
    if (past_cache && whole && !operand->reduced && size == sizeof(REAL) && (uintptr_t)run[0].data % SA_LINE == 0)
        return;
    for (int i = 0; i < runs; i++)
        if (step > 0 && step <= 2 * size * columns && operand->component == size * p->planes)
            sa_ahead_add(ahead, run[i].data, run[i].rows * step);
        else if (step == size * p->planes && operand->component == run[i].rows * step)
            sa_ahead_add(ahead, run[i].data, columns / p->planes * operand->component);
        else if (step == size * p->planes && run[i].rows * step >= 2 * SA_LINE)
            for (int64_t c = 0; c < columns / p->planes; c++)
                sa_ahead_add(ahead, run[i].data + c * operand->component, run[i].rows * step);
}

/* The same of all operands before `end`, if tiles are fetched ahead. */
static void look_ahead(const sa_batch *batch, const struct plan *plan, const struct tile *tile, int end,
                       struct sa_ahead *ahead)
{
    sa_ahead_clear(ahead);
    for (int o = 0; plan->ahead && o < end; o++)
        look_ahead_at(batch, o, tile, o >= batch->program->n_inputs && plan->past_cache, ahead);
}
#endif
