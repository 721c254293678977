/* Recognises the programs, and the paths of message passing, for which there is straight-line code. */
#include "sparseacc.h"
#include <string.h>

struct straight {
    int64_t length;
    int operands;
    int32_t columns[SA_MAX_OPERANDS];
    const int32_t *code;
};

struct shape {
    int64_t length;
    const int32_t *code;
};

#include "path_table.h"
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

int32_t sa_straight_path(const int32_t *code, int64_t length)
{
    for (int32_t i = 0; shapes[i].code; i++)
        if (shapes[i].length == length && !memcmp(shapes[i].code, code, (size_t)length * sizeof *code))
            return i + 1;
    return 0;
}
