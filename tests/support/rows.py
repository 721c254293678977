"""Rows of an array one by one, and arrays at any address."""

import numpy as np


def at(array, offset):
    """A copy that begins `offset` numbers after a cache line."""
    memory = np.zeros(array.nbytes + 64 + offset * array.itemsize, np.uint8)
    first = -memory.ctypes.data % 64 + offset * array.itemsize
    copy = np.ndarray(array.shape, array.dtype, memory, first)
    copy[...] = array
    return copy


def row_by_row(operation, arrays, axis):
    """The operation on the rows in turn, few at a time and contiguous."""
    rows = [np.ascontiguousarray(np.moveaxis(a, axis, -1)) for a in arrays]
    batch = rows[0].shape[:-1]
    flat = [r.reshape(-1, r.shape[-1]) for r in rows]
    pieces = [operation(*(f[i : i + 5] for f in flat)) for i in range(0, len(flat[0]), 5)]
    return tuple(
        np.moveaxis(np.concatenate(parts).reshape(*batch, -1), -1, axis) for parts in zip(*pieces, strict=True)
    )


def operations(rule, arrays, axis):
    """All operations' results on x1, x2, z1, z2, dy."""
    x1, x2, z1, z2, dy = arrays
    return (
        rule(x1, x2, axis=axis),
        *rule.vjp(dy, x1, x2, axis=axis),
        *rule.vjp_vjp(z1, z2, dy, x1, x2, axis=axis),
        rule.jvp(x1, x2, z1, z2, axis=axis),
    )


def data(rule, shape, axis, dtype, rng):
    n1, n2, n_out = rule.shape
    shapes = [np.insert(shape, axis % (len(shape) + 1), n) for n in (n1, n2, n1, n2, n_out)]
    return [rng.normal(size=s).astype(dtype) for s in shapes]


def same(results, expected):
    return all(np.array_equal(r, e) for r, e in zip(results, expected, strict=True))
