/* Sums over all rows instead of columns of outputs (coefficient_vjp). */
#ifndef SPARSEACC_CONTRACTION_H
#define SPARSEACC_CONTRACTION_H
#include "load.h"
#include "plan.h"
#include "product.h"
#include "tile.h"

enum { MOST_FACTORS = 4 };

/* sums[k][lane] += sign * a * b * c over the rows of the tile: groups of terms share sign * a * b. With weights there
 * are four factors, three of them shared. */
static void contract(struct program program, const struct view *views, int factors, int rows, REAL *sums)
{
    const int shared = factors - 1;
    for (int r = 0, vectors; r < rows; r += vectors * LANES) {
        vectors = vectors_for(rows - r);
        const int32_t *code = program.code + factors + 1;
        const REAL *sign = program.coef;
        struct view of[MOST_FACTORS];
        for (int k = 0; k < factors; k++)
            of[k] = from_row(&views[program.code[k]], r);
        for (int32_t groups = program.code[factors]; groups > 0; groups--, sign++) {
            const VEC *a = COLUMN(of[0], code[0]), *b = COLUMN(of[1], code[1]);
            const VEC s = SPREAD(*sign);
            VEC ab[MOST];
            for (int v = 0; v < vectors; v++)
                ab[v] = a[v] * b[v] * s;
            for (int k = 2; k < shared; k++) {
                const VEC *factor = COLUMN(of[k], code[k]);
                for (int v = 0; v < vectors; v++)
                    ab[v] = ab[v] * factor[v];
            }
            const int32_t terms = code[shared];
            code += shared + 1;
            for (int32_t i = 0; i < terms; i++, code += 2) {
                const VEC *c = COLUMN(of[shared], code[0]);
                VEC *sum = (VEC *)(sums + (int64_t)code[1] * LANES), t = *sum;
                for (int v = 0; v < vectors; v++)
                    t = FMA(ab[v], c[v], t);
                *sum = t;
            }
        }
    }
}

static void flush(REAL *sums, int64_t n, double *total)
{
    for (int64_t k = 0; k < n; k++)
        for (int lane = 0; lane < LANES; lane++) {
            total[k] += (double)sums[k * LANES + lane];
            sums[k * LANES + lane] = 0;
        }
}

static void run_contraction(const sa_batch *batch, const struct plan *plan, struct walk *walk, REAL *numbers)
{
    const sa_program *p = batch->program;
    const int64_t tiles_to_flush =
        ROWS_TO_FLUSH * LANES > plan->height ? ROWS_TO_FLUSH * LANES / plan->height : 1; /* sums of float32 are short */
    REAL *const sums = numbers + plan->columns * plan->height;
    double *const total = (double *)walk->data[p->n_inputs];
    struct view views[SA_MAX_OPERANDS];
    struct sa_ahead ahead;
    struct tile tiles[3];
    first_tiles(walk, batch, plan, numbers, tiles);
    for (int64_t t = 0; tiles[t % 3].rows; t++) {
        const struct tile *tile = &tiles[t % 3];
        next_tile(walk, batch, plan, &tiles[(t + 2) % 3]);
        inputs(batch, tile, numbers, plan, views);
        look_ahead(batch, plan, &tiles[(t + 2) % 3], p->n_inputs, &ahead);
        sa_ahead_fetch(&ahead, ahead.lines);
        contract((struct program){p->code, p->coef}, views, p->n_inputs, tile->rows, sums);
        if (t % tiles_to_flush == tiles_to_flush - 1)
            flush(sums, plan->sums, total);
    }
    flush(sums, plan->sums, total);
}
#endif
