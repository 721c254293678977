/* Results that are sums. The kernel adds to float64, in a copy for each part of the batch that would meet others there.
 * Here the copies are allocated, added up in the order of the parts, and stored as the program stores its numbers: bit
 * for bit what NumPy makes of them (execution.py), so that a result does not tell who has computed it. */
#include "half.h"
#include "sparseacc.h"
#include <stdlib.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

/* The real numbers of an output that sums: it has no stride along what it sums over, and is not empty. */
static int64_t length(const sa_program *p, int o, int64_t ndim, const int64_t *shape, const int64_t *stride)
{
    int64_t numbers = p->columns[o];
    for (int64_t d = 0; d < ndim; d++)
        numbers *= stride[d] ? shape[d] : 1;
    return numbers;
}

/* One number: NumPy adds up its copies with eight accumulators. */
static void add_up_one(double *sums, int64_t planes, int64_t copies)
{
    enum { SUMS = 8 };
    const int64_t n = copies * planes, each = SUMS / planes;
    double total[2] = {0, 0}, r[SUMS];
    int64_t done = 0;
    if (n >= SUMS) {
        for (int i = 0; i < SUMS; i++)
            r[i] = sums[i];
        for (done = SUMS; done + SUMS <= n; done += SUMS)
            for (int i = 0; i < SUMS; i++)
                r[i] += sums[done + i];
        for (int64_t step = 1; step < each; step *= 2)
            for (int64_t i = 0; i < SUMS; i += 2 * step * planes)
                for (int64_t plane = 0; plane < planes; plane++)
                    r[i + plane] += r[i + step * planes + plane];
        for (int64_t plane = 0; plane < planes; plane++)
            total[plane] = r[plane];
    }
    for (; done < n; done++)
        total[done % planes] += sums[done];
    for (int64_t plane = 0; plane < planes; plane++)
        sums[plane] = total[plane];
}

static void add_up(double *sums, int64_t planes, int64_t numbers, int64_t copies)
{
    if (numbers == planes)
        add_up_one(sums, planes, copies);
    else
        for (int64_t copy = 1; copy < copies; copy++)
            for (int64_t i = 0; i < numbers; i++)
                sums[i] += sums[copy * numbers + i];
}

static void store(const sa_program *p, const double *sums, int64_t numbers, char *to)
{
    switch (p->dtype) {
#define STORE(number, stored, convert)                                                                                 \
    case number:                                                                                                       \
        for (int64_t i = 0; i < numbers; i++)                                                                          \
            ((stored *)to)[i] = convert(sums[i]);                                                                      \
        break;
#define STORE_NARROW(number, stored, name) STORE(number, stored, sa_##name##_of_double)
        STORE(SA_FLOAT32, float, (float))
        STORE(SA_FLOAT64, double, )
        EACH_NARROW(STORE_NARROW)
#undef STORE_NARROW
#undef STORE
    }
}

int sa_run_stored(const sa_call *call, char *const *operands)
{
    const sa_program *p = call->program;
    const int64_t *layout = call->layout, ndim = layout[0], parts = layout[2], *shape = layout + 3;
    const int all = p->n_inputs + p->n_outputs;
    char *given[SA_MAX_OPERANDS];
    int64_t numbers[SA_MAX_OPERANDS], copies[SA_MAX_OPERANDS];
    double *sums[SA_MAX_OPERANDS] = {0};
    int status = SA_OK;
    const int64_t *next = shape + ndim;
    for (int o = 0; o < all; o++, next += 3 + ndim) {
        given[o] = operands[o];
        if (o < p->n_inputs || !next[1])
            continue;
        numbers[o] = length(p, o, ndim, shape, next + 3);
        copies[o] = next[2] ? parts : 1;
        sums[o] = calloc((size_t)copies[o], (size_t)numbers[o] * sizeof(double));
        given[o] = (char *)sums[o];
        if (!sums[o] && numbers[o])
            status = SA_NO_MEMORY;
    }
    if (status == SA_OK)
        status = sa_run(call, given);
    for (int o = p->n_inputs; o < all; o++) {
        if (sums[o] && status == SA_OK) {
            add_up(sums[o], p->planes, numbers[o], copies[o]);
            store(p, sums[o], numbers[o], operands[o]);
        }
        free(sums[o]);
    }
    return status;
}

void sa_trim_memory(void)
{
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}
