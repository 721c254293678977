/* Between arrays of any strides and the columns of a tile. Addresses may be unaligned. */

/* rows x columns numbers, each row's contiguous and `step` bytes after the one before, to columns `height` apart. */
static void NAME(transpose_in)(const char *from, int64_t step, int64_t columns, REAL *to, int64_t height, int rows)
{
    int r = 0;
    if (columns >= QUAD)
        for (; r + LANES <= rows; r += LANES)
            for (int64_t c = 0; c < columns; c += QUAD) {
                if (c + QUAD > columns)
                    c = columns - QUAD; /* the last group overlaps the one before it */
                VEC v[QUAD];
                for (int q = 0; q < QUAD; q++)
                    v[q] = NAME(load_groups)(from + (r + q) * step + c * (int64_t)sizeof(REAL), QUAD * step);
                NAME(transpose)(v);
                for (int q = 0; q < QUAD; q++)
                    *(NAME(vec_any) *)(to + (c + q) * height + r) = v[q];
            }
    for (; r < rows; r++)
        for (int64_t c = 0; c < columns; c++)
            memcpy(to + c * height + r, from + r * step + c * (int64_t)sizeof(REAL), sizeof(REAL));
}

static void NAME(transpose_out)(const REAL *from, int64_t height, int64_t columns, char *to, int64_t step, int rows)
{
    int r = 0;
    if (columns >= QUAD)
        for (; r + LANES <= rows; r += LANES)
            for (int64_t c = 0; c < columns; c += QUAD) {
                if (c + QUAD > columns)
                    c = columns - QUAD;
                VEC v[QUAD];
                for (int q = 0; q < QUAD; q++)
                    v[q] = *(const NAME(vec_any) *)(from + (c + q) * height + r);
                NAME(transpose)(v);
                for (int q = 0; q < QUAD; q++)
                    NAME(store_groups)(v[q], to + (r + q) * step + c * (int64_t)sizeof(REAL), QUAD * step);
            }
    for (; r < rows; r++)
        for (int64_t c = 0; c < columns; c++)
            memcpy(to + r * step + c * (int64_t)sizeof(REAL), from + c * height + r, sizeof(REAL));
}

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

static void NAME(read)(int dtype, const char *restrict from, int64_t step, REAL *restrict to, int64_t n)
{
    if (dtype == SA_FLOAT16 && step == 2)
        READ(uint16_t, 2, sa_from_float16)
    else if (dtype == SA_FLOAT16)
        READ(uint16_t, step, sa_from_float16)
    else if (dtype == SA_BFLOAT16 && step == 2)
        READ(uint16_t, 2, sa_from_bfloat16)
    else if (dtype == SA_BFLOAT16)
        READ(uint16_t, step, sa_from_bfloat16)
    else if (step == sizeof(REAL))
        READ(REAL, (int64_t)sizeof(REAL), SAME)
    else
        READ(REAL, step, SAME)
}

static void NAME(write)(int dtype, const REAL *restrict from, char *restrict to, int64_t step, int64_t n)
{
    if (dtype == SA_FLOAT16 && step == 2)
        WRITE(uint16_t, 2, sa_to_float16)
    else if (dtype == SA_FLOAT16)
        WRITE(uint16_t, step, sa_to_float16)
    else if (dtype == SA_BFLOAT16 && step == 2)
        WRITE(uint16_t, 2, sa_to_bfloat16)
    else if (dtype == SA_BFLOAT16)
        WRITE(uint16_t, step, sa_to_bfloat16)
    else if (step == sizeof(REAL))
        WRITE(REAL, (int64_t)sizeof(REAL), SAME)
    else
        WRITE(REAL, step, SAME)
}

/* 16-bit numbers pass through a small block of rows in computation precision. */
enum { NAME(WIDTH) = 64 };

static void NAME(convert_in)(int dtype, const char *from, int64_t step, int64_t columns, REAL *to, int64_t height, int
rows) {
    REAL block[LANES][NAME(WIDTH)];
    for (int64_t c = 0; c < columns; c += NAME(WIDTH)) {
        const int64_t width = columns - c < NAME(WIDTH) ? columns - c : NAME(WIDTH);
        for (int r = 0; r < rows; r += LANES) {
            const int n = rows - r < LANES ? rows - r : LANES;
            for (int i = 0; i < n; i++)
                NAME(read)(dtype, from + (r + i) * step + c * 2, 2, block[i], width);
            NAME(transpose_in)((const char *)block, sizeof block[0], width, to + c * height + r, height, n);
        }
    }
}

static void NAME(convert_out)(int dtype, const REAL *from, int64_t height, int64_t columns, char *to, int64_t step, int
rows) {
    REAL block[LANES][NAME(WIDTH)];
    for (int64_t c = 0; c < columns; c += NAME(WIDTH)) {
        const int64_t width = columns - c < NAME(WIDTH) ? columns - c : NAME(WIDTH);
        for (int r = 0; r < rows; r += LANES) {
            const int n = rows - r < LANES ? rows - r : LANES;
            NAME(transpose_out)(from + c * height + r, height, width, (char *)block, sizeof block[0], n);
            for (int i = 0; i < n; i++)
                NAME(write)(dtype, block[i], to + (r + i) * step + c * 2, 2, width);
        }
    }
}

static inline int64_t NAME(stored_size)(const sa_program *p, int reduced)
{
    return reduced ? 8 : p->dtype == SA_FLOAT16 || p->dtype == SA_BFLOAT16 ? 2 : (int64_t)sizeof(REAL);
}

/* `columns` columns of an input, for rows `step` bytes apart, into the tile. */
static void NAME(gather)(const sa_program *p, const sa_operand *operand, int64_t step, const char *from,
                         int64_t columns, REAL *to, int64_t height, int rows)
{
    const int64_t size = NAME(stored_size)(p, 0);
    if (operand->component == size * p->planes && step != size) {
        if (size == sizeof(REAL))
            NAME(transpose_in)(from, step, columns, to, height, rows);
        else
            NAME(convert_in)(p->dtype, from, step, columns, to, height, rows);
        return;
    }
    for (int64_t c = 0; c < columns; c++)
        NAME(read)(p->dtype, from + c / p->planes * operand->component + c % p->planes * size, step,
                   to + c * height, rows);
}

/* Finished columns first <= c < first + columns of an output, from the tile; sums where the output is reduced. */
static void NAME(scatter)(const sa_program *p, const sa_operand *operand, int64_t step, char *to, int64_t first,
                          int64_t columns, const REAL *from, int64_t height, int rows)
{
    const int64_t size = NAME(stored_size)(p, operand->reduced);
    to += first / p->planes * operand->component;
    if (operand->reduced) {
        for (int64_t c = 0; c < columns; c++, from += height) {
            char *sum = to + c / p->planes * operand->component + c % p->planes * size;
            if (step == 0) {
                double total = 0;
                for (int r = 0; r < rows; r++)
                    total += (double)from[r];
                *(double *)sum += total;
            } else
                for (int r = 0; r < rows; r++)
                    *(double *)(sum + r * step) += (double)from[r];
        }
    } else if (operand->component == size * p->planes && step != size) {
        if (size == sizeof(REAL))
            NAME(transpose_out)(from, height, columns, to, step, rows);
        else
            NAME(convert_out)(p->dtype, from, height, columns, to, step, rows);
    } else
        for (int64_t c = 0; c < columns; c++)
            NAME(write)(p->dtype, from + c * height,
                        to + c / p->planes * operand->component + c % p->planes * size, step, rows);
}

#undef READ
#undef WRITE
#undef SAME
