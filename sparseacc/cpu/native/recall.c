/* Calls that frameworks make from C, remembered by what they depend on, so that only the first one of a kind goes
 * through Python: the text of a rule, and numbers (dtypes, shapes, strides). A table with a few places for each hash,
 * where the newest calls stay. */
#include "sparseacc.h"
#include "tuning.h"
#include <pthread.h>
#include <sched.h>
#include <string.h>

enum { MOST_NUMBERS = 64 };

struct call {
    const char *text;
    int64_t size, n, words;
    int64_t numbers[MOST_NUMBERS], layout[SA_RECALLED_WORDS];
    const sa_program *program;
};

static struct {
    struct call call[PLACES];
    unsigned next;
} table[1 << HASH_BITS];
static char busy;

static uint64_t mixed(uint64_t hash, uint64_t with)
{
    return (hash ^ hash >> 32 ^ with) * 0x9e3779b97f4a7c15u;
}

/* It takes samples of the text: those of a rule's transposes have as many letters, and the same numbers at the end. */
static int hash_of(const char *text, int64_t size, const int64_t *numbers, int64_t n)
{
    enum { SAMPLES = 16 };
    uint64_t hash = (uint64_t)size, letters = 0;
    for (int64_t i = 0; size >= 8 && i < SAMPLES; i++) {
        memcpy(&letters, text + i * (size - 8) / (SAMPLES - 1), 8);
        hash = mixed(hash, letters);
    }
    for (int64_t i = 0; i < n; i++)
        hash = mixed(hash, (uint64_t)numbers[i]);
    return (int)(hash >> (64 - HASH_BITS));
}

static void leave(void)
{
    __atomic_clear(&busy, __ATOMIC_RELEASE);
}

/* In a forked child no other thread is at the table any more. */
static void at_first(void)
{
    pthread_atfork(0, 0, leave);
}

static void enter(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, at_first);
    while (__atomic_test_and_set(&busy, __ATOMIC_ACQUIRE))
        sched_yield();
}

/* The place of a call, or 0. */
static struct call *place(int hash, const char *text, int64_t size, const int64_t *numbers, int64_t n)
{
    struct call *c = table[hash].call, *const end = c + PLACES;
    while (c < end &&
           !(c->program && c->n == n && c->size == size && !memcmp(c->numbers, numbers, (size_t)n * sizeof *numbers) &&
             !memcmp(c->text, text, (size_t)size)))
        c++;
    return c < end ? c : 0;
}

void sa_remember(const char *text, int64_t size, const int64_t *numbers, int64_t n, const sa_call *call, int64_t words)
{
    if (n > MOST_NUMBERS || words > SA_RECALLED_WORDS)
        return;
    enter();
    const int hash = hash_of(text, size, numbers, n);
    struct call *c = place(hash, text, size, numbers, n);
    if (!c)
        c = &table[hash].call[table[hash].next++ % PLACES];
    __atomic_store_n(&c->program, 0, __ATOMIC_SEQ_CST); /* none, should a fork come in between */
    c->text = text;
    c->size = size;
    c->n = n;
    c->words = words;
    memcpy(c->numbers, numbers, (size_t)n * sizeof *numbers);
    memcpy(c->layout, call->layout, (size_t)words * sizeof *call->layout);
    __atomic_store_n(&c->program, call->program, __ATOMIC_RELEASE);
    leave();
}

int sa_recall(const char *text, int64_t size, const int64_t *numbers, int64_t n, sa_recalled *found)
{
    if (n > MOST_NUMBERS)
        return 0;
    enter();
    const struct call *c = place(hash_of(text, size, numbers, n), text, size, numbers, n);
    if (c) {
        memcpy(found->layout, c->layout, (size_t)c->words * sizeof *c->layout);
        found->call = (sa_call){c->program, found->layout};
    }
    leave();
    return c != 0;
}
