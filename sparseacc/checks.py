"""Checks what a rule is made of: each mistake is one error that names the argument, the position and the value."""

from __future__ import annotations

import operator
from collections.abc import Collection, Sequence
from typing import SupportsIndex, cast

import numpy as np
import numpy.typing as npt

from .calls import dlpack
from .calls.arrays import AnyArray, Array, check_kind, converted, is_cupy, is_foreign, is_on_device

AXES = ("m1", "m2", "mu")
_MOST = np.iinfo(np.int32).max


def checked_shape(shape: Sequence[SupportsIndex]) -> tuple[int, int, int]:
    """Three integers from 0 that fit int32."""
    n1, n2, n_out = checked_sizes(shape, ("n1", "n2", "n_out"), "three")
    return n1, n2, n_out


def checked_sizes(shape: Sequence[SupportsIndex], names: Sequence[str], how_many: str) -> tuple[int, ...]:
    """Integers from 0 that fit int32, one for each name."""
    try:
        sizes = tuple(int(operator.index(n)) for n in shape)
        if len(sizes) != len(names):
            raise TypeError(f"there are {len(sizes)}")
    except Exception as error:
        raise TypeError(f"shape must be {how_many} integers ({', '.join(names)}), not {shape!r}") from error
    for name, n in zip(names, sizes, strict=True):
        if not 0 <= n <= _MOST:
            raise ValueError(f"shape: {name} is {n}, but must be between 0 and 2**31 - 1")
    return sizes


def checked_paths(
    path: AnyArray | None, num_paths: SupportsIndex | None, nnz: int
) -> tuple[int, npt.NDArray[np.int32]]:
    """The number of paths and the path of each term: without `path` all are of path 0, one more than the largest."""
    number = checked_number(num_paths)
    if path is None:
        if number == 0 and nnz:
            raise ValueError(f"num_paths is 0, but the rule has {nnz} terms: without path they are all of path 0")
        return 1 if number is None else number, np.zeros(nnz, np.int32)
    if number is not None:
        return number, checked_index(path, "path", number, "num_paths")
    of_terms = checked_index(path, "path", _MOST, "num_paths at most")
    return int(of_terms.max(initial=-1)) + 1, of_terms


def checked_number(num_paths: SupportsIndex | None) -> int | None:
    """A number of paths that fits int32; None if it is not given."""
    try:
        number = None if num_paths is None else int(operator.index(num_paths))
    except Exception as error:
        raise TypeError(f"num_paths must be an integer, not {num_paths!r}") from error
    if number is not None and not 0 <= number <= _MOST:
        raise ValueError(f"num_paths is {number}, but must be between 0 and 2**31 - 1")
    return number


def checked_index(values: AnyArray, name: str, size: int, of: str) -> npt.NDArray[np.int32]:
    """One index for each term, within the dimension that `of` names."""
    array = one_dimensional(values, name).copy()  # what is checked is what is kept, whatever other threads write
    if array.size == 0:
        return np.zeros(0, np.int32)
    too_large = array.dtype == object and all(type(i) is int for i in array)  # beyond 64 bits
    if array.dtype.kind not in "iu" and not too_large:
        raise no_integers(array, name)
    bad = np.flatnonzero((array < 0) | (array >= size))
    if len(bad):
        k = bad[0]
        needed = f"be between 0 and {size - 1} ({of} is {size})" if array[k] >= 0 or size < _MOST else "not be negative"
        raise ValueError(f"{name}[{k}] is {array[k]}, but must {needed}")
    return array.astype(np.int32)


def no_integers(array: Array, name: str) -> TypeError:
    """What to raise where an index is an array of another kind."""
    first = array[:1].tolist()[0]
    whole = array.dtype.kind == "f" and bool(np.all(array == np.floor(array)))
    instead = f": convert it, as by numpy.asarray({name}, int)" if whole else ""
    return TypeError(f"{name} must hold integers, but its dtype is {array.dtype} ({name}[0] is {first!r}){instead}")


def checked_coefficients(values: AnyArray, name: str = "C") -> npt.NDArray[np.float64]:
    """One real and finite number for each term."""
    array = one_dimensional(values, name)
    if array.size == 0:
        return np.zeros(0)
    if array.dtype.kind not in "iuf" and array.dtype.name != "bfloat16":
        raise TypeError(f"{name} must hold real numbers, but its dtype is {array.dtype} ({name}[0] is {array[0]!r})")
    with np.errstate(all="ignore"):  # the error says it
        coefficients = array.astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(coefficients))
    if len(bad):
        raise ValueError(f"{name}[{bad[0]}] is {coefficients[bad[0]]}: coefficients must be finite")
    return coefficients


def one_dimensional(values: AnyArray, name: str) -> Array:
    """An array with one entry for each term, of any dtype."""
    try:
        array = on_host(values, name)
    except ValueError as error:
        if not isinstance(values, (list, tuple)):
            raise
        raise ValueError(f"{name} must be a 1-D array: {error.__cause__}") from error
    if array.ndim != 1:
        raise ValueError(f"{name} must be 1-D, one entry for each term, but its shape is {array.shape}")
    return array


def on_host(values: AnyArray, name: str) -> Array:
    """An array of any library as NumPy's, of any shape and dtype."""
    if type(values) is np.ndarray:
        return values
    if is_cupy(values) or is_on_device(values):
        raise TypeError(f"{name} is on a GPU, but a rule is made of host arrays: pass cupy.asnumpy({name})")
    if is_foreign(values):
        check_kind(values, name)
        return dlpack.read(values, name)
    return converted(cast("npt.ArrayLike", values), name)


def checked_degree(value: SupportsIndex, name: str) -> int:
    """A degree of spherical harmonics, or an order: an integer from 0."""
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError  # an integer to operator.index, but surely a mistake here
        degree = operator.index(value)
    except Exception as error:
        raise TypeError(
            f"{name} must be an integer, but is {value!r} ({type(value).__name__}): "
            "pass an int or a NumPy integer, such as 1"
        ) from error
    if degree < 0:
        raise ValueError(f"{name} is {degree}, but must not be negative")
    return degree


def check_choice(value: object, name: str, choices: Collection[str]) -> None:
    """Refuses all but the names that there are."""
    if not (isinstance(value, str) and value in choices):
        raise ValueError(f"{name} must be {' or '.join(map(repr, choices))}, but is {value!r}")
