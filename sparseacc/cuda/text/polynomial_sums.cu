// Sums of the columns of rows: of weights to coefficients, or of gradients of coefficients to gradients of weights.
extern "C" __global__ void __launch_bounds__($threads) $name(
    $real *__restrict__ out,
    const $type *__restrict__ from,
    const int *__restrict__ begin,
    const int *__restrict__ column,
    const $real *__restrict__ value,
    const long long rows,
    const long long sums,
    const long long columns,
    const long long channels
)
{
    const long long each = sums * channels;
    for (long long k = (long long)blockIdx.x * $threads + threadIdx.x; k < rows * each; k += (long long)gridDim.x * $threads) {
        const long long row = k / each, i = k % each / channels, channel = k % channels;
        $real sum = 0;
        for (int t = begin[i]; t < begin[i + 1]; ++t)
            sum = $fma(value[t], real(from[(row * columns + column[t]) $place]), sum);
        out[k] = sum;
    }
}
