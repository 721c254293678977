"""About the least time that this machine needs, whatever the code."""

from __future__ import annotations

import timeit
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache, partial
from typing import Any

import numpy as np

from ..cpu.threads import get_num_threads

LONG = 2**25
"""Bytes whose copy takes so long that the time to wake Python's threads does not count."""
REPEATS = 10


def least_seconds(moved: int, held: int, multiply_adds: int, dtype: str) -> float:
    """The larger of the time to move bytes and the time to multiply and add.

    `moved` are the bytes that have to be read and written, `held` those of all arrays: some are read twice. Bytes are
    moved as fast as NumPy copies one array to another that both together are as large as all arrays. Every copy finds
    them where the copy before has left them, as the product does: in the caches, if they fit in there. The fastest of
    all copies counts: by one thread, and by the threads that the product may use. Threads of Python take longer to wake
    up than a copy within the caches takes. So for less than 32 MiB one thread copies its share, and nothing is waited
    for. Other threads could only slow it down.

    The multiply-adds are one for each term and each result: the fewest with which every term can be added. The speed is
    that of the matrix product of NumPy, with the threads that its library uses. Most products need more of them, since
    x1 and x2 have to be multiplied as well.

    Both are lower bounds, but for noise: they are measured at other moments than the product.
    """
    return max(_copy_seconds(held) * moved / held, multiply_adds / _multiply_adds_a_second(dtype))


def _copy_seconds(size: int) -> float:
    """To read half of these bytes and to write the other half."""
    threads = get_num_threads()
    if size < LONG:
        return _fastest(_copy(size // threads))
    whole = _fastest(_copy(size))
    with ThreadPoolExecutor(threads) as pool:
        return min(whole, _fastest(partial(_together, pool, [_copy(size // threads) for _ in range(threads)])))


def _copy(size: int) -> Callable[[], None]:
    source = np.ones(size // 2 + 1, np.uint8)
    return partial(np.copyto, source.copy(), source)


def _together(pool: ThreadPoolExecutor, calls: Sequence[Callable[[], Any]]) -> None:
    wait([pool.submit(call) for call in calls])


@cache
def _multiply_adds_a_second(dtype: str) -> float:
    square = np.ones((1024, 1024), dtype)
    return float(len(square) ** 3 / _fastest(lambda: square @ square))


def _fastest(call: Callable[[], Any]) -> float:
    """Seconds of a call, of some repeats that take a tenth of a millisecond or more each."""
    once = max(min(timeit.repeat(call, number=1, repeat=3)), 1e-8)
    number = int(1e-4 / once) + 1
    return min(timeit.repeat(call, number=number, repeat=REPEATS)) / number
