/* Memory that the tile after the next will touch, fetched a few lines at a time between computations:
 * as one burst it would fill the processor's queue of outstanding lines, and stall. It goes to the L2 cache, as a tile
 * takes most of L1. */
#ifndef SPARSEACC_AHEAD_H
#define SPARSEACC_AHEAD_H
#include "tuning.h"
#include <stdint.h>

enum { SA_LINE = 64 };

struct sa_range {
    const char *at, *end;
};

struct sa_ahead {
    int ranges, current;
    int64_t lines; /* left */
    struct sa_range range[SA_MOST_RANGES];
};

static inline void sa_ahead_clear(struct sa_ahead *a)
{
    a->ranges = a->current = 0;
    a->lines = 0;
}

/* Ranges beyond the most are not fetched ahead. */
static inline void sa_ahead_add(struct sa_ahead *a, const char *at, int64_t bytes)
{
    if (a->ranges < SA_MOST_RANGES && bytes > 0) {
        a->range[a->ranges++] = (struct sa_range){at, at + bytes};
        a->lines += (bytes + SA_LINE - 1) / SA_LINE;
    }
}

/* How many lines to fetch in each of so many turns, to have them all. */
static inline int64_t sa_ahead_each(const struct sa_ahead *a, int64_t turns)
{
    return turns ? (a->lines + turns - 1) / turns : 0;
}

/* Always inlined: gcc takes a function that only prefetches for one without effect, and drops its calls. */
static inline __attribute__((always_inline)) void sa_ahead_fetch(struct sa_ahead *a, int64_t lines)
{
    a->lines -= lines;
    while (lines > 0 && a->current < a->ranges) {
        struct sa_range *r = &a->range[a->current];
        const char *at = r->at, *end = r->end;
        for (; at < end && lines > 0; at += SA_LINE, lines--)
            __builtin_prefetch(at, 0, 2);
        r->at = at;
        a->current += at >= end;
    }
}

/* Lines of a burst. To fetch a few at a time costs less than to count single ones. */
enum { BURST = 4, BURST_BYTES = BURST * SA_LINE };

static inline int64_t sa_bursts(int64_t bytes)
{
    return (bytes + BURST_BYTES - 1) / BURST_BYTES;
}

/* Fetches so many bursts. The last one of a range may go beyond it. */
static inline __attribute__((always_inline)) void sa_ahead_bursts(struct sa_ahead *a, int64_t bursts)
{
    for (; bursts > 0 && a->current < a->ranges; bursts--) {
        struct sa_range *const r = &a->range[a->current];
        const char *const at = r->at;
        for (int i = 0; i < BURST; i++)
            __builtin_prefetch(at + i * SA_LINE, 0, 2);
        r->at = at + BURST_BYTES;
        a->current += r->at >= r->end;
    }
}
#endif
