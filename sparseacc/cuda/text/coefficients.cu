// A thread owns terms of the rule, and a block goes through tiles of rows.
extern "C" __global__ void __launch_bounds__($threads, 4) $name(
    $parameters
)
{
    $tiles
    const long long all = (rows + $tile - 1) / $tile, turns = (all + gridDim.x - 1) / gridDim.x;
    $begin
    for (long long turn = 0; turn < turns; ++turn) {
        const long long first = ((long long)blockIdx.x * turns + turn) * $tile;
        if (first >= rows)
            break;
        const int count = rows - first < $tile ? (int)(rows - first) : $tile;
        $stage
        for (int r = 0; r < count; ++r) {
            $place
            $terms
        }
        $add
        __syncthreads(); // before the next turn fills the tiles
    }
    $end
}
