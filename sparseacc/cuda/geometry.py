"""From sizes to launch geometry: pure arithmetic, the same on every machine."""

from __future__ import annotations

import math
from typing import NamedTuple

THREADS = 128
"""Threads of a block: enough to hide the latency of memory with several blocks on a multiprocessor, and few enough that
the last block of a small batch idles few of them."""

SHARED = 48 * 1024
"""Bytes of shared memory that a block has on every device without asking for more."""


class Launch(NamedTuple):
    """What a kernel is launched with.

    Attributes
    ----------
    grid, block : tuple of int
        Numbers of blocks and of threads.
    shared_mem : int
        Bytes of dynamic shared memory. Above 48 KB the kernel has to be allowed it first
        (cudaFuncAttributeMaxDynamicSharedMemorySize).
    """

    grid: tuple[int, int]
    block: tuple[int]
    shared_mem: int


def threads_for(row_bytes: int, limit: int = SHARED) -> int:
    """Threads, and rows, of a block whose rows take `row_bytes` of shared memory each; 0 if not even 32 rows fit.

    How many rows a multiprocessor holds depends on its shared memory and hardly on how blocks divide it, so that more
    than 48 KB for a block pay only where 32 rows do not fit in less; `limit` is what the device allows.
    """
    for threads in (THREADS, THREADS // 2):
        if threads * row_bytes <= SHARED:
            return threads
    return THREADS // 4 if THREADS // 4 * row_bytes <= limit else 0


def resident_blocks(threads: int, words: int) -> int:
    """Blocks that a multiprocessor of 65,536 registers is to hold at least, of a kernel with this many words alive.

    Compilers left to themselves spill some of them to have more blocks than that.
    """
    needed = words + 32  # addresses, sums, and what is under way
    registers = next((r for r in (128, 168) if needed <= r), 255)
    return max(65536 // (registers * threads), 1)


def pitch(columns: int) -> int:
    """How far apart rows in shared memory are, in numbers: odd, so that the same column of neighbouring rows lies in
    different banks.
    """
    return columns + 1 - columns % 2


MOST_PARTS = 1024
"""Blocks among which a sum over a batch is divided: enough to fill any device, and few partial sums. It does not depend
on the device, so that neither do results."""


def split(shape: tuple[int, ...], threads: int) -> tuple[int, ...]:
    """Threads of a block for each dimension of a batch, powers of two: neighbours in the last one are neighbours."""
    left, found = threads, []
    for n in reversed(shape):
        found.append(min(left, 1 << (n - 1).bit_length()))
        left //= found[-1]
    found[-1] *= left
    return tuple(reversed(found))


MOST_TURNS = 32
"""Rows that a thread adds up before the sum is kept in double precision."""


def boxes(shape: tuple[int, ...], threads: tuple[int, ...], turned: int) -> tuple[int, ...]:
    """Into how many boxes a batch is divided along each dimension.

    A thread has one row of a box, but along `turned` up to MOST_TURNS if that leaves blocks enough.
    """
    counts = [-(-n // t) for n, t in zip(shape, threads, strict=True)]
    others = math.prod(counts) // counts[turned]
    counts[turned] = min(counts[turned], max(-(-counts[turned] // MOST_TURNS), -(-MOST_PARTS // others)))
    return tuple(counts)
