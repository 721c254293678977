"""Borrows the arrays of a call, asks them which engine it is for, and gives the results back as the caller's kind.

No library is imported that the caller has not imported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np

from . import cpu
from .algebra import OPTIONAL, Operation
from .calls import dlpack
from .calls.arrays import check_kind, is_cupy, is_dask, is_on_device
from .cpu.threads import bounded
from .terms import Terms

_MAY_BE_NONE = OPTIONAL | {"out"}
_NUMPY = frozenset((np.ndarray, type(None)))


def execute(
    rule: Terms,
    operation: Operation,
    values: Sequence[Any],
    axis: int,
    wanted: tuple[bool, ...],
    out: Any = None,
) -> tuple[Any, ...]:
    """Runs an operation where its arrays are; returns its outputs, None where not `wanted`.

    Optional inputs may be None, which is zero. `out` is for the first output.
    """
    if _NUMPY.issuperset(map(type, values)) and type(out) in _NUMPY:
        return cpu.execute(rule, operation, values, axis, wanted, out)
    named = dict(zip((*(name for name, _ in operation.inputs), "out"), (*values, out), strict=True))
    for name, value in named.items():
        if type(value) is not np.ndarray and not (value is None and name in _MAY_BE_NONE):
            if is_dask(value):
                return _chunked(rule, operation, values, axis, wanted, out)
            check_kind(value, name)
            if is_on_device(value):
                named[name] = dlpack.as_cupy(value, name)
    given = {name: value for name, value in named.items() if value is not None}
    borrowed = dlpack.borrow(given)
    if borrowed:
        named |= borrowed.arrays
    *arrays, target = named.values()
    with bounded(borrowed.threads) if borrowed and borrowed.threads else nullcontext():
        results = _engine(named)(rule, operation, arrays, axis, wanted, target)
    if out is not None:
        return (out,)
    if not borrowed:
        return results
    return tuple(None if result is None else borrowed.give_back(result) for result in results)


def _chunked(
    rule: Terms, operation: Operation, values: Sequence[Any], axis: int, wanted: tuple[bool, ...], out: Any
) -> tuple[Any, ...]:
    from . import chunks

    if out is not None:
        raise TypeError("out cannot be given with Dask arrays: what they hold is computed later, into new arrays")
    return chunks.execute(execute, rule, operation, values, axis, wanted)


def _engine(arrays: dict[str, Any]) -> Callable[..., tuple[Any, ...]]:
    if any(map(is_cupy, arrays.values())):
        from .cuda.execution import execute

        return execute
    return cpu.execute
