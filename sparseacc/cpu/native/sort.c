/* Sorts the edges of a graph, by counting. */
#include "sparseacc.h"

int64_t sa_sort_edges(const int64_t *index, int64_t edges, int64_t rows, int64_t rows_of_block, int64_t *order,
                      int64_t *begin)
{
    const int64_t blocks = (rows + rows_of_block - 1) / rows_of_block;
    for (int64_t b = 0; b <= blocks; b++)
        begin[b] = 0;
    for (int64_t e = 0; e < edges; e++) {
        if (index[e] < 0 || index[e] >= rows)
            return e;
        begin[index[e] / rows_of_block + 1]++;
    }
    for (int64_t b = 0; b < blocks; b++)
        begin[b + 1] += begin[b];
    for (int64_t e = 0; e < edges; e++)
        order[begin[index[e] / rows_of_block]++] = e;
    for (int64_t b = blocks; b > 0; b--)
        begin[b] = begin[b - 1];
    begin[0] = 0;
    return -1;
}
