/* Numbers as they are stored to REAL and back. */
#ifndef SPARSEACC_CONVERT_H
#define SPARSEACC_CONVERT_H
#include "half.h"
#include "sparseacc.h"
#include "transpose.h"
#include "tuning.h"

/* n numbers, converted: from memory `step` bytes apart to neighbours, and back. A constant step makes a vector loop. */
#define READ(stored, step, convert)                                                                                    \
    for (int64_t i = 0; i < n; i++) {                                                                                  \
        stored x;                                                                                                      \
        memcpy(&x, from + i * (step), sizeof x);                                                                       \
        to[i] = (REAL)convert(x);                                                                                      \
    }
#define WRITE(stored, step, convert)                                                                                   \
    for (int64_t i = 0; i < n; i++) {                                                                                  \
        const stored x = convert(from[i]);                                                                             \
        memcpy(to + i * (step), &x, sizeof x);                                                                         \
    }
#define SAME(x) (x)

static void read(int dtype, const char *restrict from, int64_t step, REAL *restrict to, int64_t n)
{
#define READ_NARROW(number, stored, name)                                                                              \
    if (dtype == number && step == sizeof(stored))                                                                     \
        READ(stored, (int64_t)sizeof(stored), sa_from_##name)                                                          \
    else if (dtype == number)                                                                                          \
        READ(stored, step, sa_from_##name)                                                                             \
    else
    EACH_NARROW(READ_NARROW)
    READ(REAL, step, SAME)
#undef READ_NARROW
}

static void write(int dtype, const REAL *restrict from, char *restrict to, int64_t step, int64_t n)
{
#define WRITE_NARROW(number, stored, name)                                                                             \
    if (dtype == number && step == sizeof(stored))                                                                     \
        WRITE(stored, (int64_t)sizeof(stored), sa_to_##name)                                                           \
    else if (dtype == number)                                                                                          \
        WRITE(stored, step, sa_to_##name)                                                                              \
    else
    EACH_NARROW(WRITE_NARROW)
    WRITE(REAL, step, SAME)
#undef WRITE_NARROW
}

/* Narrow numbers pass through a small block of rows in computation precision. */
static void convert_in(int dtype, const char *from, int64_t step, int64_t columns, REAL *to, int64_t height, int rows)
{
    const int64_t size = sa_narrow_size(dtype);
    REAL block[LANES][WIDTH];
    for (int64_t c = 0; c < columns; c += WIDTH) {
        const int64_t width = columns - c < WIDTH ? columns - c : WIDTH;
        for (int r = 0; r < rows; r += LANES) {
            const int n = rows - r < LANES ? rows - r : LANES;
            for (int i = 0; i < n; i++)
                read(dtype, from + (r + i) * step + c * size, size, block[i], width);
            transpose_in((const char *)block, sizeof block[0], width, to + c * height + r, height, n);
        }
    }
}

static void convert_out(int dtype, const REAL *from, int64_t height, int64_t columns, char *to, int64_t step, int rows)
{
    const int64_t size = sa_narrow_size(dtype);
    REAL block[LANES][WIDTH];
    for (int64_t c = 0; c < columns; c += WIDTH) {
        const int64_t width = columns - c < WIDTH ? columns - c : WIDTH;
        for (int r = 0; r < rows; r += LANES) {
            const int n = rows - r < LANES ? rows - r : LANES;
            transpose_out(from + c * height + r, height, width, (char *)block, sizeof block[0], n, 0);
            for (int i = 0; i < n; i++)
                write(dtype, block[i], to + (r + i) * step + c * size, size, width);
        }
    }
}

#undef READ
#undef WRITE
#undef SAME
#endif
