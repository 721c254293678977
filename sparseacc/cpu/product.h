/* The rule's arithmetic over a tile whose columns are `vectors` vectors high. */

struct NAME(program) {
    const int32_t *code;
    const REAL *coef;
};

#define COLUMN(c) ((const VEC *)(tile + (int64_t)(c) * vectors * LANES))
#define SPREAD(x) ((x) - (VEC){0})

/* Computes the next output columns. `vectors` is a constant wherever this is inlined. A row's sums do not depend on
 * it. */
static inline __attribute__((always_inline)) struct NAME(program)
NAME(columns_of)(struct NAME(program) next, const REAL *tile, REAL *out, int64_t columns, const int vectors)
{
    const int32_t *code = next.code;
    const REAL *coef = next.coef;
    for (int64_t column = 0; column < columns; column++, out += vectors * LANES) {
        VEC sum[4] = {{0}};
        const int32_t pairs = *code++, singles = *code++;
        for (int32_t i = 0; i < pairs; i++, code += 3, coef += 2) {
            const VEC *a = COLUMN(code[0]), *b = COLUMN(code[1]), *c = COLUMN(code[2]);
            const VEC cb = SPREAD(coef[0]), cc = SPREAD(coef[1]);
            for (int v = 0; v < vectors; v++)
                sum[v] = FMA(a[v], FMA(cb, b[v], cc * c[v]), sum[v]);
        }
        for (int32_t i = 0; i < singles; i++, code += 2, coef += 1) {
            const VEC *a = COLUMN(code[0]), *b = COLUMN(code[1]);
            const VEC cb = SPREAD(coef[0]);
            for (int v = 0; v < vectors; v++)
                sum[v] = FMA(a[v], cb * b[v], sum[v]);
        }
        for (int v = 0; v < vectors; v++)
            ((VEC *)out)[v] = sum[v];
    }
    return (struct NAME(program)){code, coef};
}

static struct NAME(program)
NAME(columns)(struct NAME(program) next, const REAL *tile, REAL *out, int64_t columns, int vectors)
{
    if (vectors == 4)
        return NAME(columns_of)(next, tile, out, columns, 4);
    if (vectors == 2)
        return NAME(columns_of)(next, tile, out, columns, 2);
    return NAME(columns_of)(next, tile, out, columns, 1);
}

/* sums[k][lane] += sign * a * b * c over the rows of the tile: groups of terms share sign * a * b. */
static void NAME(contract)(struct NAME(program) next, const REAL *tile, const int vectors, REAL *sums)
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
