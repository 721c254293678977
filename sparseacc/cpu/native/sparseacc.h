/* The interface between Python (through cffi) and the CPU kernels. build.py reads everything between
 * the two markers, so that the declarations exist once. */
#ifndef SPARSEACC_H
#define SPARSEACC_H
#include <stdint.h>

/* cffi begins */
enum { SA_FLOAT32, SA_FLOAT64, SA_FLOAT16, SA_BFLOAT16 };
enum { SA_OK, SA_NO_MEMORY };
enum { SA_MAX_OPERANDS = 12 }; /* a double backward with weights has 11 */

/* A coupling that is a part of a rule, for which there is straight-line code: the columns at which its inputs and its
 * output begin. */
typedef struct {
    int32_t straight;
    int32_t begin[3];
    const void *coef;
} sa_coupling;

/* One operation of one rule, as the kernel reads it. A column is one real number per row: component m of
 * a real operand is column m; of a complex one, columns 2 m (real part) and 2 m + 1 (imaginary part).
 * `code` and `coef` are described in instructions.py, which writes them. */
typedef struct {
    int32_t n_inputs, n_outputs;
    int32_t columns[SA_MAX_OPERANDS];  /* of each operand, inputs first */
    int32_t complete[SA_MAX_OPERANDS]; /* whether `code` writes all columns of an output; the others are zero */
    int32_t planes;                    /* columns per component: 1 real, 2 complex */
    int32_t dtype;                     /* how a number is stored; float16 and bfloat16 are computed in float32 */
    int32_t contraction;               /* 0: columns of the outputs; 1: sums over all rows (coefficient_vjp) */
    int32_t outer;                     /* whether the sums of each group of terms are multiplied by a column */
    int64_t work;                      /* about the multiply-adds and the numbers moved, per row */
    int32_t straight;                  /* which straight-line code is for it, 0: none */
    const int32_t *code;
    const void *coef;
    int32_t couplings; /* that are the rule, in the order of the output's columns; 0: it is none of couplings */
    const sa_coupling *coupling;
} sa_program;

/* What `straight` is for real columns, as many of each operand. */
int32_t sa_straight(int operands, const int32_t *columns, const int32_t *code, int64_t length);

/* How many programs have it; 0: the build left it out. */
int32_t sa_straights(void);

/* Which straight-line code has a path of message passing of such a shape (edges.h), from 1 on; 0: none. */
int32_t sa_straight_path(const int32_t *code, int64_t length);

/* A program and a batch, all but the addresses. `layout` is
 *     ndim, cut, parts, shape[ndim], then for each operand
 *     component stride, reduced, part stride, stride[ndim]                    (strides in bytes)
 * The batch is cut along dimension `cut` into `parts` boxes; 0: as many as suit the threads. A reduced output (one that
 * sums over dimensions in which its stride is 0) is float64, zeroed by the caller, and added to; where boxes would meet
 * in one element, each box has a copy of its own, `part stride` bytes apart. */
typedef struct {
    const sa_program *program;
    const int64_t *layout;
} sa_call;

/* Runs it on operands, inputs first. Returns SA_OK or SA_NO_MEMORY. */
int sa_run(const sa_call *call, char *const *operands);

/* The same where results that are sums are C-contiguous memory for the numbers as they are stored, which need not be
 * zeroed. */
int sa_run_stored(const sa_call *call, char *const *operands);

/* The same of parts first <= i < last alone, where the call says how many there are: a long call in several turns. */
int sa_run_parts(const sa_call *call, char *const *operands, int64_t first, int64_t last);

/* The same for three and for five NumPy arrays, given by the addresses of their objects, as asking for those of their
 * data takes longer than a few rows do. NumPy's C interface has it that an array is the two words of every object of
 * CPython, and then the address of its data. */
char *sa_data(uintptr_t array);
int sa_run_3(const sa_call *call, uintptr_t a, uintptr_t b, uintptr_t c);
int sa_run_5(const sa_call *call, uintptr_t a, uintptr_t b, uintptr_t c, uintptr_t d, uintptr_t e);

/* The same for up to eight operands at these addresses, in no more threads than that. */
int sa_run_at(const sa_call *call, int threads, uintptr_t a, uintptr_t b, uintptr_t c, uintptr_t d, uintptr_t e,
              uintptr_t f, uintptr_t g, uintptr_t h);

/* A call in memory of its own. */
enum { SA_RECALLED_WORDS = 128 };
typedef struct {
    sa_call call;
    int64_t layout[SA_RECALLED_WORDS];
} sa_recalled;

/* Remembers a call, whose layout has so many words, by a text and numbers; the text and the program must stay. And
 * finds it: returns whether it is remembered. */
void sa_remember(const char *text, int64_t size, const int64_t *numbers, int64_t n, const sa_call *call, int64_t words);
int sa_recall(const char *text, int64_t size, const int64_t *numbers, int64_t n, sa_recalled *found);

/* A rule as message passing needs it: contracted with y it is a sparse matrix from the rows of x to those of the result.
 * matrix.py writes it, and edges.h says what `code` is. `terms_of_entry` and `terms_of_m2` say where the terms (m2, coef)
 * of each entry begin, and those (entry, coef_of_m2) of each component of y. */
typedef struct {
    int32_t n1, n2, n_out, paths, entries;
    const int32_t *code, *terms_of_entry, *m2, *terms_of_m2, *entry;
    const void *coef, *coef_of_m2;
} sa_matrix;

/* An operand of message passing: strides in bytes from row to row, component to component, channel to channel (0: one
 * number for all channels), and the row of each edge, 0: its own. Without data there is none. */
enum { SA_X, SA_Y, SA_W, SA_DOUT, SA_ZX, SA_ZY, SA_ZW, SA_OUT, SA_DX, SA_DY, SA_DW, SA_ROWS };
typedef struct {
    char *data;
    int64_t row, component, channel;
    const int64_t *index;
    int32_t dtype;
} sa_rows;

/* What the sums of a pass add up to; without any, gradients are of single edges. */
enum { SA_TO_RECEIVERS, SA_TO_SENDERS, SA_TO_WEIGHTS, SA_TO_Y, SA_TO_EDGES };

/* One pass over all edges. They come in the order of `order` (0: as they are), those of `rows_of_block` rows of the
 * target, of which there are `rows`, from `begin` of the block on. `part` says where the parts that threads do begin, in
 * blocks. The target is `out`, `dx`, `dw` or `dy`; gradients are computed by bits of `wanted`: 1 dx, 2 dy, 4 dw. With zx, zy
 * or zw it is the derivative along those. */
typedef struct {
    const sa_matrix *matrix;
    int32_t pass, wanted, past_cache;
    int64_t channels, rows, rows_of_block;
    const int64_t *order, *begin, *part;
    sa_rows rows_of[SA_ROWS];
} sa_messages;

/* Runs parts first <= i < last of it, on operands at these addresses, in at most so many threads. */
int sa_pass_messages(const sa_messages *call, char *const *data, int64_t first, int64_t last, int threads);

/* Sorts edges by index / rows_of_block, and leaves them in their order within a block: writes their `order`, and where
 * each block begins. Returns the first edge whose index is not one of so many rows, -1: none. */
int64_t sa_sort_edges(const int64_t *index, int64_t edges, int64_t rows, int64_t rows_of_block, int64_t *order,
                      int64_t *begin);

/* Sums of numbers: row i is the sum of value * what is at `column`, from `begin` of i on. */
typedef struct {
    const int32_t *begin, *column;
    const void *value;
} sa_sparse;

/* A polynomial as polynomial.h reads it: its nodes, its coefficients as sums of weights, and the gradients of weights as
 * sums of those of coefficients. */
typedef struct {
    int32_t n_in, n_out, paths, coefs;
    const int32_t *code;
    sa_sparse of_coef, of_path;
} sa_polynomial;

/* Values of a polynomial, or gradients, of all that has data. Atoms come in the order of `order` (0: as they are), in
 * segments of one row of weights, which begin at `begin`. Each segment gives dw a row of its own. */
typedef struct {
    const sa_polynomial *polynomial;
    int64_t channels;
    const int64_t *order, *begin, *row_of_segment, *part;
    sa_rows rows_of[SA_ROWS];
} sa_contraction;

/* Runs parts first <= i < last of it, as sa_pass_messages does. */
int sa_contract(const sa_contraction *call, char *const *data, int64_t first, int64_t last, int threads);

int sa_get_threads(void); /* the most that a call uses */
void sa_set_threads(int threads);
int sa_bound_threads(int threads); /* and no call from this thread more than that; returns the bound that was */

/* Instruction sets are numbered from 0, which every machine has, to the best. */
int sa_best_instruction_set(void);
const char *sa_instruction_set_name(int isa);
int sa_get_instruction_set(void);
void sa_set_instruction_set(int isa); /* the caller checks that it is at most the best */

void sa_trim_memory(void); /* gives what the C library holds of freed memory back to the system */
/* cffi ends */

#define SA_MAX_DIMS 64

typedef struct {
    char *data;
    int64_t component, reduced, part;
    const int64_t *stride;
} sa_operand;

typedef struct {
    const sa_program *program;
    int64_t ndim, cut, parts;
    const int64_t *shape;
    sa_operand operand[SA_MAX_OPERANDS];
} sa_batch;

/* Calls work(argument) in this thread and in up to `threads - 1` others; returns when all have returned. */
void sa_in_threads(int threads, void (*work)(void *), void *argument);

int64_t sa_l1_bytes(void); /* of the first-level data cache */

/* Parts first <= i < last of a batch; one kernel for each instruction set and computation type. */
typedef int sa_kernel(const sa_batch *batch, int64_t first, int64_t last);

/* Blocks first <= i < last of a pass of message passing, or segments of a contraction. */
typedef int sa_pass_kernel(const void *call, int64_t first, int64_t last);
#endif
