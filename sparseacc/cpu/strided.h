/* Between arrays of any strides and the columns of a tile. Addresses may be unaligned. */

/* rows x columns numbers, each row's contiguous and `step` bytes after the one before, to columns `height` apart. */
static void NAME(transpose_in)(const char *from, int64_t step, int64_t columns, REAL *to, int64_t height, int rows)
{
    int r = step == columns * (int64_t)sizeof(REAL) ? NAME(rotate_in)(from, columns, to, height, rows) : 0;
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

/* Rows of at least LANES numbers, QUAD at a time: each as whole vectors. */
static void NAME(whole_rows_out)(const REAL *from, int64_t height, int64_t columns, char *to, int64_t step, int rows)
{
    for (int r = 0; r < rows; r += QUAD)
        for (int64_t c = 0; c < columns; c += LANES) {
            if (c + LANES > columns)
                c = columns - LANES; /* the last vector overlaps the one before it */
            VEC v[QUAD];
            for (int q = 0; q < QUAD; q++)
                v[q] = NAME(load_groups)((const char *)(from + (c + q) * height + r),
                                         QUAD * height * (int64_t)sizeof(REAL));
            NAME(transpose)(v);
            for (int q = 0; q < QUAD; q++)
                *(NAME(vec_any) *)(to + (r + q) * step + c * (int64_t)sizeof(REAL)) = v[q];
        }
}

static void NAME(transpose_out)(const REAL *from, int64_t height, int64_t columns, char *to, int64_t step, int rows,
                                int past_cache)
{
    int r = step == columns * (int64_t)sizeof(REAL) ? NAME(rotate_out)(from, height, columns, to, rows, past_cache) : 0;
    if (columns >= LANES) {
        const int whole = (rows - r) / QUAD * QUAD;
        NAME(whole_rows_out)(from + r, height, columns, to + r * step, step, whole);
        r += whole;
    }
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
    else
        WRITE(REAL, step, SAME)
}

/* 16-bit numbers pass through a small block of rows in computation precision. */
enum { NAME(WIDTH) = 64 };

static void NAME(convert_in)(int dtype, const char *from, int64_t step, int64_t columns, REAL *to, int64_t height,
                             int rows)
{
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

static void NAME(convert_out)(int dtype, const REAL *from, int64_t height, int64_t columns, char *to, int64_t step,
                              int rows)
{
    REAL block[LANES][NAME(WIDTH)];
    for (int64_t c = 0; c < columns; c += NAME(WIDTH)) {
        const int64_t width = columns - c < NAME(WIDTH) ? columns - c : NAME(WIDTH);
        for (int r = 0; r < rows; r += LANES) {
            const int n = rows - r < LANES ? rows - r : LANES;
            NAME(transpose_out)(from + c * height + r, height, width, (char *)block, sizeof block[0], n, 0);
            for (int i = 0; i < n; i++)
                NAME(write)(dtype, block[i], to + (r + i) * step + c * 2, 2, width);
        }
    }
}

static inline int64_t NAME(stored_size)(const sa_program *p, int reduced)
{
    return reduced ? 8 : p->dtype == SA_FLOAT16 || p->dtype == SA_BFLOAT16 ? 2 : (int64_t)sizeof(REAL);
}

/* A piece of an operand's column: its rows lie evenly, from lane `lane` of the tile on. */
struct NAME(run) {
    int lane, rows;
    char *data;
};

/* An operand's rows of a tile in as few runs as its strides allow. */
static int NAME(runs)(const struct NAME(tile) *tile, int o, int64_t step, struct NAME(run) *run)
{
    int n = 0;
    for (int s = 0; s < tile->segments; s++) {
        const struct NAME(segment) *segment = &tile->segment[s];
        if (n > 0 && segment->data[o] == run[n - 1].data + run[n - 1].rows * step)
            run[n - 1].rows += segment->rows;
        else
            run[n++] = (struct NAME(run)){segment->lane, segment->rows, segment->data[o]};
    }
    return n;
}

/* One vector. Held, lest the loop around it becomes a call of memmove, which is slow for the few that runs have. */
static inline __attribute__((always_inline)) void NAME(move)(void *to, const void *from)
{
    VEC v = *(const NAME(vec_any) *)from;
    HOLD(v);
    *(NAME(vec_any) *)to = v;
}

static inline __attribute__((always_inline)) void NAME(copy_in)(const char *from, REAL *to, int64_t n)
{
    int64_t i = NAME(copy_unaligned)(from, to, n);
    for (; i + LANES <= n; i += LANES)
        NAME(move)(to + i, from + i * (int64_t)sizeof(REAL));
    for (; i + QUAD <= n; i += QUAD)
        *(NAME(quad_any) *)(to + i) = *(const NAME(quad_any) *)(from + i * (int64_t)sizeof(REAL));
    for (; i < n; i++)
        memcpy(to + i, from + i * (int64_t)sizeof(REAL), sizeof(REAL));
}

/* The same number n times, by whole vectors: what goes over the end is written again, or in the column to spare. */
static inline __attribute__((always_inline)) void NAME(fill)(const char *from, REAL *to, int64_t n)
{
    REAL x;
    memcpy(&x, from, sizeof x);
    const VEC v = x - (VEC){0};
    for (int64_t i = 0; i < n; i += LANES)
        *(NAME(vec_any) *)(to + i) = v;
}

static inline __attribute__((always_inline)) void
NAME(copy_out)(int dtype, const REAL *from, char *to, int64_t step, int64_t n, int past_cache)
{
    if (dtype == SA_FLOAT16 || dtype == SA_BFLOAT16 || step != sizeof(REAL)) {
        NAME(write)(dtype, from, to, step, n);
        return;
    }
    int64_t i = 0;
    if (past_cache && (uintptr_t)to % sizeof(VEC) == 0)
        for (; i + LANES <= n; i += LANES)
            STREAM(to + i * (int64_t)sizeof(REAL), *(const NAME(vec_any) *)(from + i));
    for (; i + LANES <= n; i += LANES)
        NAME(move)(to + i * (int64_t)sizeof(REAL), from + i);
    for (; i + QUAD <= n; i += QUAD)
        *(NAME(quad_any) *)(to + i * (int64_t)sizeof(REAL)) = *(const NAME(quad_any) *)(from + i);
    for (; i < n; i++)
        memcpy(to + i * (int64_t)sizeof(REAL), from + i, sizeof(REAL));
}

/* sum += the n numbers, or each to its own sum. */
static void NAME(add_out)(const REAL *from, char *to, int64_t step, int n)
{
    enum { CHAINS = 8 };
    if (step == 0) {
        double part[CHAINS] = {0}, total = 0;
        int i = 0;
        for (; i + CHAINS <= n; i += CHAINS)
            for (int k = 0; k < CHAINS; k++)
                part[k] += (double)from[i + k];
        for (int k = 0; k < CHAINS; k++)
            total += part[k];
        for (; i < n; i++)
            total += (double)from[i];
        *(double *)to += total;
    } else
        for (int i = 0; i < n; i++)
            *(double *)(to + i * step) += (double)from[i];
}

/* Where a column begins. */
static inline int64_t NAME(offset)(const sa_program *p, const sa_operand *operand, int64_t column, int64_t size)
{
    return p->planes == 1 ? column * operand->component : column / 2 * operand->component + column % 2 * size;
}

/* Whether an operand's rows are contiguous numbers: then a tile of it is a transpose, else its columns are copied. */
static int NAME(by_rows)(const sa_operand *operand, int64_t step, int64_t size, int planes)
{
    return operand->component == size * planes && step != size;
}

/* Whether an operand's columns are in memory as vectors, so that a tile of one segment needs no copy of them. */
static int NAME(lies_in_vectors)(const sa_batch *batch, int o)
{
    const sa_program *p = batch->program;
    return batch->operand[o].stride[batch->ndim - 1] == sizeof(REAL) && p->planes == 1 &&
           NAME(stored_size)(p, 0) == sizeof(REAL) && !batch->operand[o].reduced;
}

/* Operand o of a tile into columns, the padding of an incomplete vector with zeros. */
static void NAME(gather)(const sa_batch *batch, int o, const struct NAME(tile) *tile, REAL *to, int64_t height)
{
    REAL *const first = to;
    const sa_program *p = batch->program;
    const sa_operand *operand = &batch->operand[o];
    const int64_t columns = p->columns[o], step = operand->stride[batch->ndim - 1], size = NAME(stored_size)(p, 0);
    struct NAME(run) run[MOST_ROWS];
    const int runs = NAME(runs)(tile, o, step, run);
    if (NAME(by_rows)(operand, step, size, p->planes))
        for (int i = 0; i < runs; i++)
            if (size == sizeof(REAL))
                NAME(transpose_in)(run[i].data, step, columns, to + run[i].lane, height, run[i].rows);
            else
                NAME(convert_in)(p->dtype, run[i].data, step, columns, to + run[i].lane, height, run[i].rows);
    else
        for (int64_t c = 0; c < columns; c++, to += height) {
            const int64_t offset = NAME(offset)(p, operand, c, size);
            if (size != sizeof(REAL) || (step != 0 && step != size))
                for (int i = 0; i < runs; i++)
                    NAME(read)(p->dtype, run[i].data + offset, step, to + run[i].lane, run[i].rows);
            else if (step == 0)
                for (int i = 0; i < runs; i++)
                    NAME(fill)(run[i].data + offset, to + run[i].lane, run[i].rows);
            else
                for (int i = 0; i < runs; i++)
                    NAME(copy_in)(run[i].data + offset, to + run[i].lane, run[i].rows);
        }
    if (tile->rows % LANES)
        for (int64_t c = 0; c < columns; c++)
            memset(first + c * height + tile->rows, 0, (size_t)(LANES - tile->rows % LANES) * sizeof(REAL));
}

/* The columns of an input: where they are, if they are vectors that begin at a cache line (or every access would touch
 * two); one vector for all rows, if they share it; else gathered into the tile. */
static struct NAME(view) NAME(input)(const sa_batch *batch, int o, const struct NAME(tile) *tile, REAL *to,
                                     int64_t height)
{
    const sa_program *p = batch->program;
    const sa_operand *operand = &batch->operand[o];
    const int64_t size = NAME(stored_size)(p, 0), rows = tile->rows;
    const int whole = tile->segments == 1 && rows % LANES == 0;
    char *data = tile->segment[0].data[o];
    if (whole && NAME(lies_in_vectors)(batch, o)) {
        if (((uintptr_t)data | (uintptr_t)operand->component) % sizeof(VEC) == 0)
            return (struct NAME(view)){data, operand->component, 1, 0};
        if (operand->component == rows * size) {
            NAME(copy_in)(data, to, p->columns[o] * rows);
            return (struct NAME(view)){(char *)to, rows * size, 1, 0};
        }
    }
    /* Sums need zeros in the padding. */
    if (tile->segments == 1 && operand->stride[batch->ndim - 1] == 0 && size == sizeof(REAL) &&
        (whole || !p->contraction)) {
        const int64_t shared = height < MOST * LANES ? height : MOST * LANES;
        for (int64_t c = 0; c < p->columns[o]; c++)
            NAME(fill)(data + NAME(offset)(p, operand, c, size), to + c * shared, shared);
        return (struct NAME(view)){(char *)to, shared * size, 0, 0};
    }
    NAME(gather)(batch, o, tile, to, height);
    return (struct NAME(view)){(char *)to, height * (int64_t)sizeof(REAL), 1, 0};
}

/* Where the columns of an output go: where they belong, or to the tile. */
static struct NAME(view) NAME(output)(const sa_batch *batch, int o, const struct NAME(tile) *tile, REAL *to,
                                      int64_t height, int past_cache)
{
    const sa_operand *operand = &batch->operand[o];
    char *data = tile->segment[0].data[o];
    if (tile->segments == 1 && tile->rows % LANES == 0 && NAME(lies_in_vectors)(batch, o) &&
        batch->program->complete[o])
        return (struct NAME(view)){
            data, operand->component, 1,
            past_cache && ((uintptr_t)data | (uintptr_t)operand->component) % sizeof(VEC) == 0};
    return (struct NAME(view)){(char *)to, height * (int64_t)sizeof(REAL), 1, 0};
}

/* The finished columns of an output, from a tile; added where the output is reduced. */
static void NAME(scatter)(const sa_batch *batch, int o, const struct NAME(tile) *tile, const REAL *from, int64_t height,
                          int past_cache)
{
    const sa_program *p = batch->program;
    const sa_operand *operand = &batch->operand[o];
    const int64_t columns = p->columns[o], step = operand->stride[batch->ndim - 1];
    const int64_t size = NAME(stored_size)(p, operand->reduced);
    struct NAME(run) run[MOST_ROWS];
    const int runs = NAME(runs)(tile, o, step, run);
    if (!operand->reduced && NAME(by_rows)(operand, step, size, p->planes)) {
        for (int i = 0; i < runs; i++)
            if (size == sizeof(REAL))
                NAME(transpose_out)(from + run[i].lane, height, columns, run[i].data, step, run[i].rows, past_cache);
            else
                NAME(convert_out)(p->dtype, from + run[i].lane, height, columns, run[i].data, step, run[i].rows);
        return;
    }
    for (int64_t c = 0; c < columns; c++) {
        const int64_t offset = NAME(offset)(p, operand, c, size);
        for (int i = 0; i < runs; i++)
            if (operand->reduced)
                NAME(add_out)(from + c * height + run[i].lane, run[i].data + offset, step, run[i].rows);
            else
                NAME(copy_out)(p->dtype, from + c * height + run[i].lane, run[i].data + offset, step, run[i].rows,
                               past_cache);
    }
}

/* Notes the memory that an operand's rows of a tile take, where it is dense and not written past the caches. */
static void NAME(look_ahead)(const sa_batch *batch, int o, const struct NAME(tile) *tile, int past_cache,
                             struct sa_ahead *ahead)
{
    const sa_program *p = batch->program;
    const sa_operand *operand = &batch->operand[o];
    const int64_t columns = p->columns[o], step = operand->stride[batch->ndim - 1];
    const int64_t size = NAME(stored_size)(p, operand->reduced);
    struct NAME(run) run[MOST_ROWS];
    const int runs = NAME(runs)(tile, o, step, run);
    const int by_rows = NAME(by_rows)(operand, step, size, p->planes);
    const int whole = by_rows ? step == columns * size && NAME(rotates)(columns) : step == size;
    if (past_cache && whole && !operand->reduced && size == sizeof(REAL) && (uintptr_t)run[0].data % SA_LINE == 0)
        return;
    for (int i = 0; i < runs; i++)
        if (step > 0 && step <= 2 * size * columns && operand->component == size * p->planes)
            sa_ahead_add(ahead, run[i].data, run[i].rows * step);
        else if (step == size * p->planes && operand->component == run[i].rows * step)
            sa_ahead_add(ahead, run[i].data, columns / p->planes * operand->component);
        else if (step == size * p->planes && run[i].rows * step >= 2 * SA_LINE)
            for (int64_t c = 0; c < columns / p->planes; c++)
                sa_ahead_add(ahead, run[i].data + c * operand->component, run[i].rows * step);
}

#undef READ
#undef WRITE
#undef SAME
