// Numbers as they are stored (float, double, float16, bfloat16, complex64, complex128) and as they are computed with.

#ifndef SPARSEACC_SHARED
#define SPARSEACC_SHARED(name) extern __shared__ __align__(16) unsigned char name[]
#endif

struct float16 {
    unsigned short bits;
};

struct bfloat16 {
    unsigned short bits;
};

template <typename R>
struct __align__(2 * sizeof(R)) complex {
    R re, im;
};

typedef complex<float> complex64;
typedef complex<double> complex128;

__device__ __forceinline__ float real(float x) { return x; }

__device__ __forceinline__ double real(double x) { return x; }

__device__ __forceinline__ float real(bfloat16 x) { return __int_as_float((int)((unsigned)x.bits << 16)); }

__device__ __forceinline__ float real(float16 x)
{
#ifdef __CUDA_ARCH__
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
    return y;
#else
    const unsigned magnitude = x.bits & 0x7fffu;
    const float y = magnitude < 0x7c00u ? __int_as_float((int)(magnitude << 13)) * 0x1p112f
                                        : __int_as_float((int)(0x7f800000u | magnitude << 13));
    return x.bits & 0x8000u ? -y : y;
#endif
}

// To the nearest, ties to even, as everywhere.
__device__ __forceinline__ void store(float16 &to, float y)
{
#ifdef __CUDA_ARCH__
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(to.bits) : "f"(y));
#else
    const unsigned bits = (unsigned)__float_as_int(y), magnitude = bits & 0x7fffffffu;
    unsigned rounded;
    if (magnitude > 0x7f800000u)
        rounded = 0x7fffu;
    else if (magnitude >= 0x477ff000u)
        rounded = 0x7c00u;
    else if (magnitude < 0x38800000u) // the smallest subnormal is the unit in the last place of 0.5
        rounded = (unsigned)__float_as_int(__int_as_float((int)magnitude) + 0.5f) - 0x3f000000u;
    else
        rounded = (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u)) >> 13;
    to.bits = (unsigned short)(bits >> 16 & 0x8000u | rounded);
#endif
}

__device__ __forceinline__ void store(bfloat16 &to, float y)
{
    const unsigned bits = (unsigned)__float_as_int(y);
    to.bits = y != y ? 0x7fffu : (unsigned short)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

__device__ __forceinline__ void store(float &to, float y) { to = y; }

__device__ __forceinline__ void store(double &to, double y) { to = y; }

template <typename R, typename Y>
__device__ __forceinline__ void store(complex<R> &to, Y re, Y im)
{
    to = complex<R>{(R)re, (R)im};
}

// From and to any address; SPARSEACC_ALIGNED is 0 where it may be no multiple of the size.
template <typename T>
__device__ __forceinline__ T at(const char *address)
{
#if SPARSEACC_ALIGNED
    return *(const T *)address;
#else
    T value;
    for (int i = 0; i < (int)sizeof(T); ++i)
        ((char *)&value)[i] = address[i];
    return value;
#endif
}

template <typename T, typename... R>
__device__ __forceinline__ void put(char *address, R... numbers)
{
#if SPARSEACC_ALIGNED
    store(*(T *)address, numbers...);
#else
    T value;
    store(value, numbers...);
    for (int i = 0; i < (int)sizeof(T); ++i)
        address[i] = ((const char *)&value)[i];
#endif
}
