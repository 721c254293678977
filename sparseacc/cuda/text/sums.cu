// A block computes a box of the batch, some turns of its threads one after the other, and sums over the box.
extern "C" __global__ void __launch_bounds__($threads, $blocks) $name(
    $parameters
)
{
    $tiles
    $box
    $totals
    for (long long turn = 0; turn < turns; ++turn) {
        $turn
        $stage
        $outputs
        if (inside) {
            $place
            $terms
        }
        $unstage
        $add
        __syncthreads(); // before the next turn fills the tiles
    }
    $end
}
