/* Rows of an output that are not rotated (rotate.h) and go past the caches, written as whole cache lines.
 *
 * Every lane takes as many neighbouring rows as end at a cache line if they begin at one, one after the other. So the
 * columns of all lanes follow each other from row to row without a gap, and whenever there are LINE of them more, each
 * lane has a line of memory more, which goes past the caches at once. Only one row a lane is ever kept. */
#ifndef SPARSEACC_LINES_H
#define SPARSEACC_LINES_H
#include "couplings.h"
#include "layout.h"
#include "plan.h"
#include "product.h"
#include "tiles.h"
#include "transpose.h"
#include "walk.h"
#include <string.h>
enum { LINE = 64 / sizeof(REAL) };

/* Whether an output goes that way: of one dimension of contiguous rows, by an instruction set that gains by it. */
static int goes_in_lines(const sa_batch *batch)
{
    const sa_program *p = batch->program;
    return (by_couplings(p) || (LINES_BY_LOOP && p->columns[p->n_inputs] >= LANES)) && batch->ndim == 1 &&
           p->n_inputs == 2 && p->n_outputs == 1 && !p->contraction && in_whole_rows(batch) && !rotates(p->columns[2]);
}

/* Of the columns of a lane's row, those left of the row before, those of both inputs, and one to spare. */
static int64_t numbers_for_lines(const sa_program *p)
{
    return ((int64_t)p->columns[0] + p->columns[1] + LINE + p->columns[2] + 1) * ACROSS;
}

/* Columns of all lanes, ACROSS numbers long, and where each lane's go, `apart` bytes from each to the next. */
struct lines {
    const REAL *from;
    char *to;
    int64_t apart;
};

/* Of the columns before `end`, those that are whole lines. */
static void write_lines(struct lines *lines, const REAL *end)
{
    const int64_t size = sizeof(REAL), apart = lines->apart;
    for (; end - lines->from >= LINE * ACROSS; lines->to += SA_LINE) {
        const REAL *from = lines->from;
        char *to = lines->to;
        for (int lane = 0; lane < ACROSS; lane += PIECE, from += PIECE, to += PIECE * apart)
            for (int c = 0; c < LINE; c += LANES) {
                VEC v[PIECE];
                load_columns((const char *)(from + c * ACROSS), ACROSS * size, v, PIECE);
                for (int q = 0; q < PIECE; q++)
                    STREAM(to + q * apart + c * size, v[q]);
            }
        lines->from += LINE * ACROSS;
    }
}

/* ACROSS lanes of `rows` rows each, contiguous at `data`; as many are fetched ahead at `later`, if there are. */
static void block_of_lines(const sa_program *p, char *const *data, char *const *later, int64_t rows, REAL *numbers)
{
    const int64_t size = sizeof(REAL), n = p->columns[2];
    REAL *const inputs[] = {numbers, numbers + (int64_t)p->columns[0] * ACROSS};
    REAL *const output = inputs[1] + ((int64_t)p->columns[1] + LINE) * ACROSS;
    const struct view views[] = {
        {(char *)inputs[0], ACROSS * size, 1, 0},
        {(char *)inputs[1], ACROSS * size, 1, 0},
        {(char *)output, ACROSS * size, 1, 0},
        {(char *)(output + n * ACROSS), 0, 1, 0}, /* to spare */
    };
    struct lines lines = {output, data[2], rows * n * size};
    for (int64_t row = 0; row < rows; row++) {
        struct sa_ahead ahead;
        sa_ahead_clear(&ahead);
        for (int o = 0; o < 2; o++) {
            const int64_t bytes = p->columns[o] * size;
            transpose_in(data[o] + row * bytes, rows * bytes, p->columns[o], inputs[o], ACROSS, ACROSS);
            if (later)
                sa_ahead_add(&ahead, later[o] + row * ACROSS * bytes, ACROSS * bytes);
        }
        if (by_couplings(p)) {
            const int64_t each = sa_ahead_each(&ahead, p->couplings * (ACROSS / LANES));
            for (int32_t i = 0; i < p->couplings; i++) {
                const sa_coupling *coupling = &p->coupling[i];
                run_coupling(coupling, views, ACROSS, &ahead, each);
                write_lines(&lines, output + (i + 1 < p->couplings ? coupling[1].begin[2] : n) * ACROSS);
            }
        } else {
            const struct program program = {p->code, p->coef};
            all_outputs(program, views, 4, ACROSS, &ahead);
            write_lines(&lines, output + n * ACROSS);
        }
        const int64_t left = output + n * ACROSS - lines.from;
        lines.from = memmove(output - left, lines.from, (size_t)left * sizeof(REAL));
    }
}

/* Rows of a lane: as few as end at a cache line. */
static int64_t rows_of_lines(const sa_program *p)
{
    int64_t rows = LINE;
    while (rows % 2 == 0 && p->columns[2] * rows / 2 % LINE == 0)
        rows /= 2;
    return rows;
}

/* As many rows of the part as make whole blocks, if they begin at a line; the others in tiles. */
static void run_lines(const sa_batch *batch, const struct plan *plan, struct walk *walk, REAL *numbers)
{
    const sa_program *p = batch->program;
    const int64_t rows = rows_of_lines(p), block = ACROSS * rows;
    REAL *const own = numbers + plan->columns * plan->height;
    char *data[SA_MAX_OPERANDS];
    while ((uintptr_t)walk->data[2] % SA_LINE == 0 && walk->rows >= block) {
        next_segment(walk, batch, block, data);
        block_of_lines(p, data, walk->rows >= block ? walk->data : 0, rows, own);
    }
    run_tiles(batch, plan, walk, numbers);
}
#endif
