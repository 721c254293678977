"""What is an array, of which library and where, and what may be written to."""

from __future__ import annotations

import operator
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, SupportsIndex, TypeVar

import numpy as np
import numpy.typing as npt

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


def is_dask(value: object) -> bool:
    """Whether `value` is an array of Dask, which nobody has who has not imported it."""
    return isinstance(value, getattr(sys.modules.get("dask.array"), "Array", ()))


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


def as_index(value: SupportsIndex, name: str) -> int:
    """`value` as an int."""
    try:
        return operator.index(value)
    except Exception as error:
        raise TypeError(f"{name} must be an integer, not {value!r}") from error


def as_axis(axis: SupportsIndex) -> int:
    """`axis` as an int."""
    return as_index(axis, "axis")


def check_out(out: Array, shape: tuple[int, ...], dtype: np.dtype[Any], inputs: Mapping[str, Array]) -> None:
    """Refuses an `out` that cannot take the result."""
    check_kind(out, "out")
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be an ndarray, not {type(out).__name__}")
    if out.dtype != dtype:
        raise TypeError(f"out has dtype {out.dtype}, but the result's is {dtype}: make it of that dtype")
    if out.shape != shape:
        raise ValueError(f"out.shape is {out.shape}, but the result's is {shape}: make it of that shape")
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
