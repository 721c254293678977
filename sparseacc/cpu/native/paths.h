/* Chooses the functions for the paths of a rule: straight-line code for shapes that are common, which paths.py writes with
 * these macros as path_bodies.h, or the loop over a shape's code (edges.h). The numbers are the same, but for the sign of a zero. */
#ifndef SPARSEACC_PATHS_H
#define SPARSEACC_PATHS_H
#include "edges.h"

/* Vectors of channels at a time: of gradients two, as then fewer numbers, and less code, do not fit. */
#define ACROSS_STRAIGHT(computed) ((computed) == RESULT ? MOST_CHANNELS : 2)

#if MOST_STRAIGHT_ROWS > 0
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
#define EACH_STRAIGHT_PATH(EACH)
#endif

#define KERNEL(name, computed)                                                                                         \
    PATH_KERNEL(path_##name##_##computed, ACROSS_STRAIGHT(computed), computed, rows_##name(&p, vectors, computed))
/* The result, the gradients of whole calls, and those of which double backwards are sums. */
#define KERNELS(name) KERNEL(name, 0) KERNEL(name, 3) KERNEL(name, 5) KERNEL(name, 6) KERNEL(name, 7)
EACH_STRAIGHT_PATH(KERNELS)
#undef KERNELS
#undef KERNEL

/* By what is computed: the function of each shape, from 1 on. */
#define OF_0(name) path_##name##_0,
#define OF_3(name) path_##name##_3,
#define OF_5(name) path_##name##_5,
#define OF_6(name) path_##name##_6,
#define OF_7(name) path_##name##_7,
static path_kernel *const paths_0[] = {0, EACH_STRAIGHT_PATH(OF_0)};
static path_kernel *const paths_3[] = {0, EACH_STRAIGHT_PATH(OF_3)};
static path_kernel *const paths_5[] = {0, EACH_STRAIGHT_PATH(OF_5)};
static path_kernel *const paths_6[] = {0, EACH_STRAIGHT_PATH(OF_6)};
static path_kernel *const paths_7[] = {0, EACH_STRAIGHT_PATH(OF_7)};
static path_kernel *const *const paths_of[8] = {paths_0, 0, 0, paths_3, 0, paths_5, paths_6, paths_7};

/* The kernels for so many of the vectors of channels: that of a path's shape, if there are any such, or the loop. */
struct kernels {
    int64_t vectors;
    path_kernel *loop, *const *of_shape;
};

INLINE path_kernel *kernel_of_path(const struct kernels k, const int32_t *head)
{
    return k.of_shape && head[STRAIGHT] ? k.of_shape[head[STRAIGHT]] : k.loop;
}

/* Those for as many of the vectors as one function can take: how many does not depend on what is wanted. */
static struct kernels kernels_for(int64_t vectors, int shared, int wanted)
{
    if (!shared)
        return (struct kernels){1, of_vectors, 0};
    const int64_t whole = vectors / MOST_CHANNELS * MOST_CHANNELS;
    path_kernel *const *const of_shape = MOST_STRAIGHT_ROWS > 0 ? paths_of[wanted] : 0;
    if (whole)
        return (struct kernels){whole, of_many[wanted], of_shape};
    if (vectors >= 2)
        return (struct kernels){2, of_two[wanted], ACROSS_STRAIGHT(wanted) == 2 ? of_shape : 0};
    return (struct kernels){1, of_one, 0};
}
#endif
