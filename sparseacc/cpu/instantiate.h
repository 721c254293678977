/* The kernels of one instruction set: the same body for both computation types. */
#include "sparseacc.h"
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include "ahead.h"
#include "half.h"

enum { MOST_ROWS = 256 };

#define REAL float
#define SA_REAL_BITS 32
#include "body.h"
#undef REAL
#undef SA_REAL_BITS

#define REAL double
#define SA_REAL_BITS 64
#include "body.h"
