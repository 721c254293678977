/* float16 and bfloat16 to float32 and back, round to nearest even, subnormals, infinities and NaN kept.
 * Written without branches on data and without subnormal float32 operands (a process may have them flushed to zero),
 * so that compilers turn loops over them into vector code on every instruction set. */
#ifndef SPARSEACC_HALF_H
#define SPARSEACC_HALF_H
#include "sparseacc.h"
#include <math.h>
#include <stdint.h>
#include <string.h>

static inline float sa_as_float(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

static inline uint32_t sa_as_bits(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, 4);
    return bits;
}

static inline float sa_from_float16(uint16_t h)
{
    const uint32_t magnitude = (uint32_t)(h & 0x7fff) << 13, exponent = magnitude & 0x0f800000;
    const uint32_t normal = magnitude + (112u << 23);
    /* 2^-14 (1 + m) - 2^-14 has no rounding and no subnormal float32 in it */
    const uint32_t subnormal = sa_as_bits(sa_as_float(magnitude + (113u << 23)) - sa_as_float(113u << 23));
    const uint32_t special = magnitude | 0x7f800000;
    const uint32_t bits = exponent == 0 ? subnormal : exponent == 0x0f800000 ? special : normal;
    return sa_as_float(bits | (uint32_t)(h & 0x8000) << 16);
}

static inline uint16_t sa_to_float16(float f)
{
    const uint32_t bits = sa_as_bits(f), magnitude = bits & 0x7fffffff;
    /* adding 1/2 puts the last bit of a float16 subnormal at the last bit of the float32, rounded by the adder */
    const uint32_t subnormal = sa_as_bits(sa_as_float(magnitude) + 0.5f) - sa_as_bits(0.5f);
    const uint32_t normal = (magnitude - (112u << 23) + 0xfff + ((magnitude >> 13) & 1)) >> 13;
    const uint32_t special = magnitude > 0x7f800000 ? 0x7e00 : 0x7c00;
    const uint32_t h = magnitude < (113u << 23) ? subnormal : magnitude >= (143u << 23) ? special : normal;
    return (uint16_t)(h | (bits >> 16 & 0x8000));
}

static inline float sa_from_bfloat16(uint16_t h)
{
    return sa_as_float((uint32_t)h << 16);
}

static inline uint16_t sa_to_bfloat16(float f)
{
    const uint32_t bits = sa_as_bits(f);
    const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    const uint32_t nan = bits >> 16; /* the NaN of arithmetic has a bit of its payload there */
    return (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? nan : rounded);
}

/* float16 is rounded once: what float32 loses is kept in its last bit, which float16 does not reach. */
static inline uint16_t sa_float16_of_double(double d)
{
    const float f = (float)d;
    uint32_t bits = sa_as_bits(f);
    if (f != d)
        bits = (fabs(f) > fabs(d) ? bits - 1 : bits) | 1;
    return sa_to_float16(sa_as_float(bits));
}

/* As NumPy's bfloat16 is rounded: to float32, and then again. */
static inline uint16_t sa_bfloat16_of_double(double d)
{
    return sa_to_bfloat16((float)d);
}

/* The formats that are narrower than float32, in which they are computed: each with its integer. */
#define EACH_NARROW(FORMAT) FORMAT(SA_FLOAT16, uint16_t, float16) FORMAT(SA_BFLOAT16, uint16_t, bfloat16)

/* Bytes of a number; 0 if the format is none of these. */
static inline int64_t sa_narrow_size(int dtype)
{
#define SIZE(number, stored, name) dtype == number ? (int64_t)sizeof(stored):
    return EACH_NARROW(SIZE) 0;
#undef SIZE
}
#endif
