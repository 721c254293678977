"""Runs operations on Dask arrays, chunk by chunk, when Dask asks for them.

A task has all operands of one chunk of the batch, and computes all outputs of it in one pass. Where a gradient sums
over the batch, its parts of all chunks are added up in float64, in an order that the chunks alone decide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import dask.array as da
import numpy as np
from dask.array.core import unify_chunks
from dask.delayed import delayed

from .algebra import MU, OPTIONAL, Operation
from .calls.arrays import as_axis, check_kind, is_cupy, is_dask, is_foreign
from .calls.dtypes import as_array, check_dtype, common_dtype, wide
from .calls.layout import resolve_shapes
from .terms import Terms, lengths

Compute = Callable[[Terms, Operation, Sequence[Any], int, tuple[bool, ...]], tuple[Any, ...]]


def execute(
    compute: Compute, rule: Terms, operation: Operation, values: Sequence[Any], axis: int, wanted: tuple[bool, ...]
) -> tuple[Any, ...]:
    """The outputs of an operation as Dask arrays, None where not `wanted`.

    `compute` runs the operation on NumPy or CuPy arrays. Optional inputs may be None, which is zero.
    """
    axis = as_axis(axis)
    names = [name for name, _ in operation.inputs]
    arrays = {
        name: as_dask(value, name)
        for value, name in zip(values, names, strict=True)
        if not (value is None and name in OPTIONAL)
    }
    shapes = resolve_shapes(operation, lengths(rule), arrays, axis)
    for name, array in arrays.items():
        _check_chunks(array, axis, name)
    # Arrays without rows have whatever else there is to refuse, and show the kind of the results.
    metas = compute(rule, operation, [_sample(arrays.get(name), axis) for name in names], axis, wanted)
    dtype = common_dtype(arrays)

    # Dask's name for each dimension: those of the batch are counted, and the active axis is the last number.
    ndim = len(shapes.batch)
    batch, active = tuple(range(ndim)), ndim

    def index(dimensions: int, active: int = active) -> tuple[int, ...]:
        found = list(batch[ndim + 1 - dimensions :])
        found.insert(axis % dimensions, active)
        return tuple(found)

    pairs = [each for k, array in enumerate(arrays.values()) for each in (array, index(array.ndim, active + k))]
    chunks, aligned = unify_chunks(*pairs)
    outputs = []
    for column, source, shape in zip(operation.outputs, operation.shapes, shapes.outputs, strict=True):
        own = index(arrays[source].ndim if source else ndim + 1 if column == MU else 1)
        kept = [d for d, n in zip(own, shape, strict=True) if d == active or n == shapes.batch[d]]
        outputs.append((own, shape[own.index(active)], [d for d in batch if d not in kept]))
    summed = {d for (_, _, sums), asked in zip(outputs, wanted, strict=True) if asked for d in sums}
    if dtype.itemsize == 2 and any(len(chunks[d]) > 1 for d in summed):
        aligned = [array.astype(np.float32) for array in aligned]  # to which parts are rounded
    given = dict(zip(arrays, aligned, strict=True))
    operands: list[Any] = []
    for name in names:
        operands += (given[name], index(given[name].ndim)) if name in given else (None, None)
    parts = da.blockwise(
        _of_chunk,
        (*batch, active),
        *operands,
        compute=compute,
        rule=delayed(rule, pure=True, traverse=False),
        operation=operation,
        axis=axis,
        wanted=wanted,
        token=f"sparseacc-{operation.name}",
        adjust_chunks={d: chunks[d] for d in batch},
        align_arrays=False,
        meta=np.empty((0,) * (ndim + 1), object),
    )
    return tuple(
        meta if meta is None else _output(operation.name, parts, k, *output, common_dtype(given), meta)
        for k, (output, meta) in enumerate(zip(outputs, metas, strict=True))
    )


def _output(
    name: str,
    parts: Any,
    k: int,
    own: tuple[int, ...],
    length: int,
    sums: list[int],
    computed: np.dtype[Any],
    meta: Any,
) -> Any:
    """The output number k, with the dimensions `own`, from the tuples of outputs of all chunks."""
    batch = tuple(range(parts.ndim))
    missing = tuple(d for d in sums if d not in own)
    whole = (*missing, *own)
    result = da.blockwise(
        _taken,
        whole,
        parts,
        batch,
        token=f"sparseacc-{name}",
        k=k,
        missing=len(missing),
        adjust_chunks=dict.fromkeys(sums, 1) | {parts.ndim - 1: length},
        dtype=computed,
        meta=meta[(None,) * len(missing)],
    )
    if sums:
        along = tuple(map(whole.index, sums))
        result = da.reduction(result, _sum, _sum, axis=along, keepdims=True, dtype=wide(computed))[(0,) * len(missing)]
    if result.dtype == meta.dtype:
        return result
    return result.map_blocks(_rounded, meta.dtype, dtype=meta.dtype, meta=meta)


def as_dask(value: Any, name: str) -> Any:
    """An argument as a Dask array of a dtype that can be computed with; those of NumPy and CuPy are one chunk."""
    if is_foreign(value):
        raise TypeError(
            f"{name} ({type(value).__name__}) is among Dask arrays, whose chunks are NumPy's or CuPy's: "
            f"convert it with numpy.asarray({name})"
        )
    if not is_dask(value):
        return da.asanyarray(value if is_cupy(value) else as_array(value, name))
    check_kind(value._meta, name)
    check_dtype(value.dtype, name)
    if any(map(np.isnan, value.shape)):
        raise ValueError(f"{name} has chunks of unknown sizes: call {name}.compute_chunk_sizes() first")
    return value


def _check_chunks(array: Any, axis: int, name: str) -> None:
    if array.numblocks[axis] > 1:
        raise ValueError(
            f"{name} is in chunks of {array.chunks[axis]} along axis {axis}, the active one, but each chunk must have "
            f"all of it: pass {name}.rechunk({{{axis}: -1}})"
        )


def _sample(array: Any, axis: int) -> Any:
    """An array of the kind of the chunks, of no rows or one."""
    if array is None:
        return None
    shape = [n if n == 1 else 0 for n in array.shape]
    shape[axis] = array.shape[axis]
    return np.zeros_like(array._meta, shape=shape)


def _of_chunk(
    *chunks: Any, compute: Compute, rule: Terms, operation: Operation, axis: int, wanted: tuple[bool, ...]
) -> tuple[Any, ...]:
    return compute(rule, operation, chunks, axis, wanted)


def _taken(outputs: tuple[Any, ...], k: int, missing: int) -> Any:
    return outputs[k][(None,) * missing]


def _sum(parts: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    with np.errstate(all="ignore"):
        return parts.sum(axis=axis, keepdims=keepdims, dtype=wide(parts.dtype))


def _rounded(array: Any, dtype: np.dtype[Any]) -> Any:
    with np.errstate(all="ignore"):
        return array.astype(dtype, copy=False)
