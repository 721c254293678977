/* Pieces of a column between memory and a tile. */
#ifndef SPARSEACC_COPY_H
#define SPARSEACC_COPY_H
#include "convert.h"
#include "vector.h"

/* One vector. Held, lest the loop around it becomes a call of memmove, which is slow for the few that runs have. */
INLINE void move(void *to, const void *from)
{
    VEC v = *(const vec_any *)from;
    HOLD(v);
    *(vec_any *)to = v;
}

INLINE void copy_in(const char *from, REAL *to, int64_t n)
{
    int64_t i = copy_unaligned(from, to, n);
    for (; i + LANES <= n; i += LANES)
        move(to + i, from + i * (int64_t)sizeof(REAL));
    for (; i + QUAD <= n; i += QUAD)
        *(quad_any *)(to + i) = *(const quad_any *)(from + i * (int64_t)sizeof(REAL));
    for (; i < n; i++)
        memcpy(to + i, from + i * (int64_t)sizeof(REAL), sizeof(REAL));
}

/* The same number n times, by whole vectors: what goes over the end is written again, or in the column to spare. */
INLINE void fill(const char *from, REAL *to, int64_t n)
{
    REAL x;
    memcpy(&x, from, sizeof x);
    const VEC v = x - (VEC){0};
    for (int64_t i = 0; i < n; i += LANES)
        *(vec_any *)(to + i) = v;
}

INLINE void copy_out(int dtype, const REAL *from, char *to, int64_t step, int64_t n, int past_cache)
{
    if (sa_narrow_size(dtype) || step != sizeof(REAL)) {
        write(dtype, from, to, step, n);
        return;
    }
    int64_t i = 0;
    if (past_cache && (uintptr_t)to % sizeof(VEC) == 0)
        for (; i + LANES <= n; i += LANES)
            STREAM(to + i * (int64_t)sizeof(REAL), *(const vec_any *)(from + i));
    for (; i + LANES <= n; i += LANES)
        move(to + i * (int64_t)sizeof(REAL), from + i);
    for (; i + QUAD <= n; i += QUAD)
        *(quad_any *)(to + i * (int64_t)sizeof(REAL)) = *(const quad_any *)(from + i);
    for (; i < n; i++)
        memcpy(to + i * (int64_t)sizeof(REAL), from + i, sizeof(REAL));
}

/* sum += the n numbers, or each to its own sum. */
static void add_out(const REAL *from, char *to, int64_t step, int n)
{
    enum { CHAINS = 8, WIDE = SA_BITS / 64 };
    typedef REAL some __attribute__((vector_size(WIDE * sizeof(REAL)), aligned(sizeof(REAL))));
    typedef double sums __attribute__((vector_size(WIDE * sizeof(double))));
    if (step == 0) {
        sums part[CHAINS / WIDE] = {{0}};
        double total = 0;
        int i = 0;
        for (; i + CHAINS <= n; i += CHAINS)
            for (int k = 0; k < CHAINS / WIDE; k++)
                part[k] += __builtin_convertvector(*(const some *)(from + i + k * WIDE), sums);
        for (int k = 0; k < CHAINS; k++)
            total += part[k / WIDE][k % WIDE];
        for (; i < n; i++)
            total += (double)from[i];
        *(double *)to += total;
    } else
        for (int i = 0; i < n; i++)
            *(double *)(to + i * step) += (double)from[i];
}
#endif
