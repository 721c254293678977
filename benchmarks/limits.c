/* What the machine can do: multiply-adds and streaming. Compiled by limits.py for one instruction set. */
#include <pthread.h>
#include <stdint.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX2__)
#define BYTES 32
#else
#define BYTES 16
#endif

/* CHAINS independent multiply-adds in turn hide the latency; the constants keep every number finite and normal. */
#define CHAINS 12
#define PEAK(name, real)                                                                                               \
    typedef real name##_vec __attribute__((vector_size(BYTES)));                                                       \
    static void name(int64_t turns)                                                                                    \
    {                                                                                                                  \
        name##_vec a[CHAINS], x = (name##_vec){0} + (real)0.999, y = (name##_vec){0} + (real)0.001;                    \
        for (int i = 0; i < CHAINS; i++)                                                                               \
            a[i] = (name##_vec){0} + (real)(1 + i);                                                                    \
        for (int64_t t = 0; t < turns; t++) {                                                                          \
            for (int i = 0; i < CHAINS; i++)                                                                           \
                a[i] = a[i] * x + y;                                                                                   \
            __asm__ volatile("" : "+x"(x), "+x"(y));                                                                   \
        }                                                                                                              \
        for (int i = 0; i < CHAINS; i++)                                                                               \
            __asm__ volatile("" : : "x"(a[i]));                                                                        \
    }                                                                                                                  \
    int64_t name##_per_turn(void)                                                                                      \
    {                                                                                                                  \
        return CHAINS * (int64_t)(BYTES / sizeof(real));                                                               \
    }
PEAK(peak_float, float)
PEAK(peak_double, double)

/* Reads `in` bytes and writes `out` bytes (both multiples of 64), evenly mixed, past the cache or not. */
static void stream(const char *from, int64_t in, char *to, int64_t out, int past_cache)
{
    typedef float line __attribute__((vector_size(16), may_alias));
    const int64_t reads = in / 64, writes = out / 64;
    line sum[4] = {{0}};
    int64_t r = 0;
    for (int64_t w = 0; w < writes; w++) {
        for (const int64_t end = reads * (w + 1) / writes; r < end; r++)
            for (int i = 0; i < 4; i++)
                sum[i] += *(const line *)(from + 64 * r + 16 * i);
#if defined(__x86_64__)
        if (past_cache) {
            for (int i = 0; i < 4; i++)
                _mm_stream_ps((float *)(to + 64 * w + 16 * i), (__m128)sum[i]);
            continue;
        }
#else
        (void)past_cache;
#endif
        for (int i = 0; i < 4; i++)
            *(line *)(to + 64 * w + 16 * i) = sum[i];
    }
#if defined(__x86_64__)
    _mm_sfence();
#endif
}

enum { FLOAT, DOUBLE, STREAM, STREAM_PAST_CACHE };

struct work {
    int kind;
    int64_t n, in, out;
    const char *from;
    char *to;
};

static void *work(void *argument)
{
    const struct work *w = argument;
    if (w->kind == FLOAT)
        peak_float(w->n);
    else if (w->kind == DOUBLE)
        peak_double(w->n);
    else
        stream(w->from, w->in, w->to, w->out, w->kind == STREAM_PAST_CACHE);
    return 0;
}

/* Each of up to 256 threads does n turns of multiply-adds, or streams its own `in` and `out` bytes, one behind another. */
void run(int kind, int threads, int64_t n, const char *from, int64_t in, char *to, int64_t out)
{
    pthread_t thread[256];
    struct work share[256];
    for (int t = 0; t < threads; t++) {
        share[t] = (struct work){kind, n, in, out, from + t * in, to + t * out};
        if (t > 0)
            pthread_create(&thread[t], 0, work, &share[t]);
    }
    work(&share[0]);
    for (int t = 1; t < threads; t++)
        pthread_join(thread[t], 0);
}
