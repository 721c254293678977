"""The product in one call, from bare index arrays."""

from __future__ import annotations

import operator
from typing import Any, SupportsIndex, overload

import numpy as np

from .calls import dlpack
from .calls.arrays import AnyArray, Array, Foreign, Host, as_axis, as_index, check_kind, is_foreign, is_on_device
from .calls.dtypes import as_array
from .calls.layout import active_length
from .calls.plans import Cache
from .checks import AXES, one_dimensional
from .rule import Rule


@overload
def accumulate(
    x1: Host,
    x2: Host,
    mu: AnyArray,
    output_size: SupportsIndex,
    m1: AnyArray,
    m2: AnyArray,
    C: AnyArray,
    *,
    axis: int = ...,
    out: Array | None = ...,
) -> Array: ...
@overload
def accumulate(
    x1: Foreign | Host,
    x2: Foreign | Host,
    mu: AnyArray,
    output_size: SupportsIndex,
    m1: AnyArray,
    m2: AnyArray,
    C: AnyArray,
    *,
    axis: int = ...,
    out: Foreign | Array | None = ...,
) -> Foreign: ...
@overload
def accumulate(
    x1: AnyArray,
    x2: AnyArray,
    mu: AnyArray,
    output_size: SupportsIndex,
    m1: AnyArray,
    m2: AnyArray,
    C: AnyArray,
    *,
    axis: int = ...,
    out: Any = ...,
) -> Any: ...
def accumulate(
    x1: Any,
    x2: Any,
    mu: AnyArray,
    output_size: SupportsIndex,
    m1: AnyArray,
    m2: AnyArray,
    C: AnyArray,
    *,
    axis: int = -1,
    out: Any = None,
) -> Any:
    """Sparse accumulation: ``out[..., mu[k]] += C[k] * x1[..., m1[k]] * x2[..., m2[k]]`` for all k.

    The same as ``Rule(m1, m2, mu, C, (n1, n2, output_size))(x1, x2)`` with n1 and n2 from the arrays. The last rules
    used are kept, by content. Where one rule multiplies many arrays, or gradients are needed, make the `Rule`.

    Parameters
    ----------
    x1, x2, axis, out
        As in `Rule.__call__`.
    mu : array_like of int, shape (nnz,)
        Indices into the output; any order.
    output_size : int
        The length of the output along `axis`.
    m1, m2 : array_like of int, shape (nnz,)
        Indices into x1 and x2.
    C : array_like of float, shape (nnz,)
        Coefficients.

    Returns
    -------
    ndarray
        The broadcast batch with `output_size` at `axis`.

    Raises
    ------
    TypeError, ValueError, MemoryError
        As `Rule` and `Rule.__call__` do.

    Examples
    --------
    >>> sparseacc.accumulate([[1.0, 2.0]], [[3.0, 4.0]], [0, 0], 1, [0, 1], [0, 1], [1.0, 10.0])
    array([[83.]])
    """
    first, second, at = _shaped(x1, "x1"), _shaped(x2, "x2"), as_axis(axis)
    size = as_index(output_size, "output_size")
    if size < 0:
        raise ValueError(f"output_size is {size}, but must not be negative")
    columns = [one_dimensional(c, name) for c, name in zip((m1, m2, mu, C), (*AXES, "C"), strict=True)]
    shape = (_length(first, at, "x1"), _length(second, at, "x2"), size)
    if any(column.dtype.kind not in "iuf" for column in columns):
        rule = Rule(m1, m2, mu, C, shape)  # which says what is wrong
    else:
        rule = cached_rule(shape, *columns)
    return rule(x1 if is_foreign(x1) else first, x2 if is_foreign(x2) else second, axis=at, out=out)


def cached_rule(shape: tuple[int, int, int], m1: Array, m2: Array, mu: Array, C: Array) -> Rule:
    """The rule of these terms, made once for each content of the arrays."""
    n1, n2, n_out = map(operator.index, shape)  # a tensor of one number, say, would be a new key in every call
    columns = tuple((column.tobytes(), column.dtype.str) for column in (m1, m2, mu, C))
    key = n1, n2, n_out, columns
    rule = _rules.get(key)
    if rule is None:  # of what the key has, as another thread may write to the arrays
        m1, m2, mu, C = (np.frombuffer(data, dtype) for data, dtype in columns)
        rule = _rules.add(key, Rule(m1, m2, mu, C, (n1, n2, n_out)))
    return rule


_rules: Cache[Rule] = Cache("rules of accumulate", 256, 2**27, lambda rule: 52 * rule.nnz)


def _length(value: Any, axis: int, name: str) -> int:
    """The length along the active axis of anything with a shape."""
    try:
        shape = tuple(map(operator.index, value.shape))
    except Exception as error:
        raise TypeError(f"{name} ({type(value).__qualname__}) has a shape that cannot be read: {error}") from error
    return active_length(shape, axis, name)


def _shaped(value: Any, name: str) -> Any:
    """`value` as something with a shape."""
    check_kind(value, name)
    if is_on_device(value):
        return dlpack.as_cupy(value, name)
    try:
        if hasattr(value, "shape"):
            return value
    except Exception:
        return value  # whose shape shows it again
    if is_foreign(value):
        return dlpack.read(value, name)
    return as_array(value, name)
