/* A rule that is made of couplings, each by its straight-line code. */
#ifndef SPARSEACC_COUPLINGS_H
#define SPARSEACC_COUPLINGS_H
#include "ahead.h"
#include "product.h"
#include "sparseacc.h"
#include "straight.h"

static int by_couplings(const sa_program *p)
{
    return BY_COUPLINGS && p->couplings > 0;
}

/* One of them, on the columns of the rule. As for all straight-line code, `lines` are fetched ahead with every
 * vector. */
static void run_coupling(const sa_coupling *coupling, const struct view *views, int rows, struct sa_ahead *ahead,
                         int64_t lines)
{
    struct view own[3];
    for (int o = 0; o < 3; o++) {
        own[o] = views[o];
        own[o].base += coupling->begin[o] * own[o].step;
    }
    straight_columns_for(coupling->straight)(own, rows, coupling->coef, ahead, lines);
}

static void all_couplings(const sa_program *p, const struct view *views, int rows, struct sa_ahead *ahead)
{
    const int64_t lines = sa_ahead_each(ahead, p->couplings * ((rows + LANES - 1) / LANES));
    for (int32_t i = 0; i < p->couplings; i++)
        run_coupling(&p->coupling[i], views, rows, ahead, lines);
}
#endif
