// Contiguous rows of COLUMNS numbers, copied by a block of THREADS between global memory and a tile in shared memory. A
// tile's rows are PITCH numbers apart, an odd number: then threads that each read their own row meet no bank conflict.
//
// Where rows follow each other without a gap they are copied 16 bytes at a time in global memory. In shared memory a
// thread takes the four words of it in an order that depends on its place in the warp, so that each of the four accesses
// of a warp falls into 32 different banks.

struct __align__(16) four_words {
    unsigned a, b, c, d;
};

__device__ __forceinline__ unsigned word(const four_words &x, unsigned which)
{
    return which & 2 ? (which & 1 ? x.d : x.c) : (which & 1 ? x.b : x.a);
}

__device__ __forceinline__ bool at_sixteen_bytes(const void *address) { return ((unsigned long long)address & 15) == 0; }

template <int THREADS, int COLUMNS, int PITCH, typename T>
__device__ __forceinline__ void stage(T *tile, const T *rows, int count)
{
    int done = 0;
    if (PITCH == COLUMNS && at_sixteen_bytes(rows)) {
        const int fours = count * COLUMNS * (int)sizeof(T) / 16;
        const unsigned turn = threadIdx.x / 8;
#pragma unroll 4
        for (int k = threadIdx.x; k < fours; k += THREADS) {
            const four_words x = ((const four_words *)rows)[k];
#pragma unroll
            for (unsigned j = 0; j < 4; ++j)
                ((unsigned *)tile)[4 * k + ((j + turn) & 3)] = word(x, (j + turn) & 3);
        }
        done = fours * 16 / (int)sizeof(T);
    }
    for (int k = done + threadIdx.x; k < count * COLUMNS; k += THREADS)
        tile[k / COLUMNS * PITCH + k % COLUMNS] = rows[k];
}

template <int THREADS, int COLUMNS, int PITCH, typename T>
__device__ __forceinline__ void unstage(T *rows, const T *tile, int count)
{
    int done = 0;
    if (PITCH == COLUMNS && at_sixteen_bytes(rows)) {
        const int fours = count * COLUMNS * (int)sizeof(T) / 16;
        const unsigned turn = threadIdx.x / 8;
#pragma unroll 4
        for (int k = threadIdx.x; k < fours; k += THREADS) {
            const unsigned *from = (const unsigned *)tile + 4 * k;
            const four_words x = {from[turn & 3], from[(1 + turn) & 3], from[(2 + turn) & 3], from[(3 + turn) & 3]};
            ((four_words *)rows)[k] = {word(x, -turn & 3), word(x, (1 - turn) & 3), word(x, (2 - turn) & 3), word(x, (3 - turn) & 3)};
        }
        done = fours * 16 / (int)sizeof(T);
    }
    for (int k = done + threadIdx.x; k < count * COLUMNS; k += THREADS)
        rows[k] = tile[k / COLUMNS * PITCH + k % COLUMNS];
}
