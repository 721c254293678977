/* Between arrays of any strides and the columns of a tile. Addresses may be unaligned. */

/* Of transpose_in, whole vectors of rows from row r on, n columns at a time; where it ends. */
INLINE int pieces_in(const char *from, int64_t step, int64_t columns, REAL *to, int64_t height, int r, int rows,
                     const int n)
{
    const int64_t size = sizeof(REAL);
    for (; r + LANES <= rows; r += LANES)
        for (int64_t c = 0; c < columns; c += n) {
            if (c + n > columns)
                c = columns - n; /* the last piece overlaps the one before it */
            transpose_piece(from + r * step + c * size, step, (char *)(to + c * height + r), height * size, n);
        }
    return r;
}

/* rows x columns numbers, each row's contiguous and `step` bytes after the one before, to columns `height` apart. */
static void transpose_in(const char *from, int64_t step, int64_t columns, REAL *to, int64_t height, int rows)
{
    int r = step == columns * (int64_t)sizeof(REAL) ? rotate_in(from, columns, to, height, rows) : 0;
    if (columns >= PIECE)
        r = pieces_in(from, step, columns, to, height, r, rows, PIECE);
    else if (columns >= QUAD)
        r = pieces_in(from, step, columns, to, height, r, rows, QUAD);
    for (; r < rows; r++)
        for (int64_t c = 0; c < columns; c++)
            memcpy(to + c * height + r, from + r * step + c * (int64_t)sizeof(REAL), sizeof(REAL));
}

/* Of transpose_out, rows of at least LANES numbers from row r on, n at a time: each as whole vectors; where it ends. */
INLINE int whole_rows_out(const REAL *from, int64_t height, int64_t columns, char *to, int64_t step, int r, int rows,
                          const int n)
{
    const int64_t size = sizeof(REAL);
    for (; r + n <= rows; r += n)
        for (int64_t c = 0; c < columns; c += LANES) {
            if (c + LANES > columns)
                c = columns - LANES; /* the last vector overlaps the one before it */
            transpose_piece((const char *)(from + c * height + r), height * size, to + r * step + c * size, step, n);
        }
    return r;
}

static void transpose_out(const REAL *from, int64_t height, int64_t columns, char *to, int64_t step, int rows,
                          int past_cache)
{
    int r = step == columns * (int64_t)sizeof(REAL) ? rotate_out(from, height, columns, to, rows, past_cache) : 0;
    if (columns >= LANES) {
        r = whole_rows_out(from, height, columns, to, step, r, rows, PIECE);
        r = whole_rows_out(from, height, columns, to, step, r, rows, QUAD);
    }
    if (columns >= QUAD)
        for (; r + LANES <= rows; r += LANES)
            for (int64_t c = 0; c < columns; c += QUAD) {
                if (c + QUAD > columns)
                    c = columns - QUAD;
                VEC v[QUAD];
                for (int q = 0; q < QUAD; q++)
                    v[q] = *(const vec_any *)(from + (c + q) * height + r);
                transpose(v);
                for (int q = 0; q < QUAD; q++)
                    store_groups(v[q], to + (r + q) * step + c * (int64_t)sizeof(REAL), QUAD * step);
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
enum { WIDTH = 64 };

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

static inline int64_t stored_size(const sa_program *p, int reduced)
{
    return reduced ? 8 : p->dtype == SA_FLOAT16 || p->dtype == SA_BFLOAT16 ? 2 : (int64_t)sizeof(REAL);
}

/* An operand's rows of a tile in as few runs as its strides allow. */
static int runs_of(const struct tile *tile, int o, int64_t step)
{
    struct run *const run = tile->run;
    int n = 0;
    for (int s = 0; s < tile->segments; s++) {
        const struct segment *segment = &tile->segment[s];
        if (n > 0 && segment->data[o] == run[n - 1].data + run[n - 1].rows * step)
            run[n - 1].rows += segment->rows;
        else
            run[n++] = (struct run){segment->lane, segment->rows, segment->data[o]};
    }
    return n;
}

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
    if (dtype == SA_FLOAT16 || dtype == SA_BFLOAT16 || step != sizeof(REAL)) {
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

/* Where a column begins. */
static inline int64_t offset_of(const sa_program *p, const sa_operand *operand, int64_t column, int64_t size)
{
    return p->planes == 1 ? column * operand->component : column / 2 * operand->component + column % 2 * size;
}

/* Whether an operand's rows are contiguous numbers: then a tile of it is a transpose, else its columns are copied. */
static int lies_in_rows(const sa_operand *operand, int64_t step, int64_t size, int planes)
{
    return operand->component == size * planes && step != size;
}

/* Whether an operand's columns are in memory as vectors, so that a tile of one segment needs no copy of them. */
static int lies_in_vectors(const sa_batch *batch, int o)
{
    const sa_program *p = batch->program;
    return batch->operand[o].stride[batch->ndim - 1] == sizeof(REAL) && p->planes == 1 &&
           stored_size(p, 0) == sizeof(REAL) && !batch->operand[o].reduced;
}

/* Whether all operands are contiguous rows, enough of them in the innermost dimension. */
static int in_whole_rows(const sa_batch *batch)
{
    const sa_program *p = batch->program;
    const int64_t last = batch->ndim - 1, size = sizeof(REAL);
    int whole = p->planes == 1 && stored_size(p, 0) == size && (last == 0 || batch->shape[last] >= 4 * LANES);
    for (int o = 0; o < p->n_inputs + p->n_outputs; o++) {
        const sa_operand *operand = &batch->operand[o];
        whole &= operand->stride[last] == p->columns[o] * size && !operand->reduced;
        whole &= operand->component == size || p->columns[o] == 1;
    }
    return whole;
}

/* Operand o of a tile into columns, the padding of an incomplete vector with zeros. */
static void gather(const sa_batch *batch, int o, const struct tile *tile, REAL *to, int64_t height)
{
    REAL *const first = to;
    const sa_program *p = batch->program;
    const sa_operand *operand = &batch->operand[o];
    const int64_t columns = p->columns[o], step = operand->stride[batch->ndim - 1], size = stored_size(p, 0);
    const int runs = runs_of(tile, o, step);
    const struct run *const run = tile->run;
    if (lies_in_rows(operand, step, size, p->planes))
        for (int i = 0; i < runs; i++)
            if (size == sizeof(REAL))
                transpose_in(run[i].data, step, columns, to + run[i].lane, height, run[i].rows);
            else
                convert_in(p->dtype, run[i].data, step, columns, to + run[i].lane, height, run[i].rows);
    else
        for (int64_t c = 0; c < columns; c++, to += height) {
            const int64_t offset = offset_of(p, operand, c, size);
            if (size != sizeof(REAL) || (step != 0 && step != size))
                for (int i = 0; i < runs; i++)
                    read(p->dtype, run[i].data + offset, step, to + run[i].lane, run[i].rows);
            else if (step == 0)
                for (int i = 0; i < runs; i++)
                    fill(run[i].data + offset, to + run[i].lane, run[i].rows);
            else
                for (int i = 0; i < runs; i++)
                    copy_in(run[i].data + offset, to + run[i].lane, run[i].rows);
        }
    if (tile->rows % LANES)
        for (int64_t c = 0; c < columns; c++)
            memset(first + c * height + tile->rows, 0, (size_t)(LANES - tile->rows % LANES) * sizeof(REAL));
}

/* The columns of an input: where they are, if they are vectors that begin at a cache line (or every access would touch
 * two); one vector for all rows, if they share it; else gathered into the tile. */
static struct view input(const sa_batch *batch, int o, const struct tile *tile, REAL *to, int64_t height, int once)
{
    const sa_program *p = batch->program;
    const sa_operand *operand = &batch->operand[o];
    const int64_t size = stored_size(p, 0), rows = tile->rows;
    const int whole = tile->segments == 1 && rows % LANES == 0;
    char *data = tile->segment[0].data[o];
    if (whole && lies_in_vectors(batch, o)) {
        if (once || ((uintptr_t)data | (uintptr_t)operand->component) % sizeof(VEC) == 0)
            return (struct view){data, operand->component, 1, 0};
        if (operand->component == rows * size) {
            copy_in(data, to, p->columns[o] * rows);
            return (struct view){(char *)to, rows * size, 1, 0};
        }
    }
    /* Sums need zeros in the padding. */
    if (tile->segments == 1 && operand->stride[batch->ndim - 1] == 0 && size == sizeof(REAL) &&
        (whole || !p->contraction)) {
        const int64_t shared = once ? LANES : height < MOST * LANES ? height : MOST * LANES;
        for (int64_t c = 0; c < p->columns[o]; c++)
            fill(data + offset_of(p, operand, c, size), to + c * shared, shared);
        return (struct view){(char *)to, shared * size, 0, 0};
    }
    gather(batch, o, tile, to, height);
    return (struct view){(char *)to, height * (int64_t)sizeof(REAL), 1, 0};
}

/* Where the columns of an output go: where they belong, or to the tile; `staged` those that go past the caches. */
static struct view output(const sa_batch *batch, int o, const struct tile *tile, REAL *to, int64_t height,
                          int past_cache, int staged)
{
    const sa_operand *operand = &batch->operand[o];
    char *data = tile->segment[0].data[o];
    past_cache &= ((uintptr_t)data | (uintptr_t)operand->component) % sizeof(VEC) == 0;
    if (tile->segments == 1 && tile->rows % LANES == 0 && lies_in_vectors(batch, o) && batch->program->complete[o] &&
        !(past_cache && staged))
        return (struct view){data, operand->component, 1, past_cache};
    return (struct view){(char *)to, height * (int64_t)sizeof(REAL), 1, 0};
}

/* The finished columns of an output, from a tile; added where the output is reduced. */
static void scatter(const sa_batch *batch, int o, const struct tile *tile, const REAL *from, int64_t height,
                    int past_cache)
{
    const sa_program *p = batch->program;
    const sa_operand *operand = &batch->operand[o];
    const int64_t columns = p->columns[o], step = operand->stride[batch->ndim - 1];
    const int64_t size = stored_size(p, operand->reduced);
    const int runs = runs_of(tile, o, step);
    const struct run *const run = tile->run;
    if (!operand->reduced && lies_in_rows(operand, step, size, p->planes)) {
        for (int i = 0; i < runs; i++)
            if (size == sizeof(REAL))
                transpose_out(from + run[i].lane, height, columns, run[i].data, step, run[i].rows, past_cache);
            else
                convert_out(p->dtype, from + run[i].lane, height, columns, run[i].data, step, run[i].rows);
        return;
    }
    for (int64_t c = 0; c < columns; c++) {
        const int64_t offset = offset_of(p, operand, c, size);
        for (int i = 0; i < runs; i++)
            if (operand->reduced)
                add_out(from + c * height + run[i].lane, run[i].data + offset, step, run[i].rows);
            else
                copy_out(p->dtype, from + c * height + run[i].lane, run[i].data + offset, step, run[i].rows,
                         past_cache);
    }
}

/* Notes the memory of columns that are vectors of `rows` numbers, `apart` bytes from each to the next. */
static inline void columns_ahead(const char *at, int64_t rows, int64_t columns, int64_t apart, struct sa_ahead *ahead)
{
    const int64_t bytes = rows * (int64_t)sizeof(REAL);
    if (apart == bytes)
        sa_ahead_add(ahead, at, columns * bytes);
    else
        for (int64_t c = 0; c < columns; c++)
            sa_ahead_add(ahead, at + c * apart, bytes);
}

/* Notes the memory that an operand's rows of a tile take, where it is dense and not written past the caches. */
static void look_ahead(const sa_batch *batch, int o, const struct tile *tile, int past_cache, struct sa_ahead *ahead)
{
    const sa_program *p = batch->program;
    const sa_operand *operand = &batch->operand[o];
    const int64_t columns = p->columns[o], step = operand->stride[batch->ndim - 1];
    const int64_t size = stored_size(p, operand->reduced);
    const int runs = runs_of(tile, o, step);
    const struct run *const run = tile->run;
    const int by_rows = lies_in_rows(operand, step, size, p->planes);
    const int whole = by_rows ? step == columns * size && rotates(columns) : step == size;
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
