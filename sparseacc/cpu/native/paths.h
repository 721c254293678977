/* Chooses the functions for the paths of a rule: straight-line code for shapes that are common, which paths.py writes with
 * these macros as path_bodies.h, or the loop over a shape's code (edges.h). The numbers are the same. */
#ifndef SPARSEACC_PATHS_H
#define SPARSEACC_PATHS_H
#include "edges.h"

#if MOST_STRAIGHT_ROWS > 0
enum { HAS_SHAPES = -1 };
#define STRAIGHT_PATH(name) INLINE void rows_##name(struct path *p, const int vectors, const int computed)
#define TWO_ROWS(a, b) begin_pair(p, a, b, 2, vectors, computed);
#define ONE_ROW(a) begin_pair(p, a, a, 1, vectors, computed);
#define ENTRY_OF_BOTH(m1, first) add_entry(p, m1, 0, 2, first, vectors, 1, computed);
#define ENTRY_OF_FIRST(m1, first) add_entry(p, m1, 0, 1, first, vectors, 1, computed);
#define ENTRY_OF_SECOND(m1, first) add_entry(p, m1, 1, 1, first, vectors, 1, computed);
#define END_OF_ONE end_of_row(p, 0, vectors, computed);
#define END_OF_TWO                                                                                                     \
    end_of_row(p, 0, vectors, computed);                                                                               \
    end_of_row(p, 1, vectors, computed);
#include "path_bodies.h"
#else
enum { HAS_SHAPES = 0 };
#define EACH_STRAIGHT_PATH(EACH)
#endif

#define KERNEL(name, computed)                                                                                         \
    APART void path_##name##_##computed(const struct edge *e, const int32_t *head, int64_t channel, int64_t times,     \
                                        int wanted)                                                                    \
    {                                                                                                                  \
        (void)wanted;                                                                                                  \
        const int vectors = ACROSS_CHANNELS(computed);                                                                 \
        const struct place at = place_of(e, head);                                                                     \
        for (; times > 0; times--, channel += vectors * LANES) {                                                       \
            struct path p = begin_path(&at, channel, vectors, computed);                                               \
            rows_##name(&p, vectors, computed);                                                                        \
            end_path(&p, &at, channel, vectors, computed);                                                             \
        }                                                                                                              \
    }
/* The result, the gradients of whole calls, and those of which double backwards are sums. */
#define KERNELS(name) KERNEL(name, 0) KERNEL(name, 3) KERNEL(name, 5) KERNEL(name, 6) KERNEL(name, 7)
EACH_STRAIGHT_PATH(KERNELS)
#undef KERNELS
#undef KERNEL

/* By what is computed: the loop, and each shape's function. */
#define OF_0(name) path_##name##_0,
#define OF_3(name) path_##name##_3,
#define OF_5(name) path_##name##_5,
#define OF_6(name) path_##name##_6,
#define OF_7(name) path_##name##_7,
static path_kernel *const paths_0[] = {of_many_0, EACH_STRAIGHT_PATH(OF_0)};
static path_kernel *const paths_3[] = {of_many_3, EACH_STRAIGHT_PATH(OF_3)};
static path_kernel *const paths_5[] = {of_many_5, EACH_STRAIGHT_PATH(OF_5)};
static path_kernel *const paths_6[] = {of_many_6, EACH_STRAIGHT_PATH(OF_6)};
static path_kernel *const paths_7[] = {of_many_7, EACH_STRAIGHT_PATH(OF_7)};
static path_kernel *const *const paths_of[8] = {paths_0, 0, 0, paths_3, 0, paths_5, paths_6, paths_7};
static path_kernel *const for_vectors = of_vectors, *const for_one = of_one;

/* The kernels of paths, by their heads' STRAIGHT & shapes, for some of the vectors of channels: how many, so often. */
struct kernels {
    path_kernel *const *of_shape;
    int32_t shapes;
    int64_t vectors, times;
};

static struct kernels kernels_for(int64_t vectors, int shared, int wanted)
{
    const int most = ACROSS_CHANNELS(wanted);
    if (!shared)
        return (struct kernels){&for_vectors, 0, 1, 1};
    if (vectors >= most && paths_of[wanted])
        return (struct kernels){paths_of[wanted], HAS_SHAPES, most, vectors / most};
    if (vectors >= most)
        return (struct kernels){&of_many[wanted], 0, most, vectors / most};
    if (vectors >= 2)
        return (struct kernels){&of_two[wanted], 0, 2, vectors / 2};
    return (struct kernels){&for_one, 0, 1, vectors};
}
#endif
