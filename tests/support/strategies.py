"""What hypothesis draws: rules, batches that broadcast, and arrays laid out in memory in every way that NumPy
allows."""

import ml_dtypes
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes

import sparseacc

DTYPES = [np.dtype(d) for d in ("f4", "f8", "c8", "c16", "f2", ml_dtypes.bfloat16)]

dtypes = st.sampled_from(DTYPES)


@st.composite
def rules(draw, largest=7, most_paths=1):
    """Rules with terms in any order, repeated, and outputs never hit; coefficients that differ or are alike. Paths may
    have no terms, and share outputs or have their own.
    """
    shape = tuple(draw(st.integers(0, largest)) for _ in range(3))
    nnz = draw(st.integers(0, 60)) if min(shape) > 0 else 0
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    columns = [rng.integers(0, max(n, 1), nnz) for n in shape]
    C = rng.normal(size=nnz) if draw(st.booleans()) else rng.choice([-1.5, -0.7, 0, 0.7, 1.5], nnz)
    paths = draw(st.integers(1, most_paths))
    path = columns[2] % paths if draw(st.booleans()) else rng.integers(0, paths, nnz)
    return sparseacc.Rule(*columns, C, shape, path=path, num_paths=paths)


@st.composite
def batches(draw):
    """Two shapes that broadcast, from nothing to some tiles of rows."""
    shapes = draw(mutually_broadcastable_shapes(num_shapes=2, max_dims=3, min_side=0, max_side=4)).input_shapes
    rows = draw(st.sampled_from([1, 1, 3, 17, 64, 65, 150]))
    if rows == 1:
        return shapes
    first, second = draw(st.sampled_from([(rows, rows), (rows, 1), (1, rows)]))
    where = draw(st.integers(0, min(map(len, shapes))))
    return tuple((*s[: len(s) - where], n, *s[len(s) - where :]) for s, n in zip(shapes, (first, second)))


def numbers(rng, shape, dtype):
    dtype = np.dtype(dtype)
    x = rng.normal(size=shape)
    if dtype.kind == "c":
        x = x + 1j * rng.normal(size=shape)
    return np.asarray(x).astype(dtype)


@st.composite
def laid_out(draw, array):
    """The same array with other strides, alignment, byte order, or no permission to write."""
    how = draw(
        st.sampled_from(["plain", "fortran", "gaps", "reversed", "permuted", "unaligned", "swapped", "read-only"])
    )
    array = np.asarray(array)
    if how == "fortran":
        return np.asfortranarray(array)
    if how == "gaps":
        big = np.zeros(tuple(2 * n + 1 for n in array.shape), array.dtype)
        view = big[tuple(slice(1, 2 * n + 1, 2) for n in array.shape)]
        view[...] = array
        return view
    if how == "reversed":
        back = (slice(None, None, -1),) * array.ndim
        return np.ascontiguousarray(array[back])[back]
    if how == "permuted":
        order = draw(st.permutations(range(array.ndim)))
        return np.ascontiguousarray(array.transpose(order)).transpose(np.argsort(order).astype(int))
    if how == "unaligned":
        raw = np.zeros(array.nbytes + 1, np.uint8)[1:]
        view = np.ndarray(array.shape, array.dtype, raw.data)
        view[...] = array
        return view
    if how == "swapped" and array.dtype.kind in "fc":
        return array.astype(array.dtype.newbyteorder())
    copy = array.copy()
    copy.flags.writeable = how != "read-only"
    return copy


def operands(data, rule, dtype):
    """x1, x2 in any layout that broadcast, and an active axis that both have."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    batch1, batch2 = data.draw(batches())
    least = min(len(batch1), len(batch2))
    axis = data.draw(st.integers(-1 - least, least))
    # a positive axis counts in each array, and both must then have it at the same place of the batch
    x1 = np.moveaxis(numbers(rng, (*batch1, rule.shape[0]), dtype), -1, axis)
    x2 = np.moveaxis(numbers(rng, (*batch2, rule.shape[1]), dtype), -1, axis)
    return data.draw(laid_out(x1)), data.draw(laid_out(x2)), axis, rng


@st.composite
def irreps(draw, multiplicities=(1, 2, 3, 4, 6), largest=2, segments=3):
    """Irreps as text: ragged, of both parities, with irreps that come back."""
    segment = st.tuples(st.sampled_from(multiplicities), st.integers(0, largest), st.sampled_from("eo"))
    drawn = draw(st.lists(segment, min_size=1, max_size=segments))
    return " + ".join(f"{mul}x{degree}{parity}" for mul, degree, parity in drawn)


HARMONICS = irreps(multiplicities=(1,))


def weights(data, rule, dtype, x1, x2, axis, rng):
    """Weights in any layout: of all rows, of some dimensions alone, or of more rows than x1 and x2 have."""
    batch = np.broadcast_shapes(*(np.moveaxis(x, axis, -1).shape[:-1] for x in (x1, x2)))
    rows = [data.draw(st.sampled_from([1, n] if n != 1 else [1, 1, 3])) for n in batch]
    needed = axis if axis >= 0 else -axis - 1
    first = data.draw(st.integers(0, max(len(rows) - needed, 0)))
    shape = [*data.draw(st.sampled_from([[], [], [2]])), *rows] if first == 0 and axis < 0 else rows[first:]
    return data.draw(laid_out(np.moveaxis(numbers(rng, (*shape, rule.num_paths), dtype), -1, axis)))
