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
    if (dtype == SA_FLOAT16 && step == 2)
        READ(uint16_t, 2, sa_from_float16)
    else if (dtype == SA_FLOAT16)
        READ(uint16_t, step, sa_from_float16)
    else if (dtype == SA_BFLOAT16 && step == 2)
        READ(uint16_t, 2, sa_from_bfloat16)
    else if (dtype == SA_BFLOAT16)
        READ(uint16_t, step, sa_from_bfloat16)
    else
        READ(REAL, step, SAME)
}

static void write(int dtype, const REAL *restrict from, char *restrict to, int64_t step, int64_t n)
{
    if (dtype == SA_FLOAT16 && step == 2)
        WRITE(uint16_t, 2, sa_to_float16)
    else if (dtype == SA_FLOAT16)
        WRITE(uint16_t, step, sa_to_float16)
    else if (dtype == SA_BFLOAT16 && step == 2)
        WRITE(uint16_t, 2, sa_to_bfloat16)
    else if (dtype == SA_BFLOAT16)
        WRITE(uint16_t, step, sa_to_bfloat16)
    else
        WRITE(REAL, step, SAME)
}

/* 16-bit numbers pass through a small block of rows in computation precision. */
static void convert_in(int dtype, const char *from, int64_t step, int64_t columns, REAL *to, int64_t height, int rows)
{
    REAL block[LANES][WIDTH];
    for (int64_t c = 0; c < columns; c += WIDTH) {
        const int64_t width = columns - c < WIDTH ? columns - c : WIDTH;
        for (int r = 0; r < rows; r += LANES) {
            const int n = rows - r < LANES ? rows - r : LANES;
            for (int i = 0; i < n; i++)
                read(dtype, from + (r + i) * step + c * 2, 2, block[i], width);
            transpose_in((const char *)block, sizeof block[0], width, to + c * height + r, height, n);
        }
    }
}

static void convert_out(int dtype, const REAL *from, int64_t height, int64_t columns, char *to, int64_t step, int rows)
{
    REAL block[LANES][WIDTH];
    for (int64_t c = 0; c < columns; c += WIDTH) {
        const int64_t width = columns - c < WIDTH ? columns - c : WIDTH;
        for (int r = 0; r < rows; r += LANES) {
            const int n = rows - r < LANES ? rows - r : LANES;
            transpose_out(from + c * height + r, height, width, (char *)block, sizeof block[0], n, 0);
            for (int i = 0; i < n; i++)
                write(dtype, block[i], to + (r + i) * step + c * 2, 2, width);
        }
    }
}

#undef READ
#undef WRITE
#undef SAME
#endif
