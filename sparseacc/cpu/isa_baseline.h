/* What every machine of the architecture has: SSE2 on x86-64, NEON on arm64, plain C elsewhere. */
#if defined(__aarch64__)
#include <arm_neon.h>
#elif defined(__x86_64__)
#include <immintrin.h>
#endif
#define SA_BITS 128
#define SA_ISA baseline
#include "body.h"
