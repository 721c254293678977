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

enum { STRAIGHTS = sizeof straights / sizeof *straights };

int32_t sa_straight(int operands, const int32_t *columns, const int32_t *code, int64_t length)
{
    for (int32_t i = 0; i < STRAIGHTS; i++) {
        const struct straight *s = &straights[i];
        if (s->length == length && s->operands == operands &&
            !memcmp(s->columns, columns, (size_t)operands * sizeof *columns) &&
            !memcmp(s->code, code, (size_t)length * sizeof *code))
            return i + 1;
    }
    return 0;
}

int32_t sa_straights(void)
{
    return STRAIGHTS;
}
