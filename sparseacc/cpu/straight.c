/* Recognises the programs for which there is straight-line code. */
#include "sparseacc.h"
#include <string.h>

struct straight {
    int64_t length;
    int operands;
    int32_t columns[SA_MAX_OPERANDS];
    const int32_t *code;
};

#include "straight_table.h"

int32_t sa_straight(const sa_program *p, int64_t length)
{
    if (p->planes != 1 || p->contraction)
        return 0;
    for (size_t i = 0; i < sizeof straights / sizeof *straights; i++) {
        const struct straight *s = &straights[i];
        if (s->length == length && s->operands == p->n_inputs + p->n_outputs &&
            !memcmp(s->columns, p->columns, sizeof s->columns) &&
            !memcmp(s->code, p->code, (size_t)length * sizeof *p->code))
            return (int32_t)i + 1;
    }
    return 0;
}
