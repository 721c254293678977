"""Rows are the same numbers wherever they lie: in rows or vectors, at any address, in a batch of any size. Each test
compares bitwise with the rows one after another in a small batch, which other tests compare with the oracle."""

import ctypes
import mmap

import numpy as np
import pytest
from rows import at, data, operations, row_by_row, same

import sparseacc

# Channels that are whole vectors, more than a tile has, and neither.
CHANNELS = [1, 16, 64, 100, 128, 130, 300]


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("channels", CHANNELS)
def test_vectors_in_memory_equal_rows(instruction_set, dtype, channels, rng):
    rule = sparseacc.clebsch_gordan(2, 1, 2)
    arrays = data(rule, (3, channels), 1, dtype, rng)
    expected = row_by_row(lambda *a: operations(rule, a, -1), arrays, 1)
    for offset in (0, 1, 4):
        assert same(operations(rule, [at(a, offset) for a in arrays], 1), expected), offset
        assert same(operations(rule, [at(a, 0 if i % 2 else offset) for i, a in enumerate(arrays)], 1), expected)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("channels", CHANNELS)
def test_an_input_shared_by_all_channels_equals_its_copies(instruction_set, dtype, channels, rng):
    rule = sparseacc.clebsch_gordan(3, 2, 2)
    x1, x2, _, _, dy = data(rule, (3, channels), 1, dtype, rng)
    x2 = np.ascontiguousarray(x2[:, :, :1])
    copies = np.ascontiguousarray(np.broadcast_to(x2, (3, 5, channels)))
    assert np.array_equal(rule(x1, x2, axis=1), rule(x1, copies, axis=1))
    assert np.array_equal(rule.vjp(dy, x1, x2, axis=1)[0], rule.vjp(dy, x1, copies, axis=1)[0])
    gradient = rule.coefficient_vjp(dy, x1, x2, axis=1)
    np.testing.assert_allclose(gradient, rule.coefficient_vjp(dy, x1, copies, axis=1), rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("channels", [70, 100, 130])
def test_what_lies_between_columns_does_not_matter(instruction_set, dtype, channels, rng):
    """Neither to products nor to sums over rows; it is not a number here."""
    rule = sparseacc.clebsch_gordan(2, 1, 2)
    arrays = data(rule, (3, channels), 1, dtype, rng)
    wide = [at(np.pad(a, ((0, 0), (0, 0), (0, -channels % 16)), constant_values=np.nan), 0) for a in arrays]
    views = [a[:, :, :channels] for a in wide]
    x1, x2, _, _, dy = arrays
    assert same(operations(rule, views, 1), operations(rule, arrays, 1))
    assert np.array_equal(rule.coefficient_vjp(views[4], *views[:2], axis=1), rule.coefficient_vjp(dy, x1, x2, axis=1))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("degree", range(10))
def test_rows_at_any_address_are_the_same(instruction_set, dtype, degree, rng):
    """Of every width that is transposed whole, and a wider one."""
    rule = sparseacc.clebsch_gordan(degree, degree, degree)
    arrays = data(rule, (300,), 1, dtype, rng)
    expected = row_by_row(lambda *a: operations(rule, a, -1), arrays, 1)
    for offset in range(17):
        assert same(operations(rule, [at(a, offset) for a in arrays], 1), expected), offset


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2"])
@pytest.mark.parametrize("layout", ["rows", "vectors", "vectors, some shared"])
@pytest.mark.parametrize("outputs", ["narrow", "wide", "with gaps", "of a coupling"])
def test_results_too_large_for_the_caches_equal_row_by_row(instruction_set, dtype, layout, outputs, rng):
    """They are written past the caches, from 16 MB on."""
    n = {"narrow": 7, "wide": 70, "with gaps": 90, "of a coupling": 7}[outputs]
    k = np.arange(70 if outputs == "wide" else 7)
    rule = sparseacc.Rule(k % 3, k % 2, k * (n // len(k)), rng.normal(size=len(k)), (3, 2, n))
    if outputs == "of a coupling":  # straight-line code
        rule = sparseacc.clebsch_gordan(1, 2, 3)
    n1, n2, _ = rule.shape
    block = rng.normal(size=(128 * 5, n1 + n2)).astype(dtype)
    times = 3 + 16 * 2**20 // (len(block) * n * block.itemsize)
    x1, x2 = np.tile(block[:, :n1], (times, 1)), np.tile(block[:, n1:], (times, 1))
    expected = np.concatenate([rule(block[i : i + 5, :n1], block[i : i + 5, n1:]) for i in range(0, len(block), 5)])
    if layout != "rows":
        x1, x2 = (np.ascontiguousarray(x.reshape(-1, 128, x.shape[1]).transpose(0, 2, 1)) for x in (x1, x2))
        expected = expected.reshape(-1, 128, n).transpose(0, 2, 1)
    if layout == "vectors, some shared":
        x2 = np.ascontiguousarray(x2[:, :, :1])
        expected = np.concatenate([rule(x1[i : i + 1, :, :], x2[i : i + 1], axis=1) for i in range(5)])
    for given in (None, 0, 3):
        shape = (*x1.shape[:-1], n) if layout == "rows" else (len(x1), n, 128)
        out = None if given is None else at(np.full(shape, np.nan, dtype), given)
        result = rule(x1, x2, axis=-1 if layout == "rows" else 1, out=out)
        blocks = result.reshape(-1, *expected.shape)
        assert np.array_equal(blocks, np.broadcast_to(expected, blocks.shape)), given


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_gradients_too_large_for_the_caches_equal_few(instruction_set, dtype, rng):
    rule = sparseacc.clebsch_gordan(1, 2, 2)
    x1, x2, _, _, dy = data(rule, (4, 128), 1, dtype, rng)
    expected = rule.vjp(dy, x1, x2, axis=1)
    many = rule.vjp(*(np.tile(a, (450, 1, 1)) for a in (dy, x1, x2)), axis=1)
    assert same(many, [np.tile(a, (450, 1, 1)) for a in expected])


def fenced(array, side):
    """A copy that a page nobody may touch follows, or precedes."""
    pages = -(-array.nbytes // mmap.PAGESIZE)
    memory = mmap.mmap(-1, (pages + 2) * mmap.PAGESIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for page in (0, pages + 1):
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        assert protect(ctypes.c_void_p(address + page * mmap.PAGESIZE), ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
    first = mmap.PAGESIZE if side == "before" else (pages + 1) * mmap.PAGESIZE - array.nbytes
    copy = np.ndarray(array.shape, array.dtype, memory, first)
    copy[...] = array
    return copy


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2"])
@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("axis", [0, 1])
def test_nothing_beyond_the_arrays_is_touched(instruction_set, dtype, side, axis, rng):
    """A touch would end the process."""
    for degrees in [(1, 1, 1), (3, 2, 4), (8, 8, 8), (9, 9, 10)]:
        rule = sparseacc.clebsch_gordan(*degrees)
        for rows in (1, 3, 17, 31, 67, 150):
            x1, x2 = (
                fenced(rng.normal(size=(n, rows) if axis == 0 else (rows, n)).astype(dtype), side)
                for n in rule.shape[:2]
            )
            out = fenced(np.zeros((rule.shape[2], rows) if axis == 0 else (rows, rule.shape[2]), dtype), side)
            assert np.array_equal(rule(x1, x2, axis=axis, out=out), rule(x1.copy(), x2.copy(), axis=axis))
