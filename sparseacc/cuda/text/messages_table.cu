// A block goes through the edges of segments once for each column of the output; a thread has a channel.
extern "C" __global__ void __launch_bounds__($threads) $name(
    $parameters
)
{
    $shared
    const int share = blockIdx.y, lane = threadIdx.x, channel = share * $threads + lane;
    const int lanes = $channels - share * $threads < $threads ? $channels - share * $threads : $threads;
    for (long long segment = blockIdx.x; segment < segments; segment += gridDim.x)
        for (int column = 0; column < $columns; ++column) {
            $real sum = 0;
            for (long long place = begins[segment]; lane < lanes && place < begins[segment + 1]; ++place) {
                const long long edge = order[place];
                $place
                for (int k = table[column]; k < table[column + 1]; ++k) {
                    $terms
                }
            }
            $finish
        }
}
