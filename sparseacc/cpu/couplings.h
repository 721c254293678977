/* A rule that is made of couplings, each by its straight-line code. */

/* One of them, on the columns of the rule. As for all straight-line code, `lines` are fetched ahead with every vector. */
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
    const int vectors = (rows + LANES - 1) / LANES;
    for (int32_t i = 0, turns = p->couplings * vectors; i < p->couplings; i++, turns -= vectors)
        run_coupling(&p->coupling[i], views, rows, ahead, (ahead->lines + turns - 1) / turns);
}

/* Rows of an output too long for a tile in the L1 cache are written as whole cache lines.
 *
 * Every lane takes as many neighbouring rows as end at a cache line if they begin at one, one after the other. So the
 * columns of all lanes follow each other from row to row without a gap, and whenever there are LINE of them more, each
 * lane has a line of memory more, which goes past the caches at once. Only one row a lane is ever kept. */
enum { LINE = 64 / sizeof(REAL), ACROSS = 2 * LANES };

/* Rows of an output that are not rotated (rotate.h), and so do not go past the caches as a tile. */
static int goes_in_lines(const sa_batch *batch)
{
    return batch->ndim == 1 && in_whole_rows(batch) && !rotates(batch->program->columns[2]);
}

/* Of the columns of a lane's row, of those left of the row before, and of both inputs. */
static int64_t numbers_for_lines(const sa_program *p)
{
    return (p->columns[0] + p->columns[1] + LINE + p->columns[2]) * ACROSS;
}

/* A line of every lane, `apart` bytes from each to the next, of columns ACROSS numbers long. */
static void write_lines(const REAL *from, char *to, int64_t apart)
{
    for (int lane = 0; lane < ACROSS; lane += QUAD, from += QUAD)
        for (int c = 0; c < LINE; c += LANES) {
            VEC v[QUAD];
            for (int q = 0; q < QUAD; q++)
                v[q] = load_groups((const char *)(from + (c + q) * ACROSS), QUAD * ACROSS * (int)sizeof(REAL));
            transpose(v);
            for (int q = 0; q < QUAD; q++)
                STREAM(to + (lane + q) * apart + c * (int)sizeof(REAL), v[q]);
        }
}

/* ACROSS lanes of `rows` rows each, contiguous at `data`. */
static void block_of_lines(const sa_program *p, char *const *data, int rows, REAL *numbers, struct sa_ahead *ahead)
{
    const int64_t size = sizeof(REAL), n = p->columns[2];
    REAL *const inputs[] = {numbers, numbers + p->columns[0] * ACROSS};
    REAL *const output = inputs[1] + (p->columns[1] + LINE) * ACROSS, *from = output;
    const struct view views[] = {
        {(char *)inputs[0], ACROSS * size, 1, 0},
        {(char *)inputs[1], ACROSS * size, 1, 0},
        {(char *)output, ACROSS * size, 1, 0},
    };
    char *to = data[2];
    int64_t vectors = (int64_t)rows * p->couplings * ACROSS / LANES;
    for (int row = 0; row < rows; row++) {
        for (int o = 0; o < 2; o++)
            transpose_in(data[o] + row * p->columns[o] * size, rows * p->columns[o] * size, p->columns[o], inputs[o],
                         ACROSS, ACROSS);
        for (int32_t i = 0; i < p->couplings; i++, vectors -= ACROSS / LANES) {
            const sa_coupling *coupling = &p->coupling[i];
            run_coupling(coupling, views, ACROSS, ahead, (ahead->lines + vectors - 1) / vectors);
            const int64_t finished = i + 1 < p->couplings ? coupling[1].begin[2] : n;
            for (; output + finished * ACROSS - from >= LINE * ACROSS; from += LINE * ACROSS, to += SA_LINE)
                write_lines(from, to, rows * n * size);
        }
        const int64_t left = output + n * ACROSS - from;
        from = memmove(output - left, from, (size_t)left * sizeof(REAL));
    }
}

/* As many rows of the part as make whole blocks. */
static void run_lines(const sa_batch *batch, struct walk *walk, REAL *numbers)
{
    const sa_program *p = batch->program;
    struct sa_ahead ahead;
    int rows = LINE; /* of a lane: as few as end at a cache line */
    while (rows % 2 == 0 && p->columns[2] * rows / 2 % LINE == 0)
        rows /= 2;
    const int block = ACROSS * rows;
    while (walk->rows >= block) {
        const struct segment now = next_segment(walk, batch, block);
        sa_ahead_clear(&ahead);
        for (int o = 0; o < 2 && walk->rows >= block; o++)
            sa_ahead_add(&ahead, walk->data[o], block * p->columns[o] * (int64_t)sizeof(REAL));
        block_of_lines(p, now.data, rows, numbers, &ahead);
    }
}
