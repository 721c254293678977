"""What fuzzed calls are drawn from: a seed, or bytes that a fuzzer makes up; and arrays that lie anywhere in memory."""

import random
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from strategies import DTYPES

INTEGERS = [np.dtype(d) for d in ("i1", "u2", "i4", ">i4", "i8")]


class Choices:
    """Choices by a seed."""

    def __init__(self, seed):
        self.below = random.Random(seed).randrange

    def between(self, least, most):
        return least + self.below(most - least + 1)

    def of(self, options):
        return options[self.below(len(options))]

    def once_in(self, n):
        return self.below(n) == n - 1

    def some(self, options):
        return [option for option in options if self.below(2)]

    def order(self, n):
        left = list(range(n))
        return [left.pop(self.below(len(left))) for _ in range(n)]


class BytesOfChoices(Choices):
    """Choices by bytes; all are the first when no bytes are left."""

    def __init__(self, data):
        self._left = list(reversed(data))

    def below(self, n):
        value = 0
        for _ in range(((n - 1).bit_length() + 7) // 8):
            value = value << 8 | (self._left.pop() if self._left else 0)
        return value % n


@lru_cache(64)
def _pool(dtype):
    """Numbers of a dtype, of which all arrays are made: drawing them anew would take most of a run."""
    rng = np.random.default_rng(7)
    numbers = rng.normal(size=20_000)
    if dtype.kind == "c":
        numbers = numbers + 1j * rng.normal(size=20_000)
    if dtype.kind in "iu":
        numbers = np.round(3 * abs(numbers))
    return numbers.astype(dtype)


class Laid(NamedTuple):
    """An array, the bytes around it and what they were."""

    array: np.ndarray
    memory: np.ndarray
    before: np.ndarray

    def is_unchanged(self):
        return np.array_equal(self.memory, self.before)


def _steps(choices, shape, apart):
    """Strides in numbers: in any order of the dimensions, with gaps, back to front, and, unless apart, overlapping."""
    order, steps, step = range(len(shape)), [0] * len(shape), 1
    kind = choices.below(8)
    if kind == 4:
        order = range(len(shape) - 1, -1, -1)
    elif kind > 4:
        order = choices.order(len(shape))
    for d in reversed(order):
        if kind > 5:
            step *= choices.of((1, 1, 2, 3))
        steps[d] = -step if kind > 5 and choices.once_in(3) else step
        step *= max(shape[d], 1)
    if not apart and shape and choices.once_in(5):
        steps[choices.below(len(shape))] = choices.of((0, 0, 1, -1, 2))
    return steps


def laid(choices, shape, dtype, apart=False):
    """An array with any strides and alignment, of numbers from the pool; apart: no two share memory."""
    if 0 in shape:
        steps, low, high = [1] * len(shape), 0, 0
    else:
        steps = _steps(choices, shape, apart)
        reach = [(n - 1) * step for n, step in zip(shape, steps)]
        low, high = sum(r for r in reach if r < 0), sum(r for r in reach if r > 0)
    count, shift = high - low + 1, 16 + choices.of((0, 0, 0, 0, 1, 4))
    pool, first = _pool(dtype), choices.below(1000)
    numbers = pool[first : first + count] if count < 19_000 else pool[np.arange(count) % len(pool)]
    memory = np.full(count * dtype.itemsize + shift + 16, 0xA5, np.uint8)
    memory[shift:-16] = numbers.view(np.uint8)
    strides = tuple(dtype.itemsize * step for step in steps)
    array = np.ndarray(shape, dtype, memory, shift - low * dtype.itemsize, strides)
    if choices.once_in(8):
        array.flags.writeable = apart
    return Laid(array, memory, memory.copy())


def dtypes(choices, n):
    """One dtype for each of n arrays: mostly all the same."""
    dtype = choices.of(DTYPES)
    swapped = [dtype.newbyteorder()] if dtype.kind in "fc" else []
    if choices.below(4):
        return [dtype] * n
    if swapped and choices.below(2):
        return [choices.of([dtype, *swapped]) for _ in range(n)]
    return [choices.of([dtype, choices.of(DTYPES + INTEGERS)]) for _ in range(n)]


class Exported:
    """An array of a library that has nothing but DLPack."""

    def __init__(self, array):
        self._array = array

    def __dlpack__(self, **keywords):
        return self._array.__dlpack__(**keywords)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


def given(choices, array):
    """What stands for an array in a call, and the array that it is."""
    if array.size and choices.once_in(16):
        if array.dtype.kind in "fci" and array.size < 1000:
            listed = array.tolist()
            return listed, np.asarray(listed)
        return array, array
    aligned = array.dtype.isnative and array.dtype.kind in "fci" and array.flags.writeable
    if array.size and aligned and choices.once_in(16) and not any(s % array.itemsize for s in array.strides):
        return Exported(array), array
    return array, array
