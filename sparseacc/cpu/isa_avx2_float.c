#define SA_REAL_BITS 32
#include "isa_avx2.h"
