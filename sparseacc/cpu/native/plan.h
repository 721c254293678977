/* How a batch is computed: decided once a call, for all of its parts. */
#ifndef SPARSEACC_PLAN_H
#define SPARSEACC_PLAN_H
#include "vector.h"
#include "sparseacc.h"
#include "straight.h"
#include "walk.h"

struct plan;

/* One of the ways to compute the rows of a part, in a file each. `numbers` is the call's own memory. */
typedef void way(const sa_batch *batch, const struct plan *plan, struct walk *walk, REAL *numbers);

/* The way, and the sizes of a tile: `height` rows in at most so many segments, columns of inputs, all columns, the
 * vectors of sums over rows, and all numbers. Whether a tile is one segment, tiles are fetched ahead, and outputs
 * written past the caches, if need be from the tile. The straight-line code for the program, if there is. */
struct plan {
    way *way;
    int64_t height, segments, inputs, columns, sums, numbers;
    int one_segment, ahead, past_cache, staged;
    straight_rows *straight_rows;
    straight_columns *straight_columns;
};
#endif
