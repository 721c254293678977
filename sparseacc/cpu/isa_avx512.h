#if defined(__x86_64__)
#include <immintrin.h>
#if defined(__clang__)
#define SA_TARGET __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")))
#pragma clang attribute push(SA_TARGET, apply_to = function)
#else
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")
#endif
#define SA_BITS 512
#define SA_ISA avx512
#include "body.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
