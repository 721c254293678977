// Sums over the threads of a block whose numbers differ in the bits of MASK only: rows of COLUMNS numbers in shared
// memory, one a thread, into the row of the thread that has none of those bits. The order is always the same.

template <int THREADS, int MASK, int COLUMNS, int PITCH, typename R>
__device__ __forceinline__ void sum_rows(R *rows)
{
#pragma unroll
    for (int bit = 1; bit < THREADS; bit *= 2)
        if (MASK & bit) {
            __syncthreads();
            if ((threadIdx.x & MASK & (2 * bit - 1)) == 0)
#pragma unroll
                for (int k = 0; k < COLUMNS; ++k)
                    rows[threadIdx.x * PITCH + k] += rows[(threadIdx.x + bit) * PITCH + k];
        }
}
