#define SA_REAL_BITS 64
#include "isa_avx2.h"
