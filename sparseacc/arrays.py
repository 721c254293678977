"""The array semantics, for any device: dtypes, the active axis, broadcasting, and how a batch is laid out in memory."""

from __future__ import annotations

import itertools
import math
import operator
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, Protocol, SupportsIndex, TypeVar

import numpy as np
import numpy.typing as npt

from .operations import MU, Operation

Array = npt.NDArray[Any]


class SupportsDLPack(Protocol):
    """An array of any library."""

    def __dlpack__(self) -> Any:
        """A capsule with its memory. All libraries declare at least this."""


Foreign = TypeVar("Foreign", bound=SupportsDLPack)
"""The kind of a caller's arrays, where it is not NumPy's: results are of it, however many of the arrays are."""

Host = npt.NDArray[Any] | Sequence[Any] | complex | np.number[Any]
"""What NumPy's arrays are made of: results are such arrays where all inputs are."""

AnyArray = npt.ArrayLike | SupportsDLPack

COMPUTED = ("float32", "float64", "complex64", "complex128", "float16", "bfloat16")


def as_array(value: npt.ArrayLike, name: str) -> Array:
    """`value` as an ndarray of a dtype that can be computed with."""
    array = converted(value, name)
    check_dtype(array.dtype, name)
    return array


def converted(value: npt.ArrayLike, name: str) -> Array:
    """`value` as an ndarray of any dtype."""
    check_kind(value, name)
    try:
        return np.asarray(value)
    except MemoryError:
        raise
    except Exception as error:
        ragged = isinstance(value, (list, tuple)) and isinstance(error, (ValueError, OverflowError))
        raise (ValueError if ragged else TypeError)(f"{name} cannot be made an array: {error}") from error


def check_kind(value: object, name: str) -> None:
    """Refuses what is no array, or more than its numbers, so that something would be lost."""
    if value is None:
        raise TypeError(f"{name} is None, but must be an array")
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array, whose mask would be lost: pass {name}.filled(...) instead")
    for unit, numbers in (("unit", "value"), ("units", "magnitude")):  # of astropy; of pint and others
        if hasattr(type(value), unit):
            raise TypeError(f"{name} has units, which would be lost: pass its numbers, such as {name}.{numbers}")


def is_cupy(value: object) -> bool:
    """Whether `value` is an array of CuPy, which nobody has who has not imported it."""
    cupy = sys.modules.get("cupy")
    return cupy is not None and isinstance(value, cupy.ndarray)


def is_foreign(value: object) -> bool:
    """Whether `value` is an array that neither half computes with as it is."""
    return not isinstance(value, np.ndarray) and not is_cupy(value) and _has(value, "__dlpack__")


def is_on_device(value: object) -> bool:
    """Whether `value` is an array on a CUDA device that says so by `__cuda_array_interface__` alone, as numba's do."""
    if isinstance(value, np.ndarray) or is_cupy(value) or is_foreign(value):
        return False
    return _has(value, "__cuda_array_interface__")


def _has(value: object, attribute: str) -> bool:
    try:
        return hasattr(value, attribute)
    except Exception:  # which shows again where the array is read, and its name is known
        return True


def check_dtype(dtype: np.dtype[Any], name: str) -> None:
    """Refuses a dtype that cannot be computed with."""
    if not _computable(dtype):
        raise TypeError(
            f"{name} has dtype {dtype}, but must be one of {', '.join(COMPUTED)} or an integer: "
            f"convert it with {name}.astype(...)"
        )


@cache
def _computable(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "iu" or dtype.name in COMPUTED


def common_dtype(arrays: Mapping[str, Array]) -> np.dtype[Any]:
    """The native dtype of the result: as NumPy promotes, integers to float64."""
    try:
        dtype = np.result_type(*(array.dtype for array in arrays.values()))
    except TypeError:
        listed = ", ".join(f"{name} {array.dtype}" for name, array in arrays.items())
        raise TypeError(f"no common dtype ({listed}): convert one of them with .astype(...)") from None
    return np.dtype(np.float64) if dtype.kind in "iu" else dtype


def active_length(array: Array, axis: int, name: str) -> int:
    """The length along the active axis."""
    if not -array.ndim <= axis < array.ndim:
        raise np.exceptions.AxisError(axis, array.ndim, name)
    return int(array.shape[axis])


def as_index(value: SupportsIndex, name: str) -> int:
    """`value` as an int."""
    try:
        return operator.index(value)
    except Exception as error:
        raise TypeError(f"{name} must be an integer, not {value!r}") from error


def as_axis(axis: SupportsIndex) -> int:
    """`axis` as an int."""
    return as_index(axis, "axis")


class Operand(NamedTuple):
    """Where an operand's numbers are: strides in bytes, 0 where the batch is broadcast."""

    component: int
    batch: tuple[int, ...]


class Shapes(NamedTuple):
    """The shapes that an operation's arrays must have, and those that its results will have."""

    batch: tuple[int, ...]
    axis: int
    outputs: tuple[tuple[int, ...], ...]


def resolve_shapes(
    operation: Operation, sizes: tuple[int, int, int, int], arrays: Mapping[str, Array], axis: int
) -> Shapes:
    """Checks the shapes of the inputs against the rule's sizes (n1, n2, n_out, nnz) and each other.

    `axis` counts within each array; x1 and x2 make the batch, and every other input has the shape of x1, of x2 or of
    their product.
    """
    columns = dict(operation.inputs)
    for name, array in arrays.items():
        length, needed = active_length(array, axis, name), sizes[columns[name]]
        if length != needed:
            raise ValueError(
                f"{name} has length {length} along axis {axis}, but the rule needs {needed}: "
                f"{name}.shape is {array.shape}, the rule's shape is {sizes[:3]}"
            )
    x1, x2 = arrays["x1"].shape, arrays["x2"].shape
    batch1, batch2 = without(x1, axis), without(x2, axis)
    batch = _broadcast(batch1, batch2)
    if batch is None:
        raise ValueError(
            f"x1 and x2 do not broadcast: their shapes are {x1} and {x2}, and without axis {axis} {batch1} and {batch2}"
        )
    at = axis if axis >= 0 else axis + len(batch) + 1
    product = (*batch[:at], sizes[MU], *batch[at:])
    if math.prod(n for n in product if n) > _MOST_NUMBERS:
        raise MemoryError(f"the product of x1 {x1} and x2 {x2} would be of shape {product}, which is too large")

    for name, (like, shape) in {
        "dy": ("the product of x1 and x2", product),
        "z1": ("x1", x1),
        "dx1": ("x1", x1),
        "z2": ("x2", x2),
        "dx2": ("x2", x2),
    }.items():
        if name in arrays and arrays[name].shape != shape:
            raise ValueError(f"{name}.shape is {arrays[name].shape}, but must be that of {like}: {shape}")
    outputs = tuple(
        arrays[source].shape if source else product if column == MU else (sizes[column],)
        for column, source in zip(operation.outputs, operation.shapes, strict=True)
    )
    return Shapes(batch, axis, outputs)


_MOST_NUMBERS = (2**63 - 1) // np.dtype(np.complex128).itemsize
"""So many bytes can be counted; NumPy counts as if dimensions of 0 were 1."""


def _broadcast(shape1: tuple[int, ...], shape2: tuple[int, ...]) -> tuple[int, ...] | None:
    """The common shape, of any size; None if there is none."""
    pairs = list(itertools.zip_longest(reversed(shape1), reversed(shape2), fillvalue=1))
    if any(n != m and n != 1 and m != 1 for n, m in pairs):
        return None
    return tuple(m if n == 1 else n for n, m in reversed(pairs))


def without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """A shape, or strides, of the batch alone."""
    axis %= len(shape)
    return shape[:axis] + shape[axis + 1 :]


def operand(shape: tuple[int, ...], strides: tuple[int, ...], axis: int, batch: tuple[int, ...]) -> Operand:
    """The strides of an array of this shape, broadcast to the batch."""
    steps = tuple(0 if n == 1 else step for n, step in zip(without(shape, axis), without(strides, axis), strict=True))
    return Operand(strides[axis], (0,) * (len(batch) - len(steps)) + steps)


class Layout(NamedTuple):
    """A batch with as few dimensions as possible, at least one, and how it is cut for threads."""

    shape: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    cut: int


def coalesced(batch: tuple[int, ...], operands: Sequence[Operand]) -> Layout:
    """Merges neighbouring dimensions that every operand steps through evenly, and drops those of length 1."""
    shape: list[int] = []
    strides: list[list[int]] = [[] for _ in operands]
    for d, n in enumerate(batch):
        if n == 1:
            continue
        if shape and all(s[-1] == o.batch[d] * n for s, o in zip(strides, operands, strict=True)):
            shape[-1] *= n
            for s, o in zip(strides, operands, strict=True):
                s[-1] = o.batch[d]
        else:
            shape.append(n)
            for s, o in zip(strides, operands, strict=True):
                s.append(o.batch[d])
    if not shape:
        shape = [1]
        strides = [[0] for _ in operands]
    return Layout(tuple(shape), tuple(map(tuple, strides)), shape.index(max(shape)))


ROWS_PER_PART = 4096
MOST_PARTS = 64


def cut_for_sums(layout: Layout, reduced: Sequence[bool]) -> tuple[Layout, int]:
    """Cuts a batch for an operation some of whose outputs sum over it.

    The number of parts depends on the shape alone, so that sums come out bitwise the same for any number of threads. A
    dimension that no output sums over is best: then parts do not share elements.
    """

    def sums(d: int) -> bool:
        return any(r and layout.strides[o][d] == 0 for o, r in enumerate(reduced))

    free = [d for d in range(len(layout.shape)) if not sums(d) and layout.shape[d] >= MOST_PARTS // 4]
    cut = max(free or range(len(layout.shape)), key=layout.shape.__getitem__)
    parts = max(1, min(layout.shape[cut], MOST_PARTS, math.prod(layout.shape) // ROWS_PER_PART))
    return layout._replace(cut=cut), parts


def c_strides(shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, ...]:
    """The strides of a new array."""
    return tuple(dtype.itemsize * math.prod(shape[d + 1 :]) for d in range(len(shape)))


def check_out(out: Array, shape: tuple[int, ...], dtype: np.dtype[Any], inputs: Mapping[str, Array]) -> None:
    """Refuses an `out` that cannot take the result."""
    check_kind(out, "out")
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be an ndarray, not {type(out).__name__}")
    if out.dtype != dtype:
        raise TypeError(f"out has dtype {out.dtype}, but the result's is {dtype}")
    if out.shape != shape:
        raise ValueError(f"out.shape is {out.shape}, but the result's is {shape}")
    if _overlaps_itself(out):
        raise ValueError(f"out overlaps itself: its strides are {out.strides} for shape {out.shape}")
    check_writing(out, inputs)


def _overlaps_itself(array: Array) -> bool:
    if not array.size:
        return False
    reach, nested = 0, True
    steps = sorted((abs(step), n) for step, n in zip(array.strides, array.shape, strict=True) if n > 1)
    for step, n in steps:
        nested &= step >= reach + array.itemsize
        reach += step * (n - 1)
    if nested:
        return False
    if reach < (array.size - 1) * array.itemsize:  # so many numbers do not fit there
        return True
    places = np.zeros(1, np.int64)  # interleaved
    for step, n in steps:
        places = np.add.outer(places, step * np.arange(n)).ravel()
    return bool(np.any(np.diff(np.sort(places)) < array.itemsize))


def check_writing(out: Array, inputs: Mapping[str, Array]) -> None:
    """What an `out` of the same shape, strides and dtype may still be refused for."""
    if not out.flags.writeable:
        raise ValueError("out is read-only")
    for name, array in inputs.items():
        if np.may_share_memory(out, array) and _shares_memory(out, array):
            raise ValueError(f"out overlaps {name}: pass an array that shares no memory with an input")


def _shares_memory(a: Array, b: Array) -> bool:
    try:
        return np.shares_memory(a, b, max_work=10**6)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True
