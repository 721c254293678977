/* Polynomials of the rows of x, for one instruction set SA_ISA and one computation type REAL: channels along the lanes,
 * some atoms at a time. Atoms with the same row of weights have the same coefficients, so that these are formed once for
 * many: coef[t] = the sum of C weights[path]. They are used with products P of rows of x,
 *
 *     out[mu] += P * (coef[0] + coef[1] * x[q[0]] + coef[2] * x[q[1]] + ...)        over the nodes of mu;
 *
 * schedule/polynomials.py chooses them, and cpu/polynomials.py says what `code` is. A product is formed once for all of
 * its nodes, of each mu, and its gradient is summed over them: both stay in registers. Those of all products would be a
 * table too large for the L1 cache. */
#ifndef SPARSEACC_POLYNOMIAL_H
#define SPARSEACC_POLYNOMIAL_H
#include "copy.h"
#include "sparseacc.h"
#include "vector.h"
#include <stdlib.h>
#include <string.h>

/* Atoms at once, for which each coefficient is loaded once; along tangents there are twice as many numbers of each. */
enum { ATOMS = 8, ATOMS_ALONG = 4 };
/* Vectors of coefficients that are kept at a time, of some blocks of channels: in the L2 cache. */
enum { MOST_COEFS = (1 << 18) / sizeof(VEC) };

/* What is computed: the result, or its gradients by x and by the coefficients. */
enum { OF_RESULT = 1, OF_ROWS = 2, OF_COEFS = 4 };
/* Along which tangents: if any, the derivative of all that along them. */
enum { ALONG_X = 1, ALONG_COEFS = 2 };

/* Memory of a thread's own, whole vectors: rows for some atoms, and coefficients. A z is for a tangent; d is the gradient
 * of x, or the tangent of that. */
struct table {
    VEC *x, *z, *d, *out, *dout; /* rows */
    VEC *coef, *zcoef, *dcoef;   /* coefficients, of each block of channels */
    VEC *w;                      /* paths */
};

static VEC *table_at(const sa_polynomial *f, struct table *t, VEC *at, int64_t atoms, int64_t blocks)
{
    VEC **const of_rows[] = {&t->x, &t->z, &t->d, &t->out, &t->dout};
    const int64_t rows[] = {f->n_in, f->n_in, f->n_in, f->n_out, f->n_out};
    VEC **const of_coefs[] = {&t->coef, &t->zcoef, &t->dcoef};
    for (int i = 0; i < 5; at += rows[i++] * atoms)
        *of_rows[i] = at;
    for (int i = 0; i < 3; i++, at += blocks * f->coefs)
        *of_coefs[i] = at;
    t->w = at;
    return at + f->paths;
}

/* The sums of sparse rows: to[i] = the sum of value * from[column]. */
static void sparse_sums(const sa_sparse *s, int32_t n, const VEC *from, VEC *to)
{
    const REAL *const value = s->value;
    for (int32_t i = 0; i < n; i++) {
        VEC sum = {0};
        for (int32_t k = s->begin[i]; k < s->begin[i + 1]; k++)
            sum = FMA(SPREAD(value[k]), from[s->column[k]], sum);
        to[i] = sum;
    }
}

/* The product of factors but for one of them (-1: of all), and its tangent. */
INLINE void product(const struct table *t, const int32_t *factor, int32_t factors, int32_t but, VEC *p, VEC *zp,
                    const int atoms, const int along)
{
    UNROLL
    for (int a = 0; a < atoms; a++) {
        p[a] = SPREAD((REAL)1);
        zp[a] = (VEC){0};
    }
    for (int32_t i = 0; i < factors; i++) {
        if (i == but)
            continue;
        const VEC *const x = t->x + (int64_t)factor[i] * atoms, *const z = t->z + (int64_t)factor[i] * atoms;
        UNROLL
        for (int a = 0; a < atoms; a++) {
            if (along & ALONG_X)
                zp[a] = FMA(zp[a], x[a], p[a] * z[a]);
            p[a] *= x[a];
        }
    }
}

/* What belongs to a product: the product and the gradient by it, and the tangents of both. */
struct of_product {
    VEC p[ATOMS], zp[ATOMS], dp[ATOMS], zdp[ATOMS];
};

/* A node, with its coefficients. */
INLINE void node(const struct table *t, struct of_product *f, int32_t row, const int32_t *q, int32_t terms,
                 const VEC *coef, const VEC *zcoef, VEC *dcoef, const int atoms, const int computed, const int along)
{
    const int64_t mu = (int64_t)row * atoms;
    VEC sum[ATOMS], zsum[ATOMS];
    if (computed & (OF_RESULT | OF_ROWS)) {
        UNROLL
        for (int a = 0; a < atoms; a++) {
            sum[a] = coef[0];
            zsum[a] = along & ALONG_COEFS ? zcoef[0] : (VEC){0};
        }
        for (int32_t i = 0; i < terms; i++) {
            const VEC c = coef[1 + i], zc = along & ALONG_COEFS ? zcoef[1 + i] : (VEC){0};
            const VEC *const x = t->x + (int64_t)q[i] * atoms, *const z = t->z + (int64_t)q[i] * atoms;
            UNROLL
            for (int a = 0; a < atoms; a++) {
                sum[a] = FMA(c, x[a], sum[a]);
                if (along & ALONG_X)
                    zsum[a] = FMA(c, z[a], zsum[a]);
                if (along & ALONG_COEFS)
                    zsum[a] = FMA(zc, x[a], zsum[a]);
            }
        }
    }
    if (computed & OF_RESULT) {
        VEC *const out = t->out + mu;
        UNROLL
        for (int a = 0; a < atoms; a++)
            out[a] = along ? FMA(f->p[a], zsum[a], FMA(f->zp[a], sum[a], out[a])) : FMA(f->p[a], sum[a], out[a]);
    }
    if (computed & (OF_ROWS | OF_COEFS)) {
        const VEC *const g = t->dout + mu;
        VEC total = computed & OF_COEFS ? dcoef[0] : (VEC){0}, gp[ATOMS], zgp[ATOMS];
        UNROLL
        for (int a = 0; a < atoms; a++) {
            gp[a] = f->p[a] * g[a];
            zgp[a] = along ? f->zp[a] * g[a] : gp[a];
            if (computed & OF_ROWS) {
                f->dp[a] = FMA(g[a], sum[a], f->dp[a]);
                if (along)
                    f->zdp[a] = FMA(g[a], zsum[a], f->zdp[a]);
            }
            total += zgp[a];
        }
        if (computed & OF_COEFS)
            dcoef[0] = total;
        for (int32_t i = 0; i < terms; i++) {
            const VEC *const x = t->x + (int64_t)q[i] * atoms, *const z = t->z + (int64_t)q[i] * atoms;
            VEC *const d = t->d + (int64_t)q[i] * atoms;
            const VEC c = coef[1 + i], zc = along & ALONG_COEFS ? zcoef[1 + i] : (VEC){0};
            total = computed & OF_COEFS ? dcoef[1 + i] : (VEC){0};
            UNROLL
            for (int a = 0; a < atoms; a++) {
                if (computed & OF_ROWS) {
                    d[a] = FMA(c, zgp[a], d[a]);
                    if (along & ALONG_COEFS)
                        d[a] = FMA(zc, gp[a], d[a]);
                }
                if (computed & OF_COEFS) {
                    total = FMA(zgp[a], x[a], total);
                    if (along & ALONG_X)
                        total = FMA(gp[a], z[a], total);
                }
            }
            if (computed & OF_COEFS)
                dcoef[1 + i] = total;
        }
    }
}

INLINE void nodes(const sa_polynomial *of, const struct table *t, const int atoms, const int computed, const int along)
{
    const int32_t *code = of->code;
    const VEC *coef = t->coef, *zcoef = t->zcoef;
    VEC *dcoef = t->dcoef;
    for (int32_t products = *code++; products > 0; products--) {
        const int32_t factors = code[0], *const factor = code + 2;
        int32_t left = code[1];
        struct of_product f;
        product(t, factor, factors, -1, f.p, f.zp, atoms, along);
        UNROLL
        for (int a = 0; a < atoms; a++)
            f.dp[a] = f.zdp[a] = (VEC){0};
        for (code = factor + factors; left > 0; left--) {
            const int32_t terms = code[1];
            node(t, &f, code[0], code + 2, terms, coef, zcoef, dcoef, atoms, computed, along);
            code += 2 + terms;
            coef += 1 + terms;
            zcoef += 1 + terms;
            dcoef += 1 + terms;
        }
        if (computed & OF_ROWS)
            for (int32_t i = 0; i < factors; i++) {
                VEC others[ATOMS], zothers[ATOMS], *const d = t->d + (int64_t)factor[i] * atoms;
                product(t, factor, factors, i, others, zothers, atoms, along);
                UNROLL
                for (int a = 0; a < atoms; a++) {
                    d[a] = FMA(along ? f.zdp[a] : f.dp[a], others[a], d[a]);
                    if (along & ALONG_X)
                        d[a] = FMA(f.dp[a], zothers[a], d[a]);
                }
            }
    }
}

/* One group of atoms, whose rows are in the table. */
typedef void atoms_kernel(const sa_polynomial *f, const struct table *t);
#define KERNEL(name, atoms, computed, along)                                                                           \
    APART void name(const sa_polynomial *f, const struct table *t)                                                     \
    {                                                                                                                  \
        nodes(f, t, atoms, computed, along);                                                                           \
    }
#define PLAIN(name, atoms)                                                                                             \
    KERNEL(name##_value, atoms, OF_RESULT, 0)                                                                          \
    KERNEL(name##_rows, atoms, OF_ROWS, 0)                                                                             \
    KERNEL(name##_coefs, atoms, OF_COEFS, 0)                                                                           \
    KERNEL(name##_both, atoms, OF_ROWS | OF_COEFS, 0)                                                                  \
    static atoms_kernel *name(int computed)                                                                            \
    {                                                                                                                  \
        return computed == OF_RESULT  ? name##_value                                                                   \
               : computed == OF_ROWS  ? name##_rows                                                                    \
               : computed == OF_COEFS ? name##_coefs                                                                   \
                                      : name##_both;                                                                   \
    }
#define TANGENTS(name, atoms)                                                                                          \
    KERNEL(name##_value, atoms, OF_RESULT, ALONG_X | ALONG_COEFS)                                                      \
    KERNEL(name##_x, atoms, OF_RESULT | OF_ROWS | OF_COEFS, ALONG_X)                                                   \
    KERNEL(name##_all, atoms, OF_RESULT | OF_ROWS | OF_COEFS, ALONG_X | ALONG_COEFS)                                   \
    static atoms_kernel *name(int computed, int along)                                                                 \
    {                                                                                                                  \
        return computed == OF_RESULT ? name##_value : along == ALONG_X ? name##_x : name##_all;                        \
    }
PLAIN(of_atoms, ATOMS)
PLAIN(of_some, ATOMS_ALONG)
PLAIN(of_atom, 1)
TANGENTS(along_some, ATOMS_ALONG)
TANGENTS(along_atom, 1)
#undef PLAIN
#undef TANGENTS
#undef KERNEL

static atoms_kernel *kernel_of(int64_t atoms, int computed, int along)
{
    if (along)
        return (atoms == 1 ? along_atom : along_some)(computed, along);
    return (atoms == 1 ? of_atom : atoms == ATOMS ? of_atoms : of_some)(computed);
}

/* The channels of a block: a vector's, or as many as are left. */
static int64_t channels_of(const sa_contraction *call, int64_t block)
{
    const int64_t left = call->channels - block * LANES;
    return left < LANES ? left : LANES;
}

/* n components of an operand's row for a block of channels, `apart` vectors from one to the next. */
static void take(const sa_contraction *call, int operand, int64_t row, int64_t block, int32_t n, VEC *to, int64_t apart)
{
    const sa_rows *const o = &call->rows_of[operand];
    const int64_t channels = channels_of(call, block);
    const char *from = o->data + row * o->row + block * LANES * o->channel;
    const int whole =
        o->channel == sizeof(REAL) && o->dtype == (sizeof(REAL) == 8 ? SA_FLOAT64 : SA_FLOAT32) && channels == LANES;
    for (int32_t i = 0; i < n; i++, from += o->component, to += apart)
        if (whole)
            *to = *(const vec_any *)from;
        else
            read(o->dtype, from, o->channel, (REAL *)to, channels);
}

static void give_rows(const sa_contraction *call, int operand, int64_t row, int64_t block, int32_t n, const VEC *from,
                      int64_t apart)
{
    const sa_rows *const o = &call->rows_of[operand];
    const int64_t channels = channels_of(call, block);
    char *to = o->data + row * o->row + block * LANES * o->channel;
    for (int32_t i = 0; i < n; i++, to += o->component, from += apart)
        copy_out(o->dtype, (const REAL *)from, to, o->channel, channels, 0);
}

/* Part of the atoms of one row of weights, for `blocks` vectors of channels: all of these before the next atoms, so that
 * rows are read from memory as they lie there. */
static void pass_segment(const sa_contraction *call, int64_t segment, int64_t first_block, int64_t blocks,
                         const struct table *all)
{
    const sa_polynomial *const f = call->polynomial;
    const sa_rows *const o = call->rows_of;
    const int along = (o[SA_ZX].data ? ALONG_X : 0) | (o[SA_ZW].data ? ALONG_COEFS : 0);
    const int computed =
        (o[SA_OUT].data ? OF_RESULT : 0) | (o[SA_DX].data ? OF_ROWS : 0) | (o[SA_DW].data ? OF_COEFS : 0);
    const int64_t weights = call->row_of_segment[segment], end = call->begin[segment + 1];
    const int64_t most = along ? ATOMS_ALONG : ATOMS;
    struct table block = *all, *const t = &block;
    for (int64_t b = 0; b < blocks; b++) {
        take(call, SA_W, weights, first_block + b, f->paths, t->w, 1);
        sparse_sums(&f->of_coef, f->coefs, t->w, all->coef + b * f->coefs);
        if (along & ALONG_COEFS) {
            take(call, SA_ZW, weights, first_block + b, f->paths, t->w, 1);
            sparse_sums(&f->of_coef, f->coefs, t->w, all->zcoef + b * f->coefs);
        }
    }
    if (computed & OF_COEFS)
        memset(all->dcoef, 0, (size_t)(blocks * f->coefs) * sizeof(VEC));
    for (int64_t first = call->begin[segment], atoms; first < end; first += atoms) {
        atoms = end - first >= most ? most : end - first >= ATOMS_ALONG ? ATOMS_ALONG : 1;
        for (int64_t b = 0; b < blocks; b++) {
            t->coef = all->coef + b * f->coefs;
            t->zcoef = all->zcoef + b * f->coefs;
            t->dcoef = all->dcoef + b * f->coefs;
            for (int64_t a = 0; a < atoms; a++) {
                const int64_t atom = call->order ? call->order[first + a] : first + a;
                take(call, SA_X, atom, first_block + b, f->n_in, t->x + a, atoms);
                if (along & ALONG_X)
                    take(call, SA_ZX, atom, first_block + b, f->n_in, t->z + a, atoms);
                if (computed & (OF_ROWS | OF_COEFS))
                    take(call, SA_DOUT, atom, first_block + b, f->n_out, t->dout + a, atoms);
            }
            if (computed & OF_RESULT)
                memset(t->out, 0, (size_t)(f->n_out * atoms) * sizeof(VEC));
            if (computed & OF_ROWS)
                memset(t->d, 0, (size_t)(f->n_in * atoms) * sizeof(VEC));
            kernel_of(atoms, computed, along)(f, t);
            for (int64_t a = 0; a < atoms; a++) {
                const int64_t atom = call->order ? call->order[first + a] : first + a;
                if (computed & OF_RESULT)
                    give_rows(call, SA_OUT, atom, first_block + b, f->n_out, t->out + a, atoms);
                if (computed & OF_ROWS)
                    give_rows(call, SA_DX, atom, first_block + b, f->n_in, t->d + a, atoms);
            }
        }
    }
    for (int64_t b = 0; computed & OF_COEFS && b < blocks; b++) {
        sparse_sums(&f->of_path, f->paths, all->dcoef + b * f->coefs, t->w);
        give_rows(call, SA_DW, segment, first_block + b, f->paths, t->w, 1);
    }
}

int PASTE(sa_contraction_, SA_ISA, _, REAL)(const void *of, int64_t first, int64_t last)
{
    const sa_contraction *const call = of;
    struct table table;
    const int64_t blocks = (call->channels + LANES - 1) / LANES;
    const int64_t fit = MOST_COEFS / (call->polynomial->coefs + 1), each = fit < 1 ? 1 : fit > blocks ? blocks : fit;
    int64_t atoms = 1; /* at a time, at the most */
    for (int64_t segment = first; segment < last && atoms < ATOMS; segment++) {
        const int64_t of_segment = call->begin[segment + 1] - call->begin[segment];
        atoms = of_segment > ATOMS ? ATOMS : of_segment > atoms ? of_segment : atoms;
    }
    const int64_t vectors = table_at(call->polynomial, &table, 0, atoms, each) - (VEC *)0;
    VEC *memory;
    if (vectors > INT64_MAX / 1024 || posix_memalign((void **)&memory, 64, (size_t)vectors * sizeof(VEC)))
        return SA_NO_MEMORY;
    memset(memory, 0, (size_t)vectors * sizeof(VEC));
    table_at(call->polynomial, &table, memory, atoms, each);
    for (int64_t segment = first; segment < last; segment++)
        for (int64_t block = 0; block < blocks; block += each)
            pass_segment(call, segment, block, blocks - block < each ? blocks - block : each, &table);
    free(memory);
    return SA_OK;
}
#endif
