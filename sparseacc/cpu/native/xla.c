/* The function that XLA calls: arrays in XLA's own memory, in and out, without a copy. */
#include "sparseacc.h"
#include "xla.h"
#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>
#include <time.h>

enum { METADATA = 1, MOST_ARGUMENTS = 3, MOST_RANK = 16, RESOURCE_EXHAUSTED = 8, UNAVAILABLE = 14, MESSAGE = 1024 };

/* The threads that are in Python or wait for it, and whether it ends. A thread of XLA that came to Python then would
 * never return, and XLA, which waits for its threads at the end of the process, would wait for ever. */
static struct {
    int inside, ends;
} python;

static void alone(void) /* in a forked child */
{
    python.inside = 0;
}

static void at_first(void)
{
    pthread_atfork(0, 0, alone);
}

static int enter_python(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, at_first);
    __atomic_add_fetch(&python.inside, 1, __ATOMIC_SEQ_CST);
    if (!__atomic_load_n(&python.ends, __ATOMIC_SEQ_CST))
        return 1;
    __atomic_sub_fetch(&python.inside, 1, __ATOMIC_SEQ_CST);
    return 0;
}

void sa_xla_leave_python(void)
{
    const struct timespec moment = {0, 1000000};
    __atomic_store_n(&python.ends, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&python.inside, __ATOMIC_SEQ_CST))
        nanosleep(&moment, 0);
}

static void *error(const sa_xla_frame *frame, int code, const char *message)
{
    return frame->api->create_error(&(sa_xla_error){sizeof(sa_xla_error), 0, message, code});
}

static void *in_python(sa_xla_frame *frame, int (*call)(sa_xla_frame *, char *, int64_t))
{
    char message[MESSAGE] = "sparseacc: Python failed before it could say why"; /* an interrupt came, for instance */
    if (!enter_python())
        return error(frame, UNAVAILABLE, "sparseacc: a call that needs Python came as it ended");
    const int code = call(frame, message, sizeof message);
    __atomic_sub_fetch(&python.inside, 1, __ATOMIC_SEQ_CST);
    return code ? error(frame, code, message) : 0;
}

/* Whether XLA asks for the version of the interface. What is read here is in every version, so that any will do. */
static int is_asked(sa_xla_frame *frame)
{
    if (!frame->extensions || frame->extensions->type != METADATA)
        return 0;
    sa_xla_version *ours = &((sa_xla_metadata_extension *)frame->extensions)->metadata->api_version;
    ours->major = frame->api->api_version.major;
    ours->minor = frame->api->api_version.minor;
    return 1;
}

/* Asks for huge pages where a result will fill them: XLA takes new memory for every result, and the system clears it
 * page by page while the result is written, which takes longer than to compute many of them. */
static void in_huge_pages(const sa_xla_buffer *result)
{
#ifdef MADV_HUGEPAGE
    const uintptr_t page = 1 << 21, at = (uintptr_t)result->data;
    static const int8_t bytes_of[] = {[10] = 2, [11] = 4, [12] = 8,
                                      [15] = 8, [16] = 2, [18] = 16}; /* by XLA's dtypes */
    uint64_t bytes = result->dtype < (int)sizeof bytes_of ? (uint64_t)bytes_of[result->dtype] : 0;
    for (int64_t d = 0; d < result->rank; d++)
        bytes *= (uint64_t)result->dims[d];
    const uintptr_t begin = (at + page - 1) / page * page, end = (at + bytes) / page * page;
    if (begin < end)
        madvise((void *)begin, end - begin, MADV_HUGEPAGE); /* advice: it may be refused */
#endif
}

void *sa_xla_messages(sa_xla_frame *frame)
{
    if (is_asked(frame))
        return 0;
    for (int64_t i = 0; i < frame->results.size; i++)
        in_huge_pages(frame->results.items[i]);
    return in_python(frame, sa_xla_pass);
}

void *sa_xla(sa_xla_frame *frame)
{
    if (is_asked(frame))
        return 0;
    in_huge_pages(frame->results.items[0]);
    const int64_t arguments = frame->arguments.size;
    const sa_xla_span *text = frame->attributes.values[0];
    char *data[MOST_ARGUMENTS + 1];
    int64_t numbers[(MOST_ARGUMENTS + 1) * (2 + MOST_RANK)], n = 0;
    sa_recalled found;
    for (int64_t o = 0; o <= arguments; o++) {
        const sa_xla_buffer *buffer = o < arguments ? frame->arguments.items[o] : frame->results.items[0];
        if (arguments > MOST_ARGUMENTS || buffer->rank > MOST_RANK)
            return in_python(frame, sa_xla_first);
        data[o] = buffer->data;
        numbers[n++] = buffer->dtype;
        numbers[n++] = buffer->rank;
        for (int64_t d = 0; d < buffer->rank; d++)
            numbers[n++] = buffer->dims[d];
    }
    if (!sa_recall(text->pointer, (int64_t)text->size, numbers, n, &found))
        return in_python(frame, sa_xla_first);
    if (sa_run_stored(&found.call, data) != SA_OK)
        return error(frame, RESOURCE_EXHAUSTED, "sparseacc: MemoryError: no memory for a tile of rows, or for sums");
    return 0;
}
