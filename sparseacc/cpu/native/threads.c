/* Threads that help with a call. They are started when they are first needed and kept, asleep: starting one takes some
 * 130 us in a large process, waking one 40. One call at a time has them. Others meanwhile do without, as there are then
 * as many callers as processors can be kept busy by. A forked child starts its own. Helpers compute in the caller's
 * floating-point mode (rounding, subnormals flushed or not), so that no result depends on which thread computed it. */
#include "sparseacc.h"
#include "tuning.h"
#include <fenv.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

static struct {
    pthread_mutex_t owner; /* the call that has the threads */
    pthread_mutex_t lock;  /* of all below */
    pthread_cond_t called, left;
    int64_t call; /* changes with each */
    int started, asleep, wanted, inside;
    void (*work)(void *); /* 0: nobody may join in any more */
    void *argument;
    fenv_t mode;
} pool = {.owner = PTHREAD_MUTEX_INITIALIZER,
          .lock = PTHREAD_MUTEX_INITIALIZER,
          .called = PTHREAD_COND_INITIALIZER,
          .left = PTHREAD_COND_INITIALIZER};

static void in_child(void)
{
    pthread_mutex_init(&pool.owner, 0);
    pthread_mutex_init(&pool.lock, 0);
    pthread_cond_init(&pool.called, 0);
    pthread_cond_init(&pool.left, 0);
    pool.started = pool.asleep = pool.wanted = pool.inside = 0;
    pool.work = 0;
}

static void at_first(void)
{
    pthread_atfork(0, 0, in_child);
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void pause_briefly(void)
{
    for (int i = 0; i < 16; i++)
#if defined(__x86_64__)
        __builtin_ia32_pause();
#else
        __asm__ volatile("" ::: "memory");
#endif
}

static void *helper(void *last_seen)
{
    int64_t seen = (int64_t)(intptr_t)last_seen;
    for (;;) {
        const int64_t until = now_ns() + AWAKE_NS;
        while (__atomic_load_n(&pool.call, __ATOMIC_ACQUIRE) == seen && now_ns() < until)
            pause_briefly();
        pthread_mutex_lock(&pool.lock);
        pool.asleep++;
        while (pool.call == seen)
            pthread_cond_wait(&pool.called, &pool.lock);
        pool.asleep--;
        seen = pool.call;
        if (pool.work && pool.wanted > 0) {
            void (*const work)(void *) = pool.work;
            void *const argument = pool.argument;
            fesetenv(&pool.mode);
            pool.wanted--;
            __atomic_add_fetch(&pool.inside, 1, __ATOMIC_RELAXED);
            pthread_mutex_unlock(&pool.lock);
            work(argument);
            pthread_mutex_lock(&pool.lock);
            if (__atomic_sub_fetch(&pool.inside, 1, __ATOMIC_RELEASE) == 0)
                pthread_cond_signal(&pool.left);
        }
        pthread_mutex_unlock(&pool.lock);
    }
    return 0;
}

/* As many helpers as the system gives; they leave signals to the threads of the caller. */
static void start_helpers(int helpers)
{
    sigset_t all, before;
    pthread_t thread;
    pthread_attr_t attributes;
    if (pool.started >= helpers || pthread_attr_init(&attributes))
        return;
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (pool.started < helpers && !pthread_create(&thread, &attributes, helper, (void *)(intptr_t)pool.call))
        pool.started++;
    pthread_sigmask(SIG_SETMASK, &before, 0);
    pthread_attr_destroy(&attributes);
}

void sa_in_threads(int threads, void (*work)(void *), void *argument)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, at_first);
    if (pthread_mutex_trylock(&pool.owner)) {
        work(argument);
        return;
    }
    pthread_mutex_lock(&pool.lock);
    start_helpers(threads - 1);
    pool.work = work;
    pool.argument = argument;
    fegetenv(&pool.mode);
    pool.wanted = threads - 1;
    __atomic_add_fetch(&pool.call, 1, __ATOMIC_RELEASE);
    if (pool.asleep)
        pthread_cond_broadcast(&pool.called);
    pthread_mutex_unlock(&pool.lock);
    work(argument);
    pthread_mutex_lock(&pool.lock);
    pool.work = 0;
    pthread_mutex_unlock(&pool.lock);
    const int64_t until = now_ns() + AWAKE_NS;
    while (__atomic_load_n(&pool.inside, __ATOMIC_ACQUIRE) && now_ns() < until)
        pause_briefly();
    pthread_mutex_lock(&pool.lock);
    while (pool.inside)
        pthread_cond_wait(&pool.left, &pool.lock);
    pthread_mutex_unlock(&pool.lock);
    pthread_mutex_unlock(&pool.owner);
}
