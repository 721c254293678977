/* Vectors of SA_BITS bits of REAL, for one instruction set (isa_*.h, which includes this) and computation type. A vector
 * is read as groups of 128 bits, QUAD numbers each: transposing QUAD rows into QUAD columns then needs only instructions
 * that stay inside their group, and every group takes rows of its own. */
#ifndef SPARSEACC_LANES_H
#define SPARSEACC_LANES_H
#include <stdint.h>

#if SA_REAL_BITS == 32
#define REAL float
#else
#define REAL double
#endif
#define INLINE static inline __attribute__((always_inline))
#define APART static __attribute__((noinline)) /* its loops have the registers for themselves */
#define LANES (SA_BITS / SA_REAL_BITS)
#define QUAD (128 / SA_REAL_BITS)
#define GROUPS (SA_BITS / 128)

typedef REAL vec __attribute__((vector_size(SA_BITS / 8)));
typedef REAL vec_any __attribute__((vector_size(SA_BITS / 8), aligned(1), may_alias));
typedef REAL quad_any __attribute__((vector_size(16), aligned(1), may_alias));
#define VEC vec
#define SPREAD(x) ((x) - (VEC){0})

/* Of a rotation by less than 32 vectors (rotate.h). */
enum { ROTATION_STEPS = 5 };

/* The name of what each instruction set and computation type has one of. */
#define PASTE4(a, b, c, d) a##b##c##d
#define PASTE(a, b, c, d) PASTE4(a, b, c, d)

/* Keeps an integer or an address in its register. */
#define KEEP(x) __asm__("" : "+r"(x))

/* Loops are unrolled before arrays of vectors become registers. For GCC's pragma (not before clang 19) and for its own
 * plain "unroll", clang unrolls only later, and then loops go through memory. */
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif
#endif
