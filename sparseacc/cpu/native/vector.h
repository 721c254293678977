/* The vectors of the instruction set that the kernel is compiled for, SA_ISA, and transposes made of its operations.
 *
 * An instruction set is one file, isa_*.h, with a line in run.c. It says how long its vectors are (SA_BITS) and what is
 * done with them:
 *
 *   MOST                   vectors of rows that a term is computed for at once: two sums of each are kept in registers
 *   PIECE                  numbers of a row that are worth reading at once, QUAD or, where an instruction more saves two
 *                          loads, two quads (load_halves and EVEN_GROUPS, ODD_GROUPS: of two vectors every other group)
 *   ROTATES                whether rows of an odd number of numbers are rotated (rotate.h)
 *   MOST_STRAIGHT_ROWS,    columns of all operands up to which straight-line code is compiled, 0: none is, nor for paths
 *   MOST_STRAIGHT_COLUMNS
 *   BY_COUPLINGS           whether a rule that is made of couplings is computed coupling by coupling
 *   LINES_BY_LOOP          whether rows of other rules are written in whole lines as well (lines.h)
 *   ACROSS                 the lanes of a block of whole lines
 *
 * and its operations:
 *
 *   FMA, FNMA              c + a b and c - a b. The fused multiply-add is spelt out, and contraction left to nobody, so
 *                          that a number does not depend on what the compiler made of one copy of a loop: that is what
 *                          keeps results bitwise equal wherever a row stands
 *   HOLD                   keeps a loaded vector in its register: compilers like to load it again as an operand of each
 *                          use, and loads are scarce
 *   STREAM, STREAM_END     a store past the caches, to an address that is a multiple of the vector's size; after the last
 *   LOW, HIGH, LOW2, HIGH2 interleave the low or high halves of each group: numbers, or pairs of numbers
 *   load_groups,           QUAD numbers of each of GROUPS rows that lie `step` bytes apart, from memory and to memory
 *   store_groups
 *   copy_unaligned         copies numbers that lie across cache lines; returns how many it copied
 *
 * Where rows are rotated, rotate.h says what it needs besides. */
#ifndef SPARSEACC_VECTOR_H
#define SPARSEACC_VECTOR_H
#define SA_TEXT(x) #x
#define SA_ISA_FILE(isa) SA_TEXT(isa_##isa.h)
#define SA_ISA_FILE_OF(isa) SA_ISA_FILE(isa)
#include SA_ISA_FILE_OF(SA_ISA)

/* In each group, QUAD vectors of one row to QUAD vectors of one column, or back. */
INLINE void transpose(VEC v[QUAD])
{
#if SA_REAL_BITS == 32
    const VEC a = LOW(v[0], v[1]), b = HIGH(v[0], v[1]), c = LOW(v[2], v[3]), d = HIGH(v[2], v[3]);
    v[0] = LOW2(a, c);
    v[1] = HIGH2(a, c);
    v[2] = LOW2(b, d);
    v[3] = HIGH2(b, d);
#else
    const VEC a = v[0];
    v[0] = LOW(a, v[1]);
    v[1] = HIGH(a, v[1]);
#endif
}

/* n numbers, QUAD or PIECE, of each of LANES rows that lie `step` bytes apart, as n columns. */
INLINE void load_columns(const char *p, int64_t step, VEC *v, const int n)
{
#if PIECE > QUAD
    if (n == PIECE) {
        VEC w[2][QUAD];
        for (int i = 0; i < 2; i++, p += 2 * QUAD * step) {
            for (int q = 0; q < QUAD; q++)
                w[i][q] = load_halves(p + q * step, QUAD * step);
            transpose(w[i]);
        }
        for (int q = 0; q < QUAD; q++) {
            v[q] = EVEN_GROUPS(w[0][q], w[1][q]);
            v[QUAD + q] = ODD_GROUPS(w[0][q], w[1][q]);
        }
        return;
    }
#endif
    for (int q = 0; q < n; q++)
        v[q] = load_groups(p + q * step, QUAD * step);
    transpose(v);
}

/* The same, to memory `apart` bytes from column to column. */
INLINE void transpose_piece(const char *p, int64_t step, char *to, int64_t apart, const int n)
{
    VEC v[PIECE];
    load_columns(p, step, v, n);
    for (int q = 0; q < n; q++)
        *(vec_any *)(to + q * apart) = v[q];
}
#endif
