/* Chooses the instruction set, cuts a batch into parts and gives them to threads. */
#include "sparseacc.h"
#include "tuning.h"
#include <limits.h>
#include <unistd.h>

/* The instruction sets (isa_*.h), the better ones later, and whether this machine has one. */
#define EACH_EVERYWHERE(ISA) ISA(baseline, 1)
#if defined(__x86_64__)
#define HAS(feature) __builtin_cpu_supports(feature)
#define EACH_ISA(ISA)                                                                                                  \
    EACH_EVERYWHERE(ISA)                                                                                               \
    ISA(avx2, HAS("avx2") && HAS("fma"))                                                                               \
    ISA(avx512, HAS("avx512f") && HAS("avx512dq") && HAS("avx512bw") && HAS("avx512vl"))
#else
#define EACH_ISA(ISA) EACH_EVERYWHERE(ISA)
#endif

#define DECLARED(isa, is_there)                                                                                        \
    sa_kernel sa_##isa##_float, sa_##isa##_double;                                                                     \
    sa_pass_kernel sa_messages_##isa##_float, sa_messages_##isa##_double, sa_contraction_##isa##_float,                \
        sa_contraction_##isa##_double;
EACH_ISA(DECLARED)

static const struct {
    const char *name;
    sa_kernel *of_float, *of_double;
    sa_pass_kernel *messages[2], *contraction[2]; /* of float, of double */
} instruction_sets[] = {
#define LISTED(isa, is_there)                                                                                          \
    {#isa,                                                                                                             \
     sa_##isa##_float,                                                                                                 \
     sa_##isa##_double,                                                                                                \
     {sa_messages_##isa##_float, sa_messages_##isa##_double},                                                          \
     {sa_contraction_##isa##_float, sa_contraction_##isa##_double}},
    EACH_ISA(LISTED)};

const char *sa_instruction_set_name(int isa)
{
    return instruction_sets[isa].name;
}

int sa_best_instruction_set(void)
{
    int best = 0, isa = 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
#endif
#define BETTER(name, is_there)                                                                                         \
    best = (is_there) ? isa : best;                                                                                    \
    isa++;
    EACH_ISA(BETTER)
    return best;
}

static int instruction_set = -1; /* set during calls, each of which reads it once */

int sa_get_instruction_set(void)
{
    int isa = __atomic_load_n(&instruction_set, __ATOMIC_RELAXED);
    if (isa < 0) {
        const int best = sa_best_instruction_set(); /* unless another thread has set one meanwhile */
        if (__atomic_compare_exchange_n(&instruction_set, &isa, best, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            isa = best;
    }
    return isa;
}

void sa_set_instruction_set(int isa)
{
    __atomic_store_n(&instruction_set, isa, __ATOMIC_RELAXED);
}

int64_t sa_l1_bytes(void)
{
    static int64_t bytes = 0; /* threads that find it at once write the same */
    if (__atomic_load_n(&bytes, __ATOMIC_RELAXED) == 0) {
        int64_t found = 0;
#if defined(_SC_LEVEL1_DCACHE_SIZE)
        found = sysconf(_SC_LEVEL1_DCACHE_SIZE);
#endif
        __atomic_store_n(&bytes, found >= 16 * 1024 && found <= 256 * 1024 ? found : 32 * 1024, __ATOMIC_RELAXED);
    }
    return __atomic_load_n(&bytes, __ATOMIC_RELAXED);
}

/* Parts are taken in turn, so that a thread whose processor is slower or busy does fewer. */
struct work {
    const sa_batch *batch;
    sa_kernel *kernel;
    int64_t next, last;
    int status;
};

static void work(void *argument)
{
    struct work *w = argument;
    int64_t part;
    while ((part = __atomic_fetch_add(&w->next, 1, __ATOMIC_RELAXED)) < w->last)
        if (w->kernel(w->batch, part, part + 1) != SA_OK)
            __atomic_store_n(&w->status, SA_NO_MEMORY, __ATOMIC_RELAXED);
}

static int most_threads = 1;

int sa_get_threads(void)
{
    return __atomic_load_n(&most_threads, __ATOMIC_RELAXED);
}

void sa_set_threads(int threads)
{
    __atomic_store_n(&most_threads, threads, __ATOMIC_RELAXED);
}

static _Thread_local int bound = INT_MAX;

int sa_bound_threads(int threads)
{
    const int before = bound;
    bound = threads;
    return before;
}

/* Whether no output has an element to be written or to be added to. */
static int has_nothing_to_do(const sa_batch *batch)
{
    const sa_program *p = batch->program;
    const int32_t sums = p->code[p->contraction ? p->n_inputs : 0]; /* instructions.py: groups, or pairs of outputs */
    int nothing = 1;
    for (int o = p->n_inputs; o < p->n_inputs + p->n_outputs; o++)
        nothing &= p->columns[o] == 0 || (batch->operand[o].reduced && sums == 0);
    return nothing;
}

/* All parts, or of as many as the call says those from `first` to before `last`. A batch that takes far longer than it
 * takes to wake threads is done by several. Which thread runs a part never shows in the result. */
static int run(sa_batch *batch, int64_t first, int64_t last)
{
    if (has_nothing_to_do(batch))
        return SA_OK;
    const int isa = sa_get_instruction_set();
    sa_kernel *const kernel =
        batch->program->dtype == SA_FLOAT64 ? instruction_sets[isa].of_double : instruction_sets[isa].of_float;
    int threads = sa_get_threads();
    int64_t rows = 1;
    for (int64_t d = 0; d < batch->ndim; d++)
        rows *= batch->shape[d];
    const int64_t most = 1 + rows / (1 + WORK_PER_THREAD / (batch->program->work + 1));
    if (threads > most)
        threads = (int)most;
    if (threads > 1 && threads > bound)
        threads = bound;
    if (threads > MAX_THREADS)
        threads = MAX_THREADS;
    if (batch->parts == 0) {
        const int64_t longest = batch->shape[batch->cut], enough = rows / ROWS_PER_PART;
        const int64_t useful = enough < longest ? enough : longest, many = PARTS_PER_THREAD * (int64_t)threads;
        batch->parts = useful < threads || threads == 1 ? threads : useful < many ? useful : many;
    }
    if (last > batch->parts)
        last = batch->parts;
    if (threads > last - first)
        threads = (int)(last - first);
    if (threads <= 1)
        return kernel(batch, first, last);

    struct work shared = {batch, kernel, first, last, SA_OK};
    sa_in_threads(threads, work, &shared);
    return shared.status;
}

int sa_run_parts(const sa_call *call, char *const *operands, int64_t first, int64_t last)
{
    const sa_program *program = call->program;
    const int64_t *layout = call->layout;
    sa_batch batch;
    batch.program = program;
    batch.ndim = layout[0];
    batch.cut = layout[1];
    batch.parts = layout[2];
    batch.shape = layout + 3;
    const int64_t *next = layout + 3 + batch.ndim;
    for (int o = 0; o < program->n_inputs + program->n_outputs; o++, next += 3 + batch.ndim)
        batch.operand[o] = (sa_operand){operands[o], next[0], next[1], next[2], next + 3};
    return run(&batch, first, last);
}

int sa_run(const sa_call *call, char *const *operands)
{
    return sa_run_parts(call, operands, 0, INT64_MAX);
}

char *sa_data(uintptr_t array)
{
    return ((char **)array)[2];
}

int sa_run_3(const sa_call *call, uintptr_t a, uintptr_t b, uintptr_t c)
{
    return sa_run(call, (char *[]){sa_data(a), sa_data(b), sa_data(c)});
}

int sa_run_5(const sa_call *call, uintptr_t a, uintptr_t b, uintptr_t c, uintptr_t d, uintptr_t e)
{
    return sa_run(call, (char *[]){sa_data(a), sa_data(b), sa_data(c), sa_data(d), sa_data(e)});
}

int sa_run_at(const sa_call *call, int threads, uintptr_t a, uintptr_t b, uintptr_t c, uintptr_t d, uintptr_t e,
              uintptr_t f, uintptr_t g, uintptr_t h)
{
    const int bound = sa_bound_threads(threads);
    const int error = sa_run(
        call, (char *[]){(char *)a, (char *)b, (char *)c, (char *)d, (char *)e, (char *)f, (char *)g, (char *)h});
    sa_bound_threads(bound);
    return error;
}

/* The parts of a pass, which begin at `part`. */
struct pass {
    const void *call;
    sa_pass_kernel *kernel;
    const int64_t *part;
    int64_t next, last;
    int status;
};

static void pass(void *argument)
{
    struct pass *p = argument;
    int64_t i;
    while ((i = __atomic_fetch_add(&p->next, 1, __ATOMIC_RELAXED)) < p->last)
        if (p->kernel(p->call, p->part[i], p->part[i + 1]) != SA_OK)
            __atomic_store_n(&p->status, SA_NO_MEMORY, __ATOMIC_RELAXED);
}

static int run_pass(struct pass *shared, int threads)
{
    const int most[] = {sa_get_threads(), bound, MAX_THREADS};
    for (int i = 0; i < 3; i++)
        threads = threads > most[i] ? most[i] : threads;
    if (threads > shared->last - shared->next)
        threads = (int)(shared->last - shared->next);
    if (threads <= 1)
        pass(shared);
    else
        sa_in_threads(threads, pass, shared);
    return shared->status;
}

int sa_pass_messages(const sa_messages *planned, char *const *data, int64_t first, int64_t last, int threads)
{
    sa_messages call = *planned;
    for (int i = 0; i < SA_ROWS; i++)
        call.rows_of[i].data = data[i];
    const int is_double = call.rows_of[SA_X].dtype == SA_FLOAT64;
    sa_pass_kernel *const kernel = instruction_sets[sa_get_instruction_set()].messages[is_double];
    return run_pass(&(struct pass){&call, kernel, call.part, first, last, SA_OK}, threads);
}

int sa_contract(const sa_contraction *planned, char *const *data, int64_t first, int64_t last, int threads)
{
    sa_contraction call = *planned;
    for (int i = 0; i < SA_ROWS; i++)
        call.rows_of[i].data = data[i];
    const int is_double = call.rows_of[SA_X].dtype == SA_FLOAT64;
    sa_pass_kernel *const kernel = instruction_sets[sa_get_instruction_set()].contraction[is_double];
    return run_pass(&(struct pass){&call, kernel, call.part, first, last, SA_OK}, threads);
}
