"""Checks what a rule is made of: each mistake is one error that names the argument, the position and the value."""

from __future__ import annotations

import base64
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, SupportsIndex, cast

import numpy as np
import numpy.typing as npt

from .arrays import AnyArray, Array, check_kind, converted, is_cupy, is_foreign, is_on_device

if TYPE_CHECKING:
    from .rule import Rule

AXES = ("m1", "m2", "mu")
_MOST = np.iinfo(np.int32).max


def checked_shape(shape: Sequence[SupportsIndex]) -> tuple[int, int, int]:
    """Three integers from 0 that fit int32."""
    try:
        n1, n2, n_out = (int(operator.index(n)) for n in shape)
    except Exception as error:
        raise TypeError(f"shape must be three integers (n1, n2, n_out), not {shape!r}") from error
    for name, n in zip(("n1", "n2", "n_out"), (n1, n2, n_out), strict=True):
        if not 0 <= n <= _MOST:
            raise ValueError(f"shape: {name} is {n}, but must be between 0 and 2**31 - 1")
    return n1, n2, n_out


def checked_index(values: AnyArray, name: str, size: int) -> npt.NDArray[np.int32]:
    """One index for each term, within the dimension of that name."""
    array = one_dimensional(values, name).copy()  # what is checked is what is kept, whatever other threads write
    if array.size == 0:
        return np.zeros(0, np.int32)
    too_large = array.dtype == object and all(type(i) is int for i in array)  # beyond 64 bits
    if array.dtype.kind not in "iu" and not too_large:
        raise TypeError(f"{name} must hold integers, but its dtype is {array.dtype} ({name}[0] is {array[0]!r})")
    bad = np.flatnonzero((array < 0) | (array >= size))
    if len(bad):
        k = bad[0]
        raise ValueError(
            f"{name}[{k}] is {array[k]}, but must be between 0 and {size - 1} (shape[{AXES.index(name)}] is {size})"
        )
    return array.astype(np.int32)


def checked_coefficients(values: AnyArray) -> npt.NDArray[np.float64]:
    """One real and finite number for each term."""
    array = one_dimensional(values, "C")
    if array.size == 0:
        return np.zeros(0)
    if array.dtype.kind not in "iuf" and array.dtype.name != "bfloat16":
        raise TypeError(f"C must hold real numbers, but its dtype is {array.dtype} (C[0] is {array[0]!r})")
    with np.errstate(all="ignore"):  # the error says it
        coefficients = array.astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(coefficients))
    if len(bad):
        raise ValueError(f"C[{bad[0]}] is {coefficients[bad[0]]}: coefficients must be finite")
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
        from .dlpack import read

        check_kind(values, name)
        return read(values, name)
    return converted(cast("npt.ArrayLike", values), name)


def computed_in(dtype: str) -> np.dtype[Any]:
    """The real dtype in which arrays of `dtype` are multiplied."""
    return np.dtype(np.float64 if dtype in ("float64", "complex128") else np.float32)


def distinct_terms(rule: Rule, dtype: str) -> tuple[Array, Array, Array, Array]:
    """m1, m2, mu and C for the product of arrays of `dtype`: terms that repeat add up where the first of them stands.

    A sum that is zero stays a term, as the product of zero and an infinity is NaN.

    Raises
    ------
    ValueError
        If the dtype in which they are multiplied cannot hold a coefficient: it would become infinite, or zero or
        another subnormal number that is less precise than the others.
    """
    columns, C = (rule.m1, rule.m2, rule.mu), rule.C
    first = np.arange(len(C))
    order = np.lexsort(columns)
    ordered = [column[order] for column in columns]
    begins = np.flatnonzero(np.append(True, np.any([c[1:] != c[:-1] for c in ordered], axis=0))[: len(C)])
    if len(begins) < len(C):
        with np.errstate(over="ignore"):
            total = np.add.reduceat(C[order], begins)
        first = order[begins]
        at = np.argsort(first)
        first, C = first[at], total[at]
    real = computed_in(dtype)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        rounded = C.astype(real)
        held = abs(rounded - C) <= np.finfo(real).eps / 2 * abs(C)
    if not held.all():
        bad = np.argmin(held)
        k, value = first[bad], C[bad]
        what = f"C[{k}] is {value}" if value == rule.C[k] else f"C[{k}] and the terms that repeat it add up to {value}"
        wider = "complex128" if dtype == "complex64" else "float64"
        instead = "scale the coefficients" if real == np.float64 else f"pass {wider} arrays, or scale the coefficients"
        raise ValueError(
            f"{what}, but {dtype} arrays are multiplied in {real}, where it is {float(rounded[bad])}: {instead}"
        )
    return columns[0][first], columns[1][first], columns[2][first], C


def as_text(shape: tuple[int, int, int], terms: Sequence[Array]) -> str:
    """A rule in one line: its shape, then its columns and coefficients in base64, some 15 letters a term.

    The graphs of other libraries hold a rule in this form. It is the whole rule, so that a graph may be saved, and
    loaded in a process that has never seen the rule.
    """
    columns, coefficients = terms[:3], terms[3]
    index = _index_dtype(shape)
    data = b"".join([*(column.astype(index).tobytes() for column in columns), coefficients.astype("<f8").tobytes()])
    return f"{','.join(map(str, shape))};{base64.b64encode(data).decode()}"


def from_text(text: str) -> tuple[Array, Array, Array, Array, tuple[int, int, int]]:
    """The arguments of the `Rule` that `as_text` has written."""
    try:
        sizes, letters = text.split(";")
        n1, n2, n_out = map(int, sizes.split(","))
        index, data = _index_dtype((n1, n2, n_out)), base64.b64decode(letters, validate=True)
        nnz, rest = divmod(len(data), 3 * index.itemsize + 8)
        if rest:
            raise ValueError(f"{rest} bytes are left over")
    except ValueError as error:
        raise ValueError(f"this is not the text of a Rule: {text[:60]!r} ({error})") from error
    m1, m2, mu = np.frombuffer(data, index, 3 * nnz).reshape(3, nnz)
    return m1, m2, mu, np.frombuffer(data, "<f8", nnz, 3 * nnz * index.itemsize), (n1, n2, n_out)


def _index_dtype(shape: tuple[int, int, int]) -> np.dtype[Any]:
    return np.min_scalar_type(max(shape)).newbyteorder("<")
