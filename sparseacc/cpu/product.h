/* The rule's arithmetic over a tile, `vectors` vectors of its columns at a time. Columns are 1 << shift bytes apart. */

struct NAME(program) {
    const int32_t *code;
    const REAL *coef;
};

#define COLUMN(c) ((const VEC *)((const char *)tile + ((int64_t)(c) << shift)))
#define SPREAD(x) ((x) - (VEC){0})

/* n quads: first += C1 (a b +- a' b'), second += C2 (a b' +- a' b). Four columns read serve eight factors. */
static inline __attribute__((always_inline)) struct NAME(program)
NAME(quads)(struct NAME(program) at, int32_t n, const REAL *tile, int shift, VEC first[4], VEC second[4],
            const int vectors, const int minus1, const int minus2)
{
    for (; n > 0; n--, at.code += 4, at.coef += 2) {
        const VEC *a1 = COLUMN(at.code[0]), *a2 = COLUMN(at.code[1]);
        const VEC *b1 = COLUMN(at.code[2]), *b2 = COLUMN(at.code[3]);
        const VEC c1 = SPREAD(at.coef[0]), c2 = SPREAD(at.coef[1]);
        for (int v = 0; v < vectors; v++) {
            VEC a = a1[v], aa = a2[v], b = b1[v], bb = b2[v];
            HOLD(a);
            HOLD(aa);
            HOLD(b);
            HOLD(bb);
            const VEC p = a * b, q = a * bb;
            first[v] = FMA(c1, minus1 ? FNMA(aa, bb, p) : FMA(aa, bb, p), first[v]);
            second[v] = FMA(c2, minus2 ? FNMA(aa, b, q) : FMA(aa, b, q), second[v]);
        }
    }
    return at;
}

/* n terms: sum += C a b. */
static inline __attribute__((always_inline)) struct NAME(program)
NAME(singles)(struct NAME(program) at, int32_t n, const REAL *tile, int shift, VEC sum[4], const int vectors)
{
    for (; n > 0; n--, at.code += 2, at.coef += 1) {
        const VEC *a = COLUMN(at.code[0]), *b = COLUMN(at.code[1]);
        const VEC c = SPREAD(at.coef[0]);
        for (int v = 0; v < vectors; v++)
            sum[v] = FMA(c * a[v], b[v], sum[v]);
    }
    return at;
}

/* All output columns, two at a time, fetching ahead between them. `vectors` is a constant where this is inlined; no
 * row's sums depend on it. */
static inline __attribute__((always_inline)) void
NAME(outputs_of)(struct NAME(program) at, REAL *tile, int shift, struct sa_ahead *ahead, int64_t lines,
                 const int vectors)
{
    for (int32_t pairs = *at.code++; pairs > 0; pairs--) {
        sa_ahead_fetch(ahead, lines);
        const int32_t *head = at.code;
        VEC first[4] = {{0}}, second[4] = {{0}};
        at.code += 8;
        at = NAME(quads)(at, head[2], tile, shift, first, second, vectors, 0, 0);
        at = NAME(quads)(at, head[3], tile, shift, first, second, vectors, 0, 1);
        at = NAME(quads)(at, head[4], tile, shift, first, second, vectors, 1, 0);
        at = NAME(quads)(at, head[5], tile, shift, first, second, vectors, 1, 1);
        at = NAME(singles)(at, head[6], tile, shift, first, vectors);
        at = NAME(singles)(at, head[7], tile, shift, second, vectors);
        for (int v = 0; v < vectors; v++) {
            ((VEC *)COLUMN(head[0]))[v] = first[v];
            ((VEC *)COLUMN(head[1]))[v] = second[v];
        }
    }
}

static void NAME(outputs)(struct NAME(program) program, REAL *tile, int shift, int vectors, int rows,
                          struct sa_ahead *ahead)
{
    const int step = vectors * LANES;
    const int64_t turns = (int64_t)*program.code * ((rows + step - 1) / step);
    const int64_t lines = turns ? (ahead->lines + turns - 1) / turns : 0;
    for (int r = 0; r < rows; r += step)
        if (vectors == 4)
            NAME(outputs_of)(program, tile + r, shift, ahead, lines, 4);
        else if (vectors == 2)
            NAME(outputs_of)(program, tile + r, shift, ahead, lines, 2);
        else
            NAME(outputs_of)(program, tile + r, shift, ahead, lines, 1);
}

/* sums[k][lane] += sign * a * b * c over the rows of the tile: groups of terms share sign * a * b. */
static void NAME(contract)(struct NAME(program) next, const REAL *tile, int shift, int vectors, REAL *sums)
{
    const int32_t *code = next.code;
    const REAL *sign = next.coef;
    for (int32_t groups = *code++; groups > 0; groups--, sign++) {
        const VEC *a = COLUMN(code[0]), *b = COLUMN(code[1]);
        const VEC s = SPREAD(*sign);
        VEC ab[4];
        for (int v = 0; v < vectors; v++)
            ab[v] = a[v] * b[v] * s;
        const int32_t terms = code[2];
        code += 3;
        for (int32_t i = 0; i < terms; i++, code += 2) {
            const VEC *c = COLUMN(code[0]);
            VEC *sum = (VEC *)(sums + (int64_t)code[1] * LANES), t = *sum;
            for (int v = 0; v < vectors; v++)
                t = FMA(ab[v], c[v], t);
            *sum = t;
        }
    }
}

static void NAME(flush)(REAL *sums, int64_t n, double *total)
{
    for (int64_t k = 0; k < n; k++)
        for (int lane = 0; lane < LANES; lane++) {
            total[k] += (double)sums[k * LANES + lane];
            sums[k * LANES + lane] = 0;
        }
}

#undef COLUMN
#undef SPREAD
