// The launch of a CUDA kernel, as Source.launch(rows) of sparseacc.cuda.source computes it.
#pragma once

// The fields of Source with these names.
struct Geometry {
    long long rows_per_block, most_blocks;
    unsigned chunks, threads, shared_mem;
};

struct Launch {
    unsigned grid_x, grid_y; // blocks; there are none for 0 rows, which need no launch
    unsigned block;          // threads
    unsigned shared_mem;     // bytes of dynamic shared memory
};

inline Launch launch(const Geometry &kernel, long long rows)
{
    const long long blocks = (rows + kernel.rows_per_block - 1) / kernel.rows_per_block;
    const long long most = kernel.most_blocks;
    return {static_cast<unsigned>(blocks < most ? blocks : most), kernel.chunks, kernel.threads, kernel.shared_mem};
}
