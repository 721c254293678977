/* Contiguous rows to the columns of a tile and back. Addresses may be unaligned. */
#ifndef SPARSEACC_TRANSPOSE_H
#define SPARSEACC_TRANSPOSE_H
#include "rotate.h"
#include "vector.h"
#include <string.h>

/* Of transpose_in, whole vectors of rows from row r on, n columns at a time; where it ends. */
INLINE int pieces_in(const char *from, int64_t step, int64_t columns, REAL *to, int64_t height, int r, int rows,
                     const int n)
{
    const int64_t size = sizeof(REAL);
    for (; r + LANES <= rows; r += LANES)
        for (int64_t c = 0; c < columns; c += n) {
            if (c + n > columns)
                c = columns - n; /* the last piece overlaps the one before it */
            transpose_piece(from + r * step + c * size, step, (char *)(to + c * height + r), height * size, n);
        }
    return r;
}

/* rows x columns numbers, each row's contiguous and `step` bytes after the one before, to columns `height` apart. */
static void transpose_in(const char *from, int64_t step, int64_t columns, REAL *to, int64_t height, int rows)
{
    int r = step == columns * (int64_t)sizeof(REAL) ? rotate_in(from, columns, to, height, rows) : 0;
    if (columns >= PIECE)
        r = pieces_in(from, step, columns, to, height, r, rows, PIECE);
    else if (columns >= QUAD)
        r = pieces_in(from, step, columns, to, height, r, rows, QUAD);
    for (; r < rows; r++)
        for (int64_t c = 0; c < columns; c++)
            memcpy(to + c * height + r, from + r * step + c * (int64_t)sizeof(REAL), sizeof(REAL));
}

/* Of transpose_out, rows of at least LANES numbers from row r on, n at a time: each as whole vectors; where it ends. */
INLINE int whole_rows_out(const REAL *from, int64_t height, int64_t columns, char *to, int64_t step, int r, int rows,
                          const int n)
{
    const int64_t size = sizeof(REAL);
    for (; r + n <= rows; r += n)
        for (int64_t c = 0; c < columns; c += LANES) {
            if (c + LANES > columns)
                c = columns - LANES; /* the last vector overlaps the one before it */
            transpose_piece((const char *)(from + c * height + r), height * size, to + r * step + c * size, step, n);
        }
    return r;
}

static void transpose_out(const REAL *from, int64_t height, int64_t columns, char *to, int64_t step, int rows,
                          int past_cache)
{
    int r = step == columns * (int64_t)sizeof(REAL) ? rotate_out(from, height, columns, to, rows, past_cache) : 0;
    if (columns >= LANES) {
        r = whole_rows_out(from, height, columns, to, step, r, rows, PIECE);
        r = whole_rows_out(from, height, columns, to, step, r, rows, QUAD);
    }
    if (columns >= QUAD)
        for (; r + LANES <= rows; r += LANES)
            for (int64_t c = 0; c < columns; c += QUAD) {
                if (c + QUAD > columns)
                    c = columns - QUAD;
                VEC v[QUAD];
                for (int q = 0; q < QUAD; q++)
                    v[q] = *(const vec_any *)(from + (c + q) * height + r);
                transpose(v);
                for (int q = 0; q < QUAD; q++)
                    store_groups(v[q], to + (r + q) * step + c * (int64_t)sizeof(REAL), QUAD * step);
            }
    for (; r < rows; r++)
        for (int64_t c = 0; c < columns; c++)
            memcpy(to + r * step + c * (int64_t)sizeof(REAL), from + c * height + r, sizeof(REAL));
}
#endif
