// One thread computes one row.
extern "C" __global__ void __launch_bounds__($threads, $blocks) $name(
    $parameters
)
{
    $tiles
    const long long first = (long long)blockIdx.x * $threads;
    const int count = rows - first < $threads ? (int)(rows - first) : $threads;
    $stage
    if ((int)threadIdx.x < count) {
        $place
        $terms
    }
    $unstage
}
