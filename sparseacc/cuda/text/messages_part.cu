if (blockIdx.y % $parts == $part) {
    $table
    for (long long segment = blockIdx.x; segment < segments; segment += gridDim.x) {
        const long long begin = begins[segment], end = begins[segment + 1];
        $sums
        $own
        for (long long first = begin; first < end; first += $batch) {
            const int count = end - first < $batch ? (int)(end - first) : $batch;
            __syncthreads(); // before what is still read is written
            $stage
            __syncthreads();
            $contract
            if (lane < lanes)
                for (int e = 0; e < count; ++e) {
                    $edge
                }
            $each
        }
        $finish
    }
}
