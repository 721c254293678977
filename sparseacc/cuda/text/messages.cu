$tables
// A block goes through the edges of segments, a batch of edges at a time; a thread has a channel.
extern "C" __global__ void __launch_bounds__($threads, $blocks) $name(
    $parameters
)
{
    SPARSEACC_SHARED(memory);
    $shared
    const int share = blockIdx.y / $parts, lane = threadIdx.x, channel = share * $threads + lane;
    const int lanes = $channels - share * $threads < $threads ? $channels - share * $threads : $threads;
    $bodies
}
