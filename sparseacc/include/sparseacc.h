/* The types of the functions that sparseacc.cpu.source writes, for C and C++. The code that it writes needs no header:
 * this one is for the program that calls it, and declares its functions with one line each,
 *
 *     SPARSEACC_DECLARE(sparseacc_vjp_float32, NAME);
 *
 * where NAME is the function's. A type is named by the operation and the dtype of the arrays, and ends in "_channels"
 * unless the axis is "last". Arrays are contiguous, all with the same batch:
 *
 *     axis "last"     (rows, n)
 *     axis "middle"   (batch, n, n1), where n1 is the number of channels, and rows is batch * n1
 *     axis "first"    (n, rows), where n1 is the same number as rows
 *
 * Inputs come first, in the order of the Python method of that name, then outputs: out is the result and g_x1 the
 * gradient with respect to x1. Outputs overlap no other array and are set, whatever they held. The output of
 * coefficient_vjp has one number for each term of the rule, always double. Many threads may call a function at once, as
 * on parts of a batch.
 *
 * Copyright (c) 2026 The sparseacc developers. SPDX-License-Identifier: MIT */
#ifndef SPARSEACC_FUNCTIONS_H
#define SPARSEACC_FUNCTIONS_H

#include <stdint.h>

#ifdef __cplusplus
#define SPARSEACC_DECLARE(type, name) extern "C" type name
extern "C" {
#else
#define SPARSEACC_DECLARE(type, name) extern type name
#endif

#define SPARSEACC_TYPES(real, kind, ...)                                                                               \
    typedef void sparseacc_forward_##kind(const real *x1, const real *x2, real *out, __VA_ARGS__);                     \
    typedef void sparseacc_vjp_##kind(const real *dy, const real *x1, const real *x2, real *g_x1, real *g_x2,          \
                                      __VA_ARGS__);                                                                    \
    typedef void sparseacc_jvp_##kind(const real *x1, const real *x2, const real *dx1, const real *dx2, real *out,     \
                                      __VA_ARGS__);                                                                    \
    typedef void sparseacc_vjp_vjp_##kind(const real *z1, const real *z2, const real *dy, const real *x1,              \
                                          const real *x2, real *g_dy, real *g_x1, real *g_x2, __VA_ARGS__);            \
    typedef void sparseacc_coefficient_vjp_##kind(const real *dy, const real *x1, const real *x2, double *out,         \
                                                  __VA_ARGS__);                                                        \
    typedef void sparseacc_weighted_forward_##kind(const real *x1, const real *x2, const real *weights, real *out,     \
                                                   __VA_ARGS__);                                                       \
    typedef void sparseacc_weighted_vjp_##kind(const real *dy, const real *x1, const real *x2, const real *weights,    \
                                               real *g_x1, real *g_x2, real *g_weights, __VA_ARGS__);                  \
    typedef void sparseacc_weighted_jvp_##kind(const real *x1, const real *x2, const real *weights, const real *dx1,   \
                                               const real *dx2, const real *dweights, real *out, __VA_ARGS__);         \
    typedef void sparseacc_weighted_vjp_vjp_##kind(const real *z1, const real *z2, const real *zw, const real *dy,     \
                                                   const real *x1, const real *x2, const real *weights, real *g_dy,    \
                                                   real *g_x1, real *g_x2, real *g_weights, __VA_ARGS__);              \
    typedef void sparseacc_weighted_coefficient_vjp_##kind(const real *dy, const real *x1, const real *x2,             \
                                                           const real *weights, double *out, __VA_ARGS__);

SPARSEACC_TYPES(float, float32, int64_t rows)
SPARSEACC_TYPES(float, float32_channels, int64_t rows, int64_t n1)
SPARSEACC_TYPES(double, float64, int64_t rows)
SPARSEACC_TYPES(double, float64_channels, int64_t rows, int64_t n1)
#undef SPARSEACC_TYPES

#ifdef __cplusplus
}
#endif

#endif
