// Rows that were computed in pieces, each the sum of some of its edges: adds the pieces up in their order.
extern "C" __global__ void __launch_bounds__($threads) $name(
    $type *__restrict__ out,
    const $real *__restrict__ pieces,
    const long long *__restrict__ begins,
    const long long rows,
    const long long columns
)
{
    for (long long k = (long long)blockIdx.x * $threads + threadIdx.x; k < rows * columns; k += (long long)gridDim.x * $threads) {
        const long long row = k / columns, column = k % columns;
        $real sum = 0;
        for (long long piece = begins[row]; piece < begins[row + 1]; ++piece)
            sum += pieces[piece * columns + column];
        store(out[k], sum);
    }
}
