"""Which half runs an operation: asks the arrays, and imports no library that the caller has not imported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import cpu
from .arrays import check_kind, is_cupy, is_foreign, is_on_device
from .operations import OPTIONAL, Operation

if TYPE_CHECKING:
    from .rule import Rule


_MAY_BE_NONE = OPTIONAL | {"out"}


def execute(
    rule: Rule,
    operation: Operation,
    values: Sequence[Any],
    axis: int,
    wanted: tuple[bool, ...],
    out: Any = None,
) -> tuple[Any, ...]:
    """Runs an operation where its arrays are; returns its outputs, None where not `wanted`.

    Optional inputs may be None, which is zero. `out` is for the first output.
    """
    names = *(name for name, _ in operation.inputs), "out"
    unusual = []
    for value, name in zip((*values, out), names, strict=True):
        if type(value) is not np.ndarray and not (value is None and name in _MAY_BE_NONE):
            check_kind(value, name)
            unusual.append(value)
    if any(map(is_on_device, unusual)):
        from .dlpack import as_cupy

        *values, taken = (
            as_cupy(value, name) if is_on_device(value) else value
            for value, name in zip((*values, out), names, strict=True)
        )
        results = execute(rule, operation, values, axis, wanted, taken)
        return results if out is None else (out,)
    if any(map(is_foreign, unusual)):
        from . import dlpack

        return dlpack.execute(execute, rule, operation, values, axis, wanted, out)
    if any(map(is_cupy, unusual)):
        from .cuda.execution import execute as cuda_execute

        return cuda_execute(rule, operation, values, axis, wanted, out)
    return cpu.execute(rule, operation, values, axis, wanted, out)
